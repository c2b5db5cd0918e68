"""Threads of our own for blocking work, and waiting for what may not be left alone."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Pool(ThreadPoolExecutor):
    """Threads that are started when they are needed; RuntimeError only after `shutdown`.

    The library's class queues work, then starts a thread for it. Where the system grants none it
    raises, and a thread that is there does the work all the same: behind the back of a caller who
    has closed by then what the work is about.
    """

    def __init__(self, size: int, name: str) -> None:
        """Raises: RuntimeError if there cannot be a single thread."""
        super().__init__(size, thread_name_prefix=name)
        self.submit(int)

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


async def despite_cancellation(future: asyncio.Future[Any]) -> bool:
    """Waits until it is done; whether this task was cancelled meanwhile, however often."""
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    if not future.cancelled():
        future.exception()  # retrieved, so that nobody warns about it
    return cancelled
