"""Trying again: exponential backoff with full jitter, within a deadline.

Owns when a failed call is repeated. Knows no operation and no error code: only the taxonomy.
Waiting happens on the event loop, so a backing-off call holds no thread.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from tusd_storage.errors import ChecksumRejected, StorageError, StoreUnavailable
from tusd_storage.s3.faults import Throttled

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
CHECKSUM_RETRIES = 1
"""A bit that flipped on the way does not flip twice; one that flipped in memory stays."""


T = TypeVar("T")


class Repeat(Enum):
    """What makes a call safe to send again."""

    IDEMPOTENT = "idempotent"
    """After any transient failure."""
    UNEXECUTED = "unexecuted"
    """Only when the store said that it did nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The policy, with its clock, sleep and dice handed in."""

    deadline_s: float
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    uniform: Callable[[float, float], float]

    async def run(self, attempt: Callable[[], Awaitable[T]], repeat: Repeat) -> T:
        """The result of the first try that succeeds, or the error of the last one.

        No try starts later than `deadline_s` after the first. Raises what `attempt` raises.
        """
        started = self.clock()
        tries = rejections = 0
        while True:
            try:
                return await attempt()
            except StorageError as error:
                tries += 1
                rejections += isinstance(error, ChecksumRejected)
                if rejections > CHECKSUM_RETRIES or not _worth_it(error, repeat):
                    raise
                ceiling = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (tries - 1))
                delay = self.uniform(0.0, ceiling)
                if self.clock() + delay - started > self.deadline_s:
                    raise
            await self.sleep(delay)


def _worth_it(error: StorageError, repeat: Repeat) -> bool:
    if repeat is Repeat.UNEXECUTED:
        return isinstance(error, Throttled)
    return isinstance(error, StoreUnavailable | ChecksumRejected)
