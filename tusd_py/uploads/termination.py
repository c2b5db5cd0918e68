"""Ends uploads for good: the store's side first, then the row, then the tail.

What the store would not clean is marked in the row, and the reaper tries again.
"""

from collections.abc import Callable
from datetime import datetime

import structlog

from tusd_storage.errors import Rejected, Unavailable
from tusd_storage.leases import Lease
from tusd_storage.ports import ObjectStore, SessionStore, TailStore
from tusd_storage.records import SessionState, UploadSession

log = structlog.get_logger(__name__)

_MAX_REASON_LENGTH = 200


class Terminator:
    """Termination of finished and unfinished uploads, under their lease."""

    def __init__(
        self,
        sessions: SessionStore,
        objects: ObjectStore,
        tails: TailStore,
        now: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._objects = objects
        self._tails = tails
        self._now = now

    async def delete_finished(self, lease: Lease, session: UploadSession) -> None:
        """Deletes the object and marks the row. Raises: LeaseLost, StateUnavailable."""
        reason = None
        try:
            await self._objects.delete(session.bucket, session.object_key)
        except (Unavailable, Rejected) as error:
            reason = _reason(session, error)
        await self._sessions.delete(session.id, lease.epoch, cleanup_reason=reason, now=self._now())
        lease.given_back = True
        log.info("upload_terminated", upload=session.id, finished=True)

    async def abort_unfinished(
        self, lease: Lease, session: UploadSession, *, state: SessionState, failure: str
    ) -> None:
        """Aborts the multipart upload, if there is one; `state` is `aborted` or `expired`.

        Raises: LeaseLost, StateUnavailable.
        """
        reason = None
        if session.upload_id is not None:
            try:
                await self._objects.abort_multipart(
                    session.bucket, session.object_key, session.upload_id
                )
            except (Unavailable, Rejected) as error:
                reason = _reason(session, error)
        await self._sessions.close(
            session.id,
            lease.epoch,
            state=state,
            failure=failure,
            cleanup_reason=reason,
            now=self._now(),
        )
        lease.given_back = True
        if session.offset > 0:
            await self._tails.delete(session.id)
        log.info("upload_terminated", upload=session.id, finished=False)


def _reason(session: UploadSession, error: Exception) -> str:
    log.warning("upload_cleanup_failed", upload=session.id, error=type(error).__name__)
    return f"{type(error).__name__}: {error}"[:_MAX_REASON_LENGTH]
