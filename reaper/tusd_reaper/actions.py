"""What the sweeps do to one thing that is due. Every action may be done twice.

Owns the last look: an action decides again, under the lease of its session, whether it is still
right, and leaves alone what somebody is at work on. Returns what was done, in a word for the
counters, or None for "left alone"; what could not be done raises. Knows ports, no adapter.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from tusd_storage.errors import (
    InvalidTransition,
    LeaseHeld,
    LeaseLost,
    Rejected,
    SessionUnknown,
    StorageError,
    TailMissing,
)
from tusd_storage.leases import Interruption, Lease, LeaseManager
from tusd_storage.lifecycle import TERMINAL, sources_of
from tusd_storage.ports import ObjectStore, SessionStore, TailStore
from tusd_storage.ports.listings import SessionListing
from tusd_storage.ports.sweeps import SweepStore
from tusd_storage.records import Job, Kind, Protocol, SessionState, UploadSession
from tusd_storage.termination import Terminator, abort_until_gone, remove_object

Finish = Callable[[UploadSession], Awaitable[UploadSession]]
"""Finishes a session whose bytes have all been received, takes its lease for that, and returns the
row as it then is: `completed`, `failed` when its bytes are lost for good, or as it was when there
is nothing to finish yet. Raises: LeaseHeld, TailMissing, Unavailable, Rejected."""

EXPIRABLE = sources_of(SessionState.EXPIRED)
NOT_NOW = (LeaseHeld, LeaseLost, SessionUnknown, InvalidTransition)
"""Somebody else is at work on it, or was in between: it is theirs."""


class Unclean(StorageError):
    """The row has ended, the store's side has not: the row is marked, and is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What actions and sweeps work with."""

    sessions: SessionStore
    listings: SessionListing
    sweeps: SweepStore
    objects: ObjectStore
    tails: TailStore
    leases: LeaseManager
    finishers: Mapping[Protocol, Finish]
    node: str
    now: Callable[[], datetime]
    grace: timedelta
    """What is younger may belong to somebody at work, and is left alone."""


class Actions:
    """One method for each kind of thing that can be due."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._terminator = Terminator(tools.sessions, tools.objects, tools.tails, tools.now)

    async def finish(self, session: UploadSession) -> str | None:
        """Finishes what was received; see `Finish`."""
        finish = self._tools.finishers.get(session.protocol)
        if finish is None or self._ends_elsewhere(session):
            return None
        try:
            row = await finish(session)
        except TailMissing as missing:
            if missing.reason == "other_node":
                return None
            raise
        if row.state is SessionState.COMPLETED:
            return "finished"
        return "lost" if row.state in TERMINAL else None

    def _ends_elsewhere(self, session: UploadSession) -> bool:
        """Whether the last bytes are in a tail of another node, which then has to finish it."""
        if session.state is SessionState.VERIFYING or session.kind is Kind.FINAL:
            return False
        return session.tail_node not in (None, self._tools.node)

    async def expire(self, session: UploadSession) -> str | None:
        """Finishes it if every byte is here, else ends it: store, tail, row. Raises: Unclean.

        Of what went straight to the store only the store knows whether it arrived: asked first.
        """
        if session.received or session.kind is Kind.FINAL or session.protocol is Protocol.S3:
            done = await self._finish_late(session)
            if done is not None:
                return done
            if session.received and not self._is_past_grace(session):
                return None  # its own node has the rest of its bytes
        async with self._hold(session.id) as lease:
            row = lease.session
            if not self._has_expired(row) or (row.received and not session.received):
                return None
            reason = await self._terminator.abort_unfinished(
                lease, row, state=SessionState.EXPIRED, failure="expired"
            )
        if reason is not None:
            raise Unclean(reason)
        return "expired"

    async def _finish_late(self, session: UploadSession) -> str | None:
        try:
            return await self.finish(session)
        except TailMissing:
            return None
        except Rejected:
            if self._is_past_grace(session):
                return None
            raise

    def _has_expired(self, row: UploadSession) -> bool:
        expires_at = row.expires_at
        return row.state in EXPIRABLE and expires_at is not None and expires_at <= self._tools.now()

    def _is_past_grace(self, session: UploadSession) -> bool:
        expires_at = session.expires_at
        return expires_at is not None and expires_at + self._tools.grace <= self._tools.now()

    async def delete_partial(self, session: UploadSession) -> str | None:
        """Ends a completed partial upload that nothing was made of. Raises: Unclean."""
        async with self._hold(session.id) as lease:
            row = lease.session
            if row.state is not SessionState.COMPLETED or row.deleted_at is not None:
                return None
            reason = await self._terminator.delete_finished(lease, row)
        if reason is not None:
            raise Unclean(reason)
        return "expired"

    async def clean(self, session: UploadSession) -> str | None:
        """Cleans the store's side of an ended session at last, and takes the mark off its row."""
        async with self._hold(session.id) as lease:
            row = lease.session
            if row.cleanup_reason is None or not has_ended(row):
                return None
            await self._empty_store(lease, row)
            await self._unmark(lease, row)
        return "cleaned"

    async def _unmark(self, lease: Lease, row: UploadSession) -> None:
        now, sessions = self._tools.now(), self._tools.sessions
        if row.state is SessionState.COMPLETED:
            await sessions.delete(row.id, lease.epoch, cleanup_reason=None, now=now)
        else:
            await sessions.close(
                row.id,
                lease.epoch,
                state=row.state,
                failure=row.failure,
                cleanup_reason=None,
                now=now,
            )
        lease.given_back = True

    async def sweep_ended(self, session: UploadSession) -> str | None:
        """Makes sure that nothing of an ended session is in the store."""
        async with self._hold(session.id) as lease:
            if not has_ended(lease.session):
                return None
            deleted = await self._empty_store(lease, lease.session)
            await self._tools.sweeps.swept(session.id, now=self._tools.now())
        return "deleted" if deleted else "clear"

    async def forget(self, session: UploadSession) -> str | None:
        """Removes the row of an ended session, after a last look at what the store has of it."""
        async with self._hold(session.id) as lease:
            if not has_ended(lease.session):
                return None
            await self._empty_store(lease, lease.session)
            lease.fence()
            gone = await self._tools.sweeps.forget(session.id, lease.epoch)
            lease.given_back = gone
        return "forgotten" if gone else None

    async def _empty_store(self, lease: Lease, row: UploadSession) -> bool:
        """True when there was an object."""
        lease.fence()
        if row.upload_id is not None and row.state is not SessionState.COMPLETED:
            await abort_until_gone(self._tools.objects, row.bucket, row.object_key, row.upload_id)
        lease.fence()
        return await remove_object(self._tools.objects, row)

    async def delete_tail(self, session_id: str, *, moved: bool) -> str | None:
        """Deletes a tail of this node that nobody will read again.

        `moved`: the session lives on another node and may come back at any moment: its lease keeps
        a writer of this node out while the file goes.
        """
        if not moved:
            return "deleted" if await self._tools.tails.delete(session_id) else None
        async with self._hold(session_id) as lease:
            row = lease.session
            if row.tail_node is None or row.tail_node == self._tools.node:
                return None
            return "deleted" if await self._tools.tails.delete(session_id) else None

    async def abort_unknown(self, bucket: str, key: str, upload_id: str) -> str:
        """Aborts a multipart upload that belongs to nobody."""
        await abort_until_gone(self._tools.objects, bucket, key, upload_id)
        return "aborted"

    async def end_lease(self, session: UploadSession, before: datetime) -> str | None:
        """Ends a lease whose holder is gone."""
        ended = await self._tools.sweeps.end_lease(session.id, session.lease_epoch, before=before)
        return "leases_ended" if ended else None

    async def requeue(self, job: Job) -> str | None:
        """Gives the job of a dead worker to the others."""
        back = await self._tools.sweeps.requeue(job.id, now=self._tools.now())
        return "jobs_requeued" if back else None

    async def forget_job(self, job: Job) -> str | None:
        """Removes a job that is done."""
        return "jobs_forgotten" if await self._tools.sweeps.forget_job(job.id) else None

    def _hold(self, session_id: str) -> AbstractAsyncContextManager[Lease]:
        """The lease, if it is free: no writer is ever disturbed."""
        return self._tools.leases.hold(session_id, interrupt=_ignore, patience_s=0)


def has_ended(session: UploadSession) -> bool:
    """Whether nothing of the session should be in the store (`ports.sweeps`)."""
    if session.state is SessionState.COMPLETED:
        return session.deleted_at is not None
    return session.state in TERMINAL


def _ignore(_: Interruption) -> None:
    """Actions are short; whoever wants the lease gets it next."""
