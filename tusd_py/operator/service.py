"""What operators find, cancel and try again: one door for the page, its JSON and the commands.

Owns what may be tried again and how. Every change goes through the lease of its upload, as all
others do: whoever writes it lets go first, in this process or another.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol as TypingProtocol

import structlog

from tusd_py.operator import views
from tusd_py.operator.errors import AmbiguousRef, NoSuchJob, NoSuchUpload, NotRetriable
from tusd_py.operator.refs import behind, digest, ref, split
from tusd_py.operator.snapshot import FAILED_FOR, Camera, Sources
from tusd_py.operator.watcher import Watcher
from tusd_storage.ports import JobQueue
from tusd_storage.ports.overview import Browsed, Stuck, Wanted
from tusd_storage.ports.sweeps import JobAdministration
from tusd_storage.records import Asset, Job, JobState, Protocol, SessionState, UploadSession

log = structlog.get_logger(__name__)

Finish = Callable[[UploadSession], Awaitable[UploadSession]]
"""Finishes a session whose bytes are all here; as `tusd_reaper.actions.Finish`."""

Clean = Callable[[UploadSession], Awaitable[str | None]]
"""Cleans the store's side of an ended session; None: somebody else is at work on it."""

MAX_PAGE = 200
MAX_ALIKE = 1000
"""Ids with one beginning that are looked through for the one of a ref."""


class Jobs(JobQueue, JobAdministration, TypingProtocol):
    """The outbox, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorParts:
    """What the operator's door is made of."""

    sources: Sources
    jobs: Jobs
    cancel: Callable[[str], Awaitable[UploadSession]]
    """Ends an unfinished session of any protocol; `tusd_py.broker.cancellation`."""
    find_asset: Callable[[str], Awaitable[Asset | None]]
    finishers: Mapping[Protocol, Finish]
    clean: Clean


class Operator:
    """Made once for a process."""

    def __init__(self, parts: OperatorParts) -> None:
        self._parts = parts
        self._camera = Camera(parts.sources)
        self._overview = parts.sources.overview
        self.watcher = Watcher(self._camera.take)

    async def uploads(
        self,
        *,
        state: SessionState | None = None,
        owner: str | None = None,
        node: str | None = None,
        stuck: bool = False,
        after: str | None = None,
        limit: int = 50,
    ) -> Browsed:
        """A page of uploads in order of id; `next` and `after` are refs. See `Overview.browse`."""
        now = self._parts.sources.now()
        since = Stuck(
            idle_before=now - self._parts.sources.idle_after, failed_after=now - FAILED_FOR
        )
        page = await self._overview.browse(
            Wanted(state=state, owner=owner, node=node, stuck=since if stuck else None),
            now=now,
            after=await self._behind(after) if after else None,
            limit=min(limit, MAX_PAGE),
        )
        return Browsed(sessions=page.sessions, next=ref(page.next) if page.next else None)

    async def find(self, wanted: str) -> UploadSession:
        """The upload of this ref, or whose id is this, or begins so.

        Raises: NoSuchUpload, AmbiguousRef.
        """
        found = await self._alike(wanted)
        if not found:
            raise NoSuchUpload("no upload has this ref, nor an id that begins so")
        if len(found) > 1:
            raise AmbiguousRef("the ids of several uploads begin so: write more of it")
        return found[0]

    async def asset(self, session: UploadSession) -> Asset | None:
        """What the upload produced; None for a partial one."""
        return None if session.asset_id is None else await self._parts.find_asset(session.asset_id)

    async def _alike(self, wanted: str) -> list[UploadSession]:
        beginning, marked = split(wanted)
        if not beginning:
            return []
        found = await self._overview.find(beginning, limit=MAX_ALIKE if marked else 2)
        if not marked:
            exact = [one for one in found if one.id == beginning]
            return exact or found
        of_ref = [one for one in found if digest(one.id) == marked]
        if not of_ref and len(found) == MAX_ALIKE:
            raise AmbiguousRef("too many ids begin as this ref does: write the whole id")
        return of_ref

    async def _named(self, wanted: str) -> UploadSession:
        """The upload of a whole ref or id. A beginning may be another upload's tomorrow, so it
        chooses nothing that is changed. Raises: NoSuchUpload, AmbiguousRef.
        """
        session = await self.find(wanted)
        if wanted not in {session.id, ref(session.id)}:
            raise AmbiguousRef("to change an upload, write its whole ref, or its whole id")
        return session

    async def _behind(self, cursor: str) -> str:
        """Where the page behind this ref begins; its upload may be gone."""
        found = await self._alike(cursor)
        return found[0].id if len(found) == 1 else behind(split(cursor)[0])

    async def cancel(self, wanted: str) -> UploadSession:
        """Ends an unfinished upload and frees what it holds; whoever writes it is stopped.

        Raises: NoSuchUpload, AmbiguousRef, BrokerError's InvalidTransition and SessionBusy.
        """
        session = await self._named(wanted)
        with _nameless(session.id):
            done = await self._parts.cancel(session.id)
        self._show_soon()
        log.info("operator_cancelled", upload=ref(session.id))
        return done

    async def retry(self, wanted: str) -> UploadSession:
        """Finishes what has all its bytes; cleans what ended and left something in the store.

        Raises: NoSuchUpload, AmbiguousRef, NotRetriable, LeaseHeld, TailMissing, Unavailable,
        Rejected, Unclean.
        """
        session = await self._named(wanted)
        finish = self._parts.finishers.get(session.protocol)
        if views.may_finish(session) and finish is not None:
            with _nameless(session.id):
                done = await finish(session)
        elif views.may_clean(session):
            with _nameless(session.id):
                await self._parts.clean(session)
            done = await self.find(session.id)
        else:
            raise NotRetriable("this upload waits for its client, or has ended")
        self._show_soon()
        log.info("operator_retried", upload=ref(session.id))
        return done

    async def jobs(
        self, *, state: JobState | None = None, after: str | None = None, limit: int = 50
    ) -> list[Job]:
        """A page of jobs in order of id."""
        return await self._parts.jobs.jobs(state=state, after=after, limit=min(limit, MAX_PAGE))

    async def job(self, job_id: str) -> Job:
        """One job. Raises: NoSuchJob."""
        job = await self._parts.jobs.job(job_id)
        if job is None:
            raise NoSuchJob(f"there is no job {job_id!r}")
        return job

    async def retry_job(self, job_id: str) -> Job:
        """A dead or waiting job is due at once, with all its tries before it.

        Raises: NoSuchJob, NotRetriable.
        """
        if not await self._parts.jobs.revive(job_id, now=self._parts.sources.now()):
            await self.job(job_id)
            raise NotRetriable("this job runs now, or is done")
        self._show_soon()
        log.info("operator_retried_job", job=job_id)
        return await self.job(job_id)

    def _show_soon(self) -> None:
        self._camera.look_again()
        self.watcher.refresh()


@contextmanager
def _nameless(session_id: str) -> Iterator[None]:
    """An id is an address: what these errors say to an operator tells the ref instead."""
    try:
        yield
    except Exception as error:
        error.args = tuple(
            part.replace(session_id, ref(session_id)) if isinstance(part, str) else part
            for part in error.args
        )
        raise
