"""Ends sessions for good: an unfinished one at the store first, then in its row, then its tail.

Owns the order, and what "the store's side" is. Knows ports, no adapter. What the store would not
clean is marked in the row, and the reaper tries again.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from tusd_storage.errors import LeaseLost, NoSuchUpload, Rejected, StoreRefused, Unavailable
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


async def abort_once(objects: ObjectStore, bucket: str, key: str, upload_id: str) -> None:
    """Aborts a multipart upload. Raises: StoreUnavailable, AccessDenied, StoreRefused."""
    await objects.abort_multipart(bucket, key, upload_id)


async def remove_object(objects: ObjectStore, session: UploadSession) -> bool:
    """Deletes the session's object if it is there and carries the session's token.

    False: there was nothing of ours. Raises: StoreUnavailable, AccessDenied, StoreRefused.
    """
    found = await objects.head(session.bucket, session.object_key)
    if found is None or not found.is_of(session):
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
        """Marks the row, then deletes the object; the reason if the store would not.

        In this order no row ever promises an object that is gone. Raises: LeaseLost,
        StateUnavailable.
        """
        reason: str | None = "not deleted yet"
        lease.fence()
        await self._sessions.delete(session.id, lease.epoch, cleanup_reason=reason, now=self._now())
        lease.given_back = True
        try:
            await self._objects.delete(session.bucket, session.object_key)
            reason = None
        except (Unavailable, Rejected) as error:
            reason = _reason(session, error)
        with suppress(Unavailable, LeaseLost):  # the mark stays, and the reaper looks once more
            await self._sessions.delete(
                session.id, lease.epoch, cleanup_reason=reason, now=self._now()
            )
        log.info("upload_terminated", upload=session.id, finished=True)
        return reason

    async def abort_unfinished(
        self,
        lease: Lease,
        session: UploadSession,
        *,
        state: SessionState,
        failure: str,
        thorough: bool = True,
    ) -> str | None:
        """Aborts the multipart upload, if there is one; `state` is `aborted` or `expired`.

        `thorough` makes sure that no part is left; not needed by the writer itself, who knows that
        none is on its way. Returns the reason if the store would not.
        Raises: LeaseLost, StateUnavailable.
        """
        reason = None
        if session.upload_id is not None:
            lease.fence()
            try:
                abort = abort_until_gone if thorough else abort_once
                await abort(self._objects, session.bucket, session.object_key, session.upload_id)
            except (Unavailable, Rejected) as error:
                reason = _reason(session, error)
        lease.fence()
        await self._sessions.close(
            session.id,
            lease.epoch,
            state=state,
            failure=failure,
            cleanup_reason=reason,
            now=self._now(),
        )
        lease.given_back = True
        await self._tails.delete(session.id)
        log.info("upload_terminated", upload=session.id, finished=False)
        return reason


def _reason(session: UploadSession, error: Exception) -> str:
    log.warning("upload_cleanup_failed", upload=session.id, error=type(error).__name__)
    return f"{type(error).__name__}: {error}"[:MAX_REASON_LENGTH]
