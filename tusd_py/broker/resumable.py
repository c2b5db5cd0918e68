"""Sessions whose bytes go through the tus server: how far they are, and that they end."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from tusd_py.broker.errors import (
    InvalidTransition,
    ObjectMissing,
    ResumableNotInitialized,
    broker_errors,
)
from tusd_py.broker.results import ResumableState, ResumableStatus
from tusd_py.broker.verification import Lane
from tusd_py.telemetry.events import Event, ResumableStatusRead
from tusd_storage import lifecycle
from tusd_storage.records import SessionState, Strategy, UploadSession


class Resumables(Protocol):
    """The tus server, as far as the broker needs it."""

    async def status(self, session: UploadSession) -> UploadSession:
        """The upload; one that is fully received is finished first."""
        ...


class ResumableSessions:
    """What the broker knows of uploads of the tus server."""

    def __init__(
        self,
        resumables: Resumables,
        lane: Lane,
        *,
        emit: Callable[[Event], None],
        now: Callable[[], datetime],
    ) -> None:
        self._resumables = resumables
        self._lane = lane
        self._emit = emit
        self._now = now

    async def load(self, session_id: str) -> UploadSession:
        """The row. Raises: SessionNotFound, ResumableNotInitialized."""
        session = await self._lane.load(session_id)
        if session.strategy is not Strategy.RESUMABLE:
            raise ResumableNotInitialized(f"session {session_id} is not a resumable upload")
        return session

    async def status(self, session_id: str) -> ResumableStatus:
        """See `Broker.resumable_session_status`."""
        session = await self.load(session_id)
        state = self._state(session)
        self._emit(
            ResumableStatusRead(
                profile=session.profile, committed_bytes=session.offset, state=str(state)
            )
        )
        return ResumableStatus(session=session, committed_bytes=session.offset, state=state)

    async def finished(self, session: UploadSession) -> UploadSession:
        """The tus server completes its uploads itself; here it is at most reminded.

        Raises: InvalidTransition, ObjectMissing.
        """
        if session.state in lifecycle.TERMINAL - {SessionState.COMPLETED}:
            raise InvalidTransition(session.id, source=session.state, target=SessionState.VERIFYING)
        if session.received and session.state is not SessionState.COMPLETED:
            with broker_errors(session.id):
                session = await self._resumables.status(session)
        if session.state is not SessionState.COMPLETED:
            raise ObjectMissing(f"session {session.id}: its bytes are not all here yet")
        return session

    def _state(self, session: UploadSession) -> ResumableState:
        if session.state is SessionState.COMPLETED:
            return ResumableState.COMPLETE
        over = session.expires_at is not None and session.expires_at <= self._now()
        if session.state in lifecycle.TERMINAL or (over and not session.received):
            return ResumableState.EXPIRED
        return ResumableState.IN_PROGRESS
