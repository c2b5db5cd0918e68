"""What is due: each sweep as a stream of things to do, page by page.

Owns the looking. Changes nothing: what is due carries its action, and a dry run only counts. No
more than a page is in memory at once, whatever the size of the table, bucket or folder.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from re import Pattern

from tusd_reaper.actions import Actions, Tools
from tusd_reaper.paging import by_id, by_row, in_batches, scanned
from tusd_storage.lifecycle import TERMINAL
from tusd_storage.records import MultipartUpload, SessionState, UploadSession

PAGE = 200
"""Rows, files or multipart uploads in memory at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One thing to do. See `Actions` for what `act` returns and raises."""

    subject: str
    action: str
    """What a dry run counts it as."""
    act: Callable[[], Awaitable[str | None]]


Stream = AsyncGenerator[Due, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Where in the store our objects are. Nothing outside is looked at."""

    bucket: str
    prefix: str
    keys: Pattern[str] | None = None
    """What our keys look like below the prefix; None: all that is there is ours."""

    def contains(self, key: str) -> bool:
        """Whether an object of this key can only be ours."""
        if not key.startswith(self.prefix):
            return False
        return self.keys is None or self.keys.fullmatch(key.removeprefix(self.prefix)) is not None


class Sweeps:
    """The sweeps of one node; `is_dead` tells whether a process of this node is certainly gone."""

    def __init__(
        self,
        tools: Tools,
        *,
        areas: Sequence[Area],
        retention: timedelta,
        is_dead: Callable[[str], bool],
        page: int = PAGE,
    ) -> None:
        self._tools = tools
        self._sweeps = tools.sweeps
        self._actions = Actions(tools)
        self._areas = areas
        self._retention = retention
        self._is_dead = is_dead
        self._page = page

    async def stuck(self) -> Stream:
        """Finishing that stopped half-way, jobs of dead workers, leases nobody gave back."""
        now, size = self._tools.now(), self._page
        unfinished = by_id(
            lambda after: self._tools.listings.list_stuck(now=now, after=after, limit=size)
        )
        async for row in unfinished:
            yield self._finish(row)
        lost = by_row(lambda after: self._sweeps.list_lost_jobs(now=now, after=after, limit=size))
        async for jobs in lost:
            for job in jobs:
                act = partial(self._actions.requeue, job)
                yield Due(subject=job.id, action="requeue", act=act)
        before = now - self._tools.grace
        async for row in self._run_out(before):
            yield self._end_lease(row, before)

    async def stuck_here(self) -> Stream:
        """As `stuck`, where only this node can help or tell: its tails, its own processes."""
        now, node, size = self._tools.now(), self._tools.node, self._page
        received = by_id(
            lambda after: self._sweeps.list_received(node=node, now=now, after=after, limit=size)
        )
        async for row in received:
            yield self._finish(row)
        async for row in self._run_out(now):
            holder, _, instance = (row.lease_holder or "").partition("/")
            if holder == node and self._is_dead(instance):
                yield self._end_lease(row, now)

    def _run_out(self, before: datetime) -> AsyncGenerator[UploadSession, None]:
        return by_id(
            lambda after: self._sweeps.list_run_out(before=before, after=after, limit=self._page)
        )

    def _finish(self, row: UploadSession) -> Due:
        return Due(subject=row.id, action="finish", act=partial(self._actions.finish, row))

    def _end_lease(self, row: UploadSession, before: datetime) -> Due:
        act = partial(self._actions.end_lease, row, before)
        return Due(subject=row.id, action="end_lease", act=act)

    async def expire(self) -> Stream:
        """Sessions and partial uploads past their time, and what could not be cleaned before."""
        now, size = self._tools.now(), self._page
        listings = self._tools.listings
        open_ = by_row(lambda after: listings.list_expired(now=now, after=after, limit=size))
        async for rows in open_:
            for row in rows:
                act = partial(self._actions.expire, row)
                yield Due(subject=row.id, action="expire", act=act)
        async for due in self._partials(now - self._tools.grace):
            yield due
        async for row in by_id(lambda after: listings.list_cleanup(after=after, limit=size)):
            if row.updated_at < now:  # what this run marked waits for the next one
                act = partial(self._actions.clean, row)
                yield Due(subject=row.id, action="clean", act=act)

    async def _partials(self, before: datetime) -> Stream:
        pages = by_row(
            lambda after: self._sweeps.list_partials(before=before, after=after, limit=self._page)
        )
        async for rows in pages:
            wanted = await self._wanted({row.id for row in rows})
            for row in rows:
                if row.id not in wanted:
                    act = partial(self._actions.delete_partial, row)
                    yield Due(subject=row.id, action="expire", act=act)

    async def _wanted(self, partials: set[str]) -> set[str]:
        """Those of the partial uploads that an unfinished final upload is waiting to use."""
        wanted: set[str] = set()
        finals = by_id(lambda after: self._sweeps.list_open_finals(after=after, limit=self._page))
        async for final in finals:
            wanted |= partials.intersection(final.concat)
        return wanted

    async def tails(self) -> Stream:
        """Tails on this node's disk whose session is unknown, over, or lives on another node."""
        limit = self._tools.now() - self._tools.grace
        async for files in scanned(self._tools.tails.scan, self._page):
            old = [file.session_id for file in files if file.modified_at <= limit]
            rows = await self._tools.sessions.get_many(old)
            for session_id in old:
                moved = self._has_moved(rows.get(session_id))
                if moved is not None:
                    act = partial(self._actions.delete_tail, session_id, moved=moved)
                    yield Due(subject=session_id, action="delete", act=act)

    def _has_moved(self, row: UploadSession | None) -> bool | None:
        """None: the tail is in use. Else it is not, and whether its session lives elsewhere."""
        if row is None or row.state in TERMINAL:
            return False
        if row.tail_node is None or row.tail_node == self._tools.node:
            return None
        # A writer that did not give its lease back may still have the file open (see `stuck`).
        return True if row.lease_holder is None else None

    async def multiparts(self) -> Stream:
        """Multipart uploads in our part of the store that no open session knows."""
        for area in self._areas:
            async with aclosing(
                self._tools.objects.list_multipart(area.bucket, area.prefix)
            ) as uploads:
                async for page in in_batches(uploads, self._page):
                    for upload in await self._unknown(area, page):
                        act = partial(
                            self._actions.abort_unknown, area.bucket, upload.key, upload.upload_id
                        )
                        yield Due(subject=upload.key, action="abort", act=act)

    async def _unknown(self, area: Area, page: list[MultipartUpload]) -> list[MultipartUpload]:
        limit = self._tools.now() - self._tools.grace
        old = [u for u in page if u.initiated_at <= limit and area.contains(u.key)]
        rows = await self._sweeps.find_keys(area.bucket, {upload.key for upload in old})
        return [upload for upload in old if is_unknown(upload, rows.get(upload.key))]

    async def objects(self) -> Stream:
        """Ended sessions, of which a race may have left an object or parts."""
        before = self._tools.now() - self._tools.grace
        pages = by_row(
            lambda after: self._sweeps.list_unswept(before=before, after=after, limit=self._page)
        )
        async for rows in pages:
            for row in rows:
                act = partial(self._actions.sweep_ended, row)
                yield Due(subject=row.id, action="check", act=act)

    async def rows(self) -> Stream:
        """Ended sessions and done jobs that are older than the retention."""
        before, size, sweeps = self._tools.now() - self._retention, self._page, self._sweeps
        ended = by_row(
            lambda after: sweeps.list_forgettable(before=before, after=after, limit=size)
        )
        async for rows in ended:
            for row in rows:
                yield Due(subject=row.id, action="forget", act=partial(self._actions.forget, row))
        done = by_row(lambda after: sweeps.list_done_jobs(before=before, after=after, limit=size))
        async for jobs in done:
            for job in jobs:
                act = partial(self._actions.forget_job, job)
                yield Due(subject=job.id, action="forget_job", act=act)


def is_unknown(upload: MultipartUpload, row: UploadSession | None) -> bool:
    """Whether no session will ever complete or abort this multipart upload.

    One that belongs to a completed session is left: aborting it destroys the object on some stores.
    """
    if row is None or row.upload_id != upload.upload_id:
        return True
    return row.state in TERMINAL and row.state is not SessionState.COMPLETED
