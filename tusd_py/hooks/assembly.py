"""Puts hooks together from settings and what the application gave. Names no adapter."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tusd_py.hooks.dispatch import Hooks
from tusd_py.hooks.events import HookType
from tusd_py.hooks.outbox import HookOutbox
from tusd_py.hooks.signing import Signer
from tusd_py.hooks.sinks import NAME, Hook, HttpOptions, HttpSink, PythonSink, Sink
from tusd_py.settings import Settings, SettingsError

if TYPE_CHECKING:
    import httpx

HTTP = "http"
"""Name of the first HTTP endpoint; the others are `http-2`, `http-3`. By position, so that events
that wait are not lost when an endpoint moves."""


class HookSet:
    """All hooks of a process, and the HTTP client they share."""

    def __init__(
        self,
        settings: Settings,
        given: Sequence[Hook],
        now: Callable[[], datetime],
        watch: Callable[[Sink], Sink] | None = None,
    ) -> None:
        """`watch` wraps every sink. Raises: SettingsError."""
        self._now = now
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self.signer = Signer(settings.webhook_secret)
        sinks: list[Sink] = [*self._python_sinks(given), *self._http_sinks()]
        self.hooks = Hooks(sinks if watch is None else list(map(watch, sinks)), now)

    def outbox(self) -> HookOutbox | None:
        """What writes events; None when nobody is to be told of any."""
        if not any(sink.types for sink in self.hooks):
            return None
        return HookOutbox(
            self.hooks,
            now=self._now,
            forwarded=self._settings.hooks_http_forward_headers,
            credentials=self._settings.forward_auth_headers,
            patience=self._patience(),
        )

    async def aclose(self) -> None:
        """Ends the client."""
        if self._client is not None:
            await self._client.aclose()

    def _patience(self) -> timedelta:
        """What all `pre-finish` hooks may take, one after the other, and a second."""
        asked = sum(HookType.PRE_FINISH in sink.types for sink in self.hooks)
        return asked * self._settings.hooks_http_timeout + timedelta(seconds=1)

    def _python_sinks(self, given: Sequence[Hook]) -> Iterable[Sink]:
        names = [hook.name for hook in given]
        for name in names:
            if not NAME.fullmatch(name) or name.startswith(HTTP) or names.count(name) > 1:
                raise SettingsError(
                    f"hooks: {name!r} is no name: write up to 32 of a-z, 0-9, - and _, each name "
                    f'once, and none that begins with "{HTTP}"'
                )
        for hook in given:
            kinds = self._types() if hook.types is None else frozenset(map(HookType, hook.types))
            yield PythonSink(
                hook, kinds, timeout_s=self._settings.hooks_http_timeout.total_seconds()
            )

    def _http_sinks(self) -> Iterable[Sink]:
        if not self._settings.hooks_http:
            return
        self._client = _http_client(self._settings.hooks_http_timeout)
        options = HttpOptions(
            forward_headers=self._settings.hooks_http_forward_headers,
            retry=self._settings.hooks_http_retry,
            backoff_s=self._settings.hooks_http_backoff.total_seconds(),
            timeout_s=self._settings.hooks_http_timeout.total_seconds(),
            size_limit=self._settings.hooks_http_size_limit,
        )
        for number, url in enumerate(self._settings.hooks_http, start=1):
            yield HttpSink(
                HTTP if number == 1 else f"{HTTP}-{number}",
                url,
                self._types(),
                client=self._client,
                signer=self.signer,
                options=options,
            )

    def _types(self) -> frozenset[HookType]:
        return frozenset(map(HookType, self._settings.hooks_enabled_events))


def _http_client(timeout: timedelta) -> "httpx.AsyncClient":
    try:
        import httpx
    except ImportError as error:
        raise SettingsError("hooks_http needs httpx: pip install 'tusd-py[webhooks]'") from error
    return httpx.AsyncClient(timeout=timeout.total_seconds(), follow_redirects=False)
