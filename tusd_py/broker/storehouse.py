"""What the broker asks of the store about one session: is its object there, and take it away.

Only an object with the session's token counts as its own (S3: HeadObject, user metadata).
"""

import structlog

from tusd_py.broker.profiles import Profiles, essence_of
from tusd_storage.errors import Rejected, Unavailable
from tusd_storage.ports import ObjectStore
from tusd_storage.records import ObjectInfo, UploadSession
from tusd_storage.termination import MAX_REASON_LENGTH, abort_until_gone, remove_object

log = structlog.get_logger(__name__)


class Storehouse:
    """Reads and clears the storage side of sessions whose bytes never pass this server."""

    def __init__(self, objects: ObjectStore, profiles: Profiles) -> None:
        self._objects = objects
        self._profiles = profiles

    async def find(self, session: UploadSession) -> ObjectInfo | None:
        """The session's own object. Raises: StoreUnavailable, AccessDenied, StoreRefused."""
        found = await self._objects.head(session.bucket, session.object_key)
        return found if found is not None and found.token == session.token else None

    def mismatch(self, session: UploadSession, found: ObjectInfo) -> str | None:
        """How the object breaks what was promised, as a stable code; None when it does not."""
        promised = session.size_promised
        if session.upload_id is not None and session.parts_count:
            promised = session.parts_size
        if promised is not None and found.size != promised:
            return "size_mismatch"
        profile = self._profiles.find(session.profile)
        if profile is not None and found.size > profile.longest(session.strategy):
            return "too_large"
        if session.max_size is not None and found.size > session.max_size:
            return "too_large"
        wanted = essence_of(session.content_type)
        if wanted and essence_of(found.content_type) != wanted:
            return "content_type_mismatch"
        return None

    async def clear(self, session: UploadSession) -> str | None:
        """Aborts and deletes all there is; the reason to come back, or None. Idempotent.

        A signed request may still put an object there later: the reaper looks again at ended
        sessions, and a last time before it forgets them.
        """
        bucket, key = session.bucket, session.object_key
        try:
            if session.upload_id is not None:
                await abort_until_gone(self._objects, bucket, key, session.upload_id)
            await remove_object(self._objects, session)
        except (Unavailable, Rejected) as error:
            log.warning("session_cleanup_failed", session=session.id, error=type(error).__name__)
            return f"{type(error).__name__}: {error}"[:MAX_REASON_LENGTH]
        return None
