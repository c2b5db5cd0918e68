"""Time-outs on what clients send, all of which end when the server does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Deadlines:
    """The time-outs that run now."""

    def __init__(self) -> None:
        self._running: set[asyncio.Timeout] = set()
        self.closing = False

    def __len__(self) -> int:
        return len(self._running)

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raises TimeoutError when the block takes longer, or at `expire`."""
        async with asyncio.timeout(0 if self.closing else seconds) as deadline:
            self._running.add(deadline)
            try:
                yield
            finally:
                self._running.discard(deadline)

    def expire(self) -> None:
        """Ends all, and whatever begins later."""
        self.closing = True
        for deadline in self._running:
            if not deadline.expired():
                deadline.reschedule(0.0)
