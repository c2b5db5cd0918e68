"""The lane every direct upload passes at its end: prove the object, record it once.

What a client says proves nothing; the object with the session's token does. Everything here happens
under the session's lease, so that completing and aborting never meet, and one of two callers
promotes. A crash between any two steps leaves a session that the same call finishes.
"""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from tusd_py.broker.errors import (
    InvalidTransition,
    ObjectMismatch,
    ObjectMissing,
    SessionNotFound,
    broker_errors,
)
from tusd_py.broker.results import Verified
from tusd_py.broker.storehouse import Storehouse
from tusd_storage import lifecycle
from tusd_storage.errors import LeaseHeld, LeaseLost
from tusd_storage.leases import Interruption, Lease, LeaseManager
from tusd_storage.ports import SessionStore
from tusd_storage.records import Completion, ObjectInfo, SessionState, UploadSession

log = structlog.get_logger(__name__)

_CAN_VERIFY = lifecycle.sources_of(SessionState.VERIFYING) | {SessionState.VERIFYING}

Work = Callable[[Lease], Awaitable[UploadSession]]


class Lane:
    """Verifies and records sessions with protocol `s3`."""

    def __init__(
        self,
        *,
        sessions: SessionStore,
        leases: LeaseManager,
        storehouse: Storehouse,
        now: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._leases = leases
        self._storehouse = storehouse
        self._now = now

    async def load(self, session_id: str) -> UploadSession:
        """The row. Raises: SessionNotFound."""
        session = await self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound("there is no such session")
        return session

    async def exclusively(self, session: UploadSession, work: Work) -> UploadSession:
        """Runs `work` under the lease, unless the session is completed by then: that is returned.

        Raises: InvalidTransition from a state that nothing can be verified in; SessionBusy.
        """
        if session.state is SessionState.COMPLETED:
            return session
        _check_verifiable(session)
        with broker_errors(session.id):
            try:
                async with self._leases.hold(session.id, interrupt=_ignore) as lease:
                    if lease.session.state is SessionState.COMPLETED:
                        return lease.session
                    _check_verifiable(lease.session)
                    return await work(lease)
            except (LeaseHeld, LeaseLost):
                after = await self.load(session.id)
                if after.state is SessionState.COMPLETED:
                    return after  # by whoever has the lease
                raise

    async def prove(self, lease: Lease, session: UploadSession) -> UploadSession:
        """HeadObject, then the row. Raises: ObjectMissing, and as `record`."""
        found = await self._storehouse.find(session)
        if found is None:
            raise ObjectMissing(f"session {session.id}: there is no object in the store yet")
        return await self.record(lease, session, found)

    async def record(
        self, lease: Lease, session: UploadSession, found: ObjectInfo
    ) -> UploadSession:
        """Session `completed`, asset `validating`, job `promote_asset`, with what was measured.

        Raises: ObjectMismatch (the session is `failed` then), LeaseLost, StateUnavailable.
        """
        failure = self._storehouse.mismatch(session, found)
        if failure is not None:
            await self.fail(lease, session, failure)
            raise ObjectMismatch(session.id, failure)
        lease.fence()
        done = await self._sessions.complete(
            Completion(
                id=session.id,
                epoch=lease.epoch,
                size=found.size,
                etag=found.etag,
                crc32=None,
                content_type=found.content_type,
                now=self._now(),
                job_id=secrets.token_urlsafe(16),
            )
        )
        lease.given_back = True
        log.info("session_completed", session=session.id, size=found.size)
        return done

    async def fail(self, lease: Lease, session: UploadSession, failure: str) -> None:
        """Ends it as `failed`. Raises: LeaseLost, StateUnavailable."""
        await self.end(lease, session, state=SessionState.FAILED, failure=failure)
        log.warning("session_failed", session=session.id, failure=failure)

    async def end(
        self, lease: Lease, session: UploadSession, *, state: SessionState, failure: str
    ) -> None:
        """The storage side first, then the row. Raises: LeaseLost, StateUnavailable."""
        lease.fence()
        reason = await self._storehouse.clear(session)
        await self._sessions.close(
            session.id,
            lease.epoch,
            state=state,
            failure=failure,
            cleanup_reason=reason,
            now=self._now(),
        )
        lease.given_back = True

    async def verified(self, session: UploadSession) -> Verified:
        """A completed session, with its asset as it is now."""
        asset = None
        if session.asset_id is not None:
            asset = await self._sessions.asset(session.asset_id)
        return Verified(session=session, asset=asset)


def _check_verifiable(session: UploadSession) -> None:
    if session.state not in _CAN_VERIFY:
        raise InvalidTransition(session.id, source=session.state, target=SessionState.VERIFYING)


def _ignore(_: Interruption) -> None:
    """Verifying is short, and whoever wants the lease wants the same."""
