"""Sweeps: what they look for, and what they may change.

Same rules as in `ports`: async, one short transaction each, only the taxonomy of `errors`. Pages
are keyset pages, at most `limit` rows, an empty one is the end. Every write names the condition
under which it is still right, MUST change nothing where that no longer holds, and says so by False.

An *ended* session is `aborted`, `expired` or `failed`, or was completed and then terminated:
nothing of it should be in the store. A session is *swept* once that has been made sure of.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from tusd_storage.records import Job, UploadSession


class Leadership(Protocol):
    """Who does what only one has to do. Work that must not happen twice has better guards."""

    async def lead(self, name: str, *, holder: str, now: datetime, until: datetime) -> bool:
        """Takes or renews the leadership of this name; False while somebody else has it.

        Exactly one of several callers at once MUST win.
        """
        ...

    async def resign(self, name: str, *, holder: str) -> None:
        """Gives it up; does nothing if it is another's."""
        ...


class SweepListing(Protocol):
    """What may be due. A row may have changed by the time it is acted on."""

    async def list_received(
        self, *, node: str, now: datetime, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Sessions with all their bytes that nobody is finishing: no live lease, and the tail, if
        they have one, on this node. In order of id."""
        ...

    async def list_partials(
        self, *, before: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Completed partial uploads that expired before that time; longest expired first."""
        ...

    async def list_open_finals(
        self, *, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Final uploads (Concatenation) that are not finished yet, in order of id."""
        ...

    async def list_unswept(
        self, *, before: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Ended sessions that changed last before that time and are not swept; oldest first."""
        ...

    async def list_forgettable(
        self, *, before: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Ended, swept sessions without a `cleanup_reason` that changed last before that time;
        oldest first."""
        ...

    async def list_run_out(
        self, *, before: datetime, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Sessions whose lease ran out before that time and was never given back, by id."""
        ...

    async def list_lost_jobs(
        self, *, now: datetime, after: Job | None = None, limit: int = 100
    ) -> list[Job]:
        """Running jobs whose lock ran out, longest ago first."""
        ...

    async def list_done_jobs(
        self, *, before: datetime, after: Job | None = None, limit: int = 100
    ) -> list[Job]:
        """Jobs that were done before that time, oldest first."""
        ...

    async def find_keys(self, bucket: str, keys: Collection[str]) -> dict[str, UploadSession]:
        """Sessions by object key; unknown keys are left out. Any number of keys."""
        ...


class SweepWrites(Protocol):
    """What sweeps change beside `SessionStore`."""

    async def swept(self, session_id: str, *, now: datetime) -> bool:
        """Marks an ended session as swept; `updated_at` stays."""
        ...

    async def forget(self, session_id: str, epoch: int) -> bool:
        """Removes an ended, swept session without a `cleanup_reason`, with ledger and asset.

        `epoch` is that of the caller's lease.
        """
        ...

    async def end_lease(self, session_id: str, epoch: int, *, before: datetime) -> bool:
        """Ends the lease with this epoch if it ran out before that time.

        The epoch grows by one, so that its holder cannot write even if it comes back.
        """
        ...

    async def requeue(self, job_id: str, *, now: datetime) -> bool:
        """Puts a running job whose lock ran out back into the queue, due at once."""
        ...

    async def forget_job(self, job_id: str) -> bool:
        """Removes a job that is done."""
        ...


class JobAdministration(Protocol):
    """What people do to single jobs."""

    async def job(self, job_id: str) -> Job | None:
        """The job, or None."""
        ...

    async def revive(self, job_id: str, *, now: datetime) -> bool:
        """Makes a dead or waiting job due at once, with all its tries before it."""
        ...


class SweepStore(Leadership, SweepListing, SweepWrites, Protocol):
    """All that the sweeps need of the database beside sessions and listings."""
