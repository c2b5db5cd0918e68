"""Blocking calls on threads of our own, awaited from the event loop.

Owns the pools, and what a cancelled await means for the thread it waited for. Knows nothing of S3.
asyncio's default pool is never used: whoever fills that one must not stop us, nor we them.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeVar

from tusd_storage.errors import StoreRefused
from tusd_storage.pool import Pool, despite_cancellation

T = TypeVar("T")


class Threads:
    """One pool. Threads are started when first needed."""

    def __init__(self, name: str, size: int) -> None:
        self._executor = Pool(size, f"s3-{name}")
        self._running: set[concurrent.futures.Future[Any]] = set()

    def submit(self, call: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Queues the call. Raises StoreRefused after `aclose`."""
        try:
            future = self._executor.submit(call)
        except RuntimeError as error:
            raise StoreRefused("Closed", "the object store has been closed") from error
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    async def run(self, call: Callable[[], T], discard: Callable[[T], None] | None = None) -> T:
        """The call's result. When cancelled, the thread goes on alone.

        Nobody gets the result then, but for `discard`, which can free what it holds.
        """
        future = self.submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if discard is not None:
                future.add_done_callback(lambda done: _discard(done, discard))
            raise

    async def run_to_the_end(self, call: Callable[[], T], abort: Callable[[], None]) -> T:
        """The call's result. When cancelled: aborts, *waits for the thread*, then raises.

        For calls that read what the caller owns (buffers, file descriptors): once this returns or
        raises, nothing is read any more. `abort` must make the call end soon.
        """
        future = self.submit(call)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            if not future.cancel():
                abort()
            await despite_cancellation(waiter)
            raise

    async def aclose(self) -> None:
        """Waits for what is under way; takes nothing new."""
        self._executor.shutdown(wait=False)
        if self._running:
            await asyncio.wait([asyncio.wrap_future(future) for future in set(self._running)])


def _discard(done: concurrent.futures.Future[T], discard: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        discard(done.result())
