"""Ends sessions for good: the store's side first, then the tail, then the row.

Owns the order, and what "the store's side" is. Knows ports, no adapter. What the store would not
clean is marked in the row, and the reaper tries again.
"""

from collections.abc import Callable
from datetime import datetime

import structlog

from tusd_storage.errors import NoSuchUpload, Rejected, StoreRefused, Unavailable
from tusd_storage.leases import Lease
from tusd_storage.ports import ObjectStore, SessionStore, TailStore
from tusd_storage.records import SessionState, UploadSession

log = structlog.get_logger(__name__)

ABORT_TRIES = 3
"""A part that was under way during an abort may land after it (S3: AbortMultipartUpload)."""

MAX_REASON_LENGTH = 200


async def abort_until_gone(objects: ObjectStore, bucket: str, key: str, upload_id: str) -> None:
    """Aborts a multipart upload until ListParts shows nothing any more. May be called twice.

    Raises: StoreUnavailable, AccessDenied, StoreRefused.
    """
    for _ in range(ABORT_TRIES):
        await objects.abort_multipart(bucket, key, upload_id)
        try:
            if not await objects.list_parts(bucket, key, upload_id):
                return
        except NoSuchUpload:
            return
    raise StoreRefused("PartsLeft", f"AbortMultipartUpload: parts are left after {ABORT_TRIES}")


async def remove_object(objects: ObjectStore, session: UploadSession) -> bool:
    """Deletes the session's object if it is there and carries the session's token.

    False: there was nothing of ours. Raises: StoreUnavailable, AccessDenied, StoreRefused.
    """
    found = await objects.head(session.bucket, session.object_key)
    if found is None or found.token != session.token:
        return False
    await objects.delete(session.bucket, session.object_key)
    return True


class Terminator:
    """Ends finished and unfinished sessions, under their lease."""

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

    async def delete_finished(self, lease: Lease, session: UploadSession) -> str | None:
        """Deletes the object and marks the row; the reason if the store would not.

        Raises: LeaseLost, StateUnavailable.
        """
        reason = None
        lease.fence()
        try:
            await self._objects.delete(session.bucket, session.object_key)
        except (Unavailable, Rejected) as error:
            reason = _reason(session, error)
        await self._sessions.delete(session.id, lease.epoch, cleanup_reason=reason, now=self._now())
        lease.given_back = True
        log.info("upload_terminated", upload=session.id, finished=True)
        return reason

    async def abort_unfinished(
        self, lease: Lease, session: UploadSession, *, state: SessionState, failure: str
    ) -> str | None:
        """Aborts the multipart upload, if there is one; `state` is `aborted` or `expired`.

        Returns the reason if the store would not. Raises: LeaseLost, StateUnavailable.
        """
        reason = None
        if session.upload_id is not None:
            lease.fence()
            try:
                await abort_until_gone(
                    self._objects, session.bucket, session.object_key, session.upload_id
                )
            except (Unavailable, Rejected) as error:
                reason = _reason(session, error)
        lease.fence()
        await self._tails.delete(session.id)
        await self._sessions.close(
            session.id,
            lease.epoch,
            state=state,
            failure=failure,
            cleanup_reason=reason,
            now=self._now(),
        )
        lease.given_back = True
        log.info("upload_terminated", upload=session.id, finished=False)
        return reason


def _reason(session: UploadSession, error: Exception) -> str:
    log.warning("upload_cleanup_failed", upload=session.id, error=type(error).__name__)
    return f"{type(error).__name__}: {error}"[:MAX_REASON_LENGTH]
