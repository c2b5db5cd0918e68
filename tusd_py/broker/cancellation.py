"""Ends sessions that did not complete: the storage side first, then the row.

What the store would not clear is marked in the row, and the reaper tries again.
"""

import structlog

from tusd_py.broker.errors import InvalidTransition, broker_errors
from tusd_py.broker.verification import Lane
from tusd_storage import lifecycle
from tusd_storage.leases import Interruption, Lease, LeaseManager
from tusd_storage.records import Protocol, SessionState, UploadSession
from tusd_storage.termination import Terminator

log = structlog.get_logger(__name__)

CANCELLED = "cancelled"
"""`failure` of a session its client or application gave up."""


class Canceller:
    """Cancels sessions of every strategy; interrupts whoever writes a resumable one."""

    def __init__(
        self,
        *,
        leases: LeaseManager,
        terminator: Terminator,
        lane: Lane,
    ) -> None:
        self._leases = leases
        self._terminator = terminator
        self._lane = lane

    async def cancel(self, session_id: str) -> UploadSession:
        """The aborted session. One that is aborted already is returned as it is.

        Raises: InvalidTransition, SessionNotFound, SessionBusy, StateUnavailable.
        """
        session = await self._lane.load(session_id)
        if session.state is SessionState.ABORTED:
            return session
        _check_may_end(session)
        with broker_errors(session_id):
            async with self._leases.hold(session_id, interrupt=_ignore) as lease:
                if lease.session.state is not SessionState.ABORTED:
                    _check_may_end(lease.session)
                    await self._abort(lease)
        return await self._lane.load(session_id)

    async def _abort(self, lease: Lease) -> None:
        session = lease.session
        if session.protocol is Protocol.TUS:
            await self._terminator.abort_unfinished(
                lease, session, state=SessionState.ABORTED, failure=CANCELLED
            )
            return
        await self._lane.end(lease, session, state=SessionState.ABORTED, failure=CANCELLED)
        log.info("session_cancelled", session=session.id)


def _check_may_end(session: UploadSession) -> None:
    if SessionState.ABORTED not in lifecycle.SESSION_EDGES[session.state]:
        raise InvalidTransition(session.id, source=session.state, target=SessionState.ABORTED)


def _ignore(_: Interruption) -> None:
    """Ending is short."""
