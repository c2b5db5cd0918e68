"""botocore calls off the event loop: each observed, translated and repeated by one rule.

Owns the way of a rare call (everything but bodies). Knows no operation in particular.
"""

from collections.abc import Callable
from typing import TypeVar

from tusd_storage.s3 import faults
from tusd_storage.s3.config import Observe
from tusd_storage.s3.retry import Repeat, Retry
from tusd_storage.s3.threads import Threads

T = TypeVar("T")


class Calls:
    """A way to call botocore."""

    def __init__(
        self, threads: Threads, retry: Retry, observe: Observe, clock: Callable[[], float]
    ) -> None:
        self._threads = threads
        self._retry = retry
        self._observe = observe
        self._clock = clock

    async def call(
        self,
        operation: str,
        request: Callable[[], T],
        *,
        repeat: Repeat = Repeat.IDEMPOTENT,
        discard: Callable[[T], None] | None = None,
    ) -> T:
        """The result of `request`, which makes exactly one HTTP request.

        `discard` frees a result that came after the caller was cancelled.
        Raises: the taxonomy of `tusd_storage.errors`.
        """

        def once() -> T:
            started = self._clock()
            try:
                result = request()
            except faults.FOREIGN as error:
                fault = faults.from_exception(operation, error)
                self._observe(operation, faults.outcome(fault), self._clock() - started)
                raise fault from error
            self._observe(operation, "ok", self._clock() - started)
            return result

        return await self._retry.run(lambda: self._threads.run(once, discard), repeat)

    async def compute(self, operation: str, work: Callable[[], T]) -> T:
        """The result of botocore work without a request, which may still wait for credentials."""

        def once() -> T:
            try:
                return work()
            except faults.FOREIGN as error:
                raise faults.from_exception(operation, error) from error

        return await self._threads.run(once)

    async def aclose(self) -> None:
        """Waits for what is under way."""
        await self._threads.aclose()
