"""The outbox: jobs that follow from state changes."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from tusd_storage.records import Job


class JobQueue(Protocol):
    """The outbox: jobs are inserted by state changes, claimed and run at least once."""

    async def claim(
        self, *, worker: str, kinds: Collection[str], now: datetime, until: datetime, limit: int
    ) -> list[Job]:
        """Takes due jobs (queued, or running with a lock that ran out), oldest first.

        Two workers MUST never get the same job for the same period. `attempts` counts this try.
        """
        ...

    async def extend(self, job_id: str, *, worker: str, until: datetime) -> bool:
        """Heartbeat; False when the job is no longer this worker's."""
        ...

    async def succeed(self, job_id: str, *, worker: str, now: datetime) -> bool:
        """Marks it done; False when it is no longer this worker's."""
        ...

    async def retry(
        self, job_id: str, *, worker: str, error: str, run_at: datetime | None, now: datetime
    ) -> bool:
        """Back to the queue at `run_at`, or dead when that is None; False as above."""
        ...

    async def jobs(
        self, *, state: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Job]:
        """A page of jobs in order of id."""
        ...
