"""Statistics: what operators count in the database.

Same rules as in `ports`: async, one short transaction, only the taxonomy of `errors`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MAX_COUNTED = 100_000
"""Rows of one sort that are counted; a number this large means "this many or more"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBacklog:
    """The jobs of one kind in one state. Those that are done are in no backlog."""

    kind: str
    state: str
    """`queued`, `running` or `dead`."""
    count: int
    oldest_run_at: datetime | None
    """Of the queued ones, when the longest waiting was to run; None for other states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCounts:
    """What the database holds that is not finished."""

    unfinished: int
    """Sessions that may still expire."""
    verifying: int
    """Sessions with all their bytes that are not completed yet."""
    unclean: int
    """Sessions whose storage side waits for the reaper."""
    jobs: tuple[JobBacklog, ...]


class Statistics(Protocol):
    """Numbers for a dashboard."""

    async def counts(self) -> StateCounts:
        """Reads no more than `MAX_COUNTED` rows of each sort that an index gives."""
        ...
