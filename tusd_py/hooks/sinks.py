"""Where hooks go: Python callables and HTTP endpoints, behind one contract.

Owns how one sink is called once, and how long that may take. Not what is told, nor when.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from tusd_py.hooks import wire
from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.events import HookRequest, HookResponse, HookType
from tusd_py.hooks.origin import canonical
from tusd_py.hooks.signing import Signer

if TYPE_CHECKING:
    import httpx

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_NOT_FORWARDED = frozenset(
    {"Connection", "Content-Length", "Content-Type", "Host", "Te", "Transfer-Encoding", "Upgrade"}
)


class Sink(Protocol):
    """One hook: something that is told, and may answer."""

    name: str
    """Part of the kind of its jobs: keep it over restarts."""
    types: frozenset[HookType]
    """What it is called for."""

    async def call(self, request: HookRequest, *, retrying: bool) -> HookResponse:
        """Tells it, and returns what it says. `retrying`: it may be tried more than once.

        Raises: HookFailed, also when it took too long; then it may have been told or not.
        """
        ...


Call = Callable[[HookRequest], Awaitable[HookResponse | None]]
"""A hook in Python. None is an answer without wishes. What it raises is a failure: a blocking hook
then refuses the request with 502, and an event is delivered again later."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A Python callable, for `create_app(hooks=[…])`."""

    name: str
    """Unique; of a-z, 0-9, `-` and `_`. Events that wait for delivery are stored under it."""
    call: Call
    types: Collection[HookType] | None = None
    """Default: the setting `hooks_enabled_events`."""


class PythonSink:
    """A callable in this process."""

    def __init__(self, hook: Hook, types: frozenset[HookType], *, timeout_s: float) -> None:
        self.name = hook.name
        self.types = types
        self._call = hook.call
        self._timeout_s = timeout_s

    async def call(self, request: HookRequest, *, retrying: bool) -> HookResponse:
        """See `Sink`; a callable is never tried twice."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._call(request) or HookResponse()
        except TimeoutError as error:
            raise HookFailed(f"{self.name}: no answer in {self._timeout_s:g} s") from error
        except HookFailed:
            raise
        except Exception as error:  # the application's own code: anything may come
            raise HookFailed(f"{self.name}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """tusd's `-hooks-http-…`."""

    forward_headers: Sequence[str] = ()
    retry: int = 3
    """Further tries after a network error or a 5xx."""
    backoff_s: float = 1.0
    timeout_s: float = 15.0
    """For all tries together."""
    size_limit: int = 5 * 1024
    """Bytes of an answer."""


class HttpSink:
    """An HTTP endpoint that takes tusd's requests."""

    def __init__(
        self,
        name: str,
        url: str,
        types: frozenset[HookType],
        *,
        client: "httpx.AsyncClient",
        signer: Signer,
        options: HttpOptions,
    ) -> None:
        self.name = name
        self.types = types
        self._url = url
        self._client = client
        self._signer = signer
        self._options = options

    async def call(self, request: HookRequest, *, retrying: bool) -> HookResponse:
        """See `Sink`."""
        body = json.dumps(wire.request_json(request), ensure_ascii=False).encode()
        tries = 1 + (self._options.retry if retrying else 0)
        failure = HookFailed(f"{self.name}: no answer in {self._options.timeout_s:g} s")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.timeout_s):
                for number in range(tries):
                    try:
                        return await self._once(_attempt(request, number), body)
                    except _Again as again:
                        failure = HookFailed(f"{self.name}: {again}")
                    if number + 1 < tries:
                        await asyncio.sleep(self._options.backoff_s)
        raise failure

    async def _once(self, request: HookRequest, body: bytes) -> HookResponse:
        """Raises: _Again for what may be different the next time, HookFailed."""
        import httpx

        headers = self._forwarded(request) | {
            "Content-Type": "application/json",
            "webhook-attempt": str(request.attempt),
            **self._signer.headers(request.id, request.timestamp, body),
        }
        try:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            async with self._client.stream("POST", self._url, content=body, headers=raw) as answer:
                content = await self._read(answer)
        except httpx.HTTPError as error:
            raise _Again(type(error).__name__) from error
        if answer.status_code >= 500:
            raise _Again(f"it answered {answer.status_code}")
        if not answer.is_success:
            raise HookFailed(f"{self.name}: it answered {answer.status_code}")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content.strip() and kind != "application/json":
            raise HookFailed(f"{self.name}: its answer is not application/json")
        return wire.response_from(content)

    async def _read(self, answer: "httpx.Response") -> bytes:
        content = bytearray()
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > self._options.size_limit:
                raise HookFailed(f"{self.name}: its answer is too long")
        return bytes(content)

    def _forwarded(self, request: HookRequest) -> dict[str, str]:
        header = request.event.http_request.header
        return {
            name: ", ".join(header[canonical(name)])
            for name in self._options.forward_headers
            if canonical(name) in header and canonical(name) not in _NOT_FORWARDED
        }


class _Again(Exception):
    """It did not work, and may the next time."""


def _attempt(request: HookRequest, number: int) -> HookRequest:
    """The same question, asked again: its number and time are those of this try."""
    if not number:
        return request
    return replace(request, attempt=request.attempt + number, timestamp=datetime.now(UTC))
