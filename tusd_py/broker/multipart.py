"""Completes a multipart upload whose parts a client sent, as carefully as a tus upload.

The part list is checked against the store and written into the ledger before the store is asked to
complete: from then on the session is `verifying`, and anybody can finish it. The answer of
CompleteMultipartUpload may be lost or wrong; only the object, with token and size, decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from tusd_py.broker.errors import InvalidParts, MultipartNotInitialized, MultipartVanished
from tusd_py.broker.parts import PartName, matched, ordered, same
from tusd_py.broker.profiles import MAX_SINGLE_PUT, Profiles
from tusd_py.broker.storehouse import Storehouse
from tusd_py.broker.verification import Lane
from tusd_storage.errors import InvalidPart, NoSuchUpload, StoreUnavailable
from tusd_storage.leases import Lease
from tusd_storage.ports import ObjectStore, SessionStore
from tusd_storage.records import Append, Part, SessionState, Strategy, UploadSession


class MultipartCompleter:
    """From the client's part list to the completed session."""

    def __init__(
        self,
        *,
        profiles: Profiles,
        sessions: SessionStore,
        objects: ObjectStore,
        storehouse: Storehouse,
        lane: Lane,
        node: str,
        now: Callable[[], datetime],
    ) -> None:
        self._profiles = profiles
        self._sessions = sessions
        self._objects = objects
        self._storehouse = storehouse
        self._lane = lane
        self._node = node
        self._now = now

    async def complete(self, session_id: str, parts: Sequence[PartName]) -> UploadSession:
        """See `Broker.complete_multipart_upload`."""
        session = await self._lane.load(session_id)
        upload_id_of(session)
        wanted = ordered(parts)

        async def work(lease: Lease) -> UploadSession:
            session = lease.session
            if session.state is SessionState.VERIFYING:
                if not same(wanted, await self._sessions.parts(session_id)):
                    raise InvalidParts(f"session {session_id} is being completed with other parts")
                return await self.finish(lease, session)
            try:
                checked = await self._check(session, wanted)
            except NoSuchUpload as gone:
                return await self._resolve(lease, session, gone)
            return await self.finish(lease, await self._commit(lease, session, checked))

        return await self._lane.exclusively(session, work)

    async def finish(self, lease: Lease, session: UploadSession) -> UploadSession:
        """Goes on with a session that is `verifying`: its ledger has the parts."""
        parts = await self._sessions.parts(session.id)
        lease.fence()
        try:
            await self._objects.complete_multipart(
                session.bucket, session.object_key, upload_id_of(session), parts, direct=True
            )
        except (StoreUnavailable, NoSuchUpload) as doubt:
            return await self._resolve(lease, session, doubt)
        except InvalidPart as refusal:
            await self._lane.fail(lease, session, "invalid_part")
            raise InvalidParts(f"session {session.id}: the store refused its parts") from refusal
        return await self._lane.prove(lease, session)

    async def _check(self, session: UploadSession, wanted: Sequence[PartName]) -> tuple[Part, ...]:
        """The stored parts that were named. Raises: InvalidParts, NoSuchUpload, …."""
        stored = await self._objects.list_parts(
            session.bucket, session.object_key, upload_id_of(session)
        )
        return matched(
            wanted, stored, promised=session.size_promised, longest=self._longest(session)
        )

    async def _commit(
        self, lease: Lease, session: UploadSession, parts: Sequence[Part]
    ) -> UploadSession:
        total, now = sum(part.size for part in parts), self._now()
        lease.fence()
        await self._sessions.append(
            Append(
                id=session.id,
                epoch=lease.epoch,
                from_offset=session.offset,
                to_offset=total,
                parts=tuple(parts),
                parts_crc32=0,  # nobody here has seen the bytes
                tail_node=self._node,
                tail_crc32=0,
                length=total,
                state=SessionState.VERIFYING,
                expires_at=session.expires_at,
                now=now,
            )
        )
        return replace(
            session,
            state=SessionState.VERIFYING,
            offset=total,
            length=total,
            parts_count=len(parts),
            parts_size=total,
            updated_at=now,
        )

    async def _resolve(
        self, lease: Lease, session: UploadSession, doubt: StoreUnavailable | NoSuchUpload
    ) -> UploadSession:
        """After an answer that proves nothing."""
        found = await self._storehouse.find(session)
        if found is not None:
            return await self._lane.record(lease, session, found)
        if isinstance(doubt, NoSuchUpload):
            await self._lane.fail(lease, session, "multipart_vanished")
            raise MultipartVanished(f"session {session.id}: its parts are gone") from doubt
        raise doubt

    def _longest(self, session: UploadSession) -> int:
        profile = self._profiles.find(session.profile)
        longest = profile.longest(Strategy.MULTIPART) if profile else MAX_SINGLE_PUT
        return longest if session.max_size is None else min(longest, session.max_size)


def upload_id_of(session: UploadSession) -> str:
    """The multipart upload. Raises: MultipartNotInitialized."""
    if session.strategy is not Strategy.MULTIPART or session.upload_id is None:
        raise MultipartNotInitialized(f"session {session.id} has no multipart upload")
    return session.upload_id
