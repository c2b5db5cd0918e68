"""The overview: what people who watch the server read, and the reaper's diary.

Same rules as in `ports`: async, short transactions, only the taxonomy of `errors`. Everything here
is bounded: a list has a limit, a count stops at a cap and says so, a page of `browse` looks at a
bounded number of rows. Nothing takes a lock, and what is read may have changed by the next moment.

A session is *open* until it is terminal (`lifecycle`); it is *idle* when it is open, lacks bytes,
has no live lease, and its row has not changed for long.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from tusd_storage.frozen import record
from tusd_storage.records import Job, SessionState, UploadSession


@record(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What changes every second."""

    writing: tuple[UploadSession, ...]
    """Sessions with a live lease, at most `limit`."""
    writing_count: int
    """All of them, up to the cap."""
    recent: tuple[UploadSession, ...]
    """Open sessions that were active last, by their expiry: latest first, at most `limit`."""
    known: tuple[UploadSession, ...]
    """The sessions that were asked for by id and still exist."""
    completed: tuple[UploadSession, ...]
    """Newest first; partial uploads (Concatenation) are left out."""
    due: tuple[Job, ...]
    """Running and queued jobs, earliest due first."""
    dead: tuple[Job, ...]
    """Latest first."""


@record(frozen=True, slots=True, kw_only=True)
class TailSum:
    """The tails of one node, as the rows tell."""

    node: str
    uploads: int
    """Open sessions with bytes in a tail there."""
    size: int
    """Bytes that are acknowledged and not yet inside a part."""


@record(frozen=True, slots=True, kw_only=True)
class Survey:
    """What takes a look at many rows. Counts are exact below the cap, and at least it above."""

    open: int
    """Sessions that lack bytes and have not ended."""
    open_size: int
    """Bytes acknowledged of those."""
    idle: int
    finishing: int
    """Sessions in `uploaded` or `verifying`."""
    unclean: int
    failed: int
    """Since the time asked for."""
    queued: int
    running: int
    dead: int
    """Jobs."""
    tails: tuple[TailSum, ...]
    longest_idle: tuple[UploadSession, ...]
    """Idle sessions, those that expire soonest first."""
    unfinished: tuple[UploadSession, ...]
    """In `uploaded` or `verifying`, or with all their bytes, and without a live lease."""
    uncleaned: tuple[UploadSession, ...]
    """With a `cleanup_reason`."""
    failures: tuple[UploadSession, ...]
    """Failed since the time asked for, latest first."""
    orphaned: tuple[UploadSession, ...]
    """Open sessions with bytes in a tail of one of the nodes that are gone."""


@record(frozen=True, slots=True, kw_only=True)
class Stuck:
    """What is idle since before a time, unfinished, has to be cleaned, or failed after a time."""

    idle_before: datetime
    failed_after: datetime


@record(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which sessions `browse` gives; what is None does not count."""

    state: SessionState | None = None
    owner: str | None = None
    node: str | None = None
    """The node that made it: the id's part before `~`."""
    stuck: Stuck | None = None


@record(frozen=True, slots=True, kw_only=True)
class Browsed:
    """A page in order of id."""

    sessions: tuple[UploadSession, ...]
    next: str | None
    """`after` for the next page, which there may be though this one is short or empty; None at the
    end."""


@record(frozen=True, slots=True, kw_only=True)
class ReaperRun:
    """One run of the sweeps that changed things."""

    id: str
    """Grows with time."""
    node: str
    started_at: datetime
    report: dict[str, object]
    """As `tusd_reaper.report.Report`, for people: names and numbers."""


class Overview(Protocol):
    """What the operator's page, JSON and commands read."""

    async def pulse(self, *, known: Collection[str], now: datetime, limit: int, cap: int) -> Pulse:
        """All of `Pulse`, each list at most `limit` long. Cheap enough for every second."""
        ...

    async def survey(
        self,
        *,
        now: datetime,
        idle_before: datetime,
        failed_after: datetime,
        gone: Collection[str],
        limit: int,
        cap: int,
    ) -> Survey:
        """All of `Survey`; looks at no more than `cap` rows a question. `gone`: names of nodes."""
        ...

    async def browse(
        self, wanted: Wanted, *, now: datetime, after: str | None = None, limit: int = 100
    ) -> Browsed:
        """A page of sessions. Looks at a bounded number of rows, however few are wanted."""
        ...

    async def find(self, beginning: str, *, limit: int = 2) -> list[UploadSession]:
        """Sessions whose id is or begins so, in order of id: first the one that has just this."""
        ...


class ReaperDiary(Protocol):
    """The last runs of the reaper on every node."""

    async def record_run(self, run: ReaperRun, *, keep: int) -> None:
        """Writes it down and forgets all but the last `keep` of that node."""
        ...

    async def runs(self, *, limit: int) -> list[ReaperRun]:
        """Newest first."""
        ...
