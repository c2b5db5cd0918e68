"""Time-outs on what clients send, all of which end when the server does."""

import asyncio
from types import TracebackType


class Deadlines:
    """The time-outs that run now."""

    def __init__(self) -> None:
        self._running: set[asyncio.Timeout] = set()
        self.closing = False

    def __len__(self) -> int:
        return len(self._running)

    def within(self, seconds: float) -> "_Deadline":
        """Raises TimeoutError when the block takes longer, or at `expire`."""
        return _Deadline(self._running, 0 if self.closing else seconds)

    def expire(self) -> None:
        """Ends all, and whatever begins later."""
        self.closing = True
        for deadline in self._running:
            if not deadline.expired():
                deadline.reschedule(0.0)


class _Deadline:
    """One block under way. No generator: every body has one."""

    __slots__ = ("_running", "_timeout")

    def __init__(self, running: set[asyncio.Timeout], seconds: float) -> None:
        self._running = running
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._running.add(self._timeout)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.discard(self._timeout)
        await self._timeout.__aexit__(kind, error, trace)
