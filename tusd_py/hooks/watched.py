"""Sinks under observation: how often, how long, and whether they answered."""

from collections.abc import Callable

from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.events import HookRequest, HookResponse
from tusd_py.hooks.sinks import Sink
from tusd_py.telemetry.events import Event, HookInvoked
from tusd_py.telemetry.stages import Stage, Stages


class WatchedSink:
    """As the sink it is made of."""

    def __init__(self, sink: Sink, emit: Callable[[Event], None], stages: Stages) -> None:
        self.name = sink.name
        self.types = sink.types
        self._sink = sink
        self._emit = emit
        self._stages = stages

    async def call(self, request: HookRequest, *, retrying: bool) -> HookResponse:
        """See `Sink`."""
        failed = False
        try:
            with self._stages.measure(Stage.HOOK, hook=str(request.type)):
                return await self._sink.call(request, retrying=retrying)
        except HookFailed:
            failed = True
            raise
        finally:
            self._emit(HookInvoked(hook=str(request.type), failed=failed))
