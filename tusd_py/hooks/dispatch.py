"""Calls hooks, and puts the answers of several together.

Owns the order: as they were given, the first refusal ends it, later wishes win over earlier ones.
Every hook is told what the client sent, not what the hook before it made of that.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import structlog

from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.events import HookEvent, HookRequest, HookResponse, HookType
from tusd_py.hooks.sinks import Sink

log = structlog.get_logger(__name__)

JOB_KIND = "hook:"
"""Begins the kind of an event's job; the name of its sink follows. A process without that sink
leaves the job to one that has it."""


class Hooks:
    """All sinks of this process. Without any, nothing is ever asked."""

    def __init__(self, sinks: Sequence[Sink], now: Callable[[], datetime]) -> None:
        self._sinks = tuple(sinks)
        self._now = now

    def __iter__(self) -> Iterator[Sink]:
        return iter(self._sinks)

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def wants(self, kind: HookType) -> bool:
        """Whether anybody is to be told of it."""
        return any(kind in sink.types for sink in self._sinks)

    async def ask(
        self, kind: HookType, event: HookEvent, event_id: str, *, retrying: bool = True
    ) -> HookResponse:
        """Asks one after the other. Raises: HookFailed, when one of them could not be asked."""
        said = HookResponse()
        for sink in self._sinks:
            if kind not in sink.types:
                continue
            request = HookRequest(type=kind, event=event, id=event_id, timestamp=self._now())
            try:
                said = said.merged_with(await sink.call(request, retrying=retrying))
            except HookFailed as error:
                log.warning(
                    "hook_failed",
                    hook=sink.name,
                    type=str(kind),
                    event_id=event_id,
                    reason=str(error),
                )
                raise
            if said.refuses:
                break
        return said
