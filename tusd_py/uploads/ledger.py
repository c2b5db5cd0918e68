"""What has been committed of one upload, while one request writes it.

Owns the only way an offset moves. Each commit is one transaction, fenced by the lease.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from isal import isal_zlib

from tusd_py.protocol import rules
from tusd_py.uploads.config import UploadConfig
from tusd_storage.frozen import changed
from tusd_storage.leases import Lease
from tusd_storage.partplan import PartPlan
from tusd_storage.ports import SessionStore, Writing
from tusd_storage.records import Append, Part, SessionState, UploadSession


class Ledger:
    """`session` is the row as this writer left it."""

    def __init__(
        self,
        sessions: SessionStore,
        lease: Lease,
        config: UploadConfig,
        now: Callable[[], datetime],
        *,
        length: int | None,
    ) -> None:
        self.session: UploadSession = lease.session
        self.length = length
        """The length after this request's headers."""
        self.lease = lease
        self._sessions = sessions
        self._config = config
        self._now = now

    @property
    def plan(self) -> PartPlan:
        """Where this upload's parts are cut."""
        return PartPlan(
            part_size=self.session.part_size,
            growth=self.session.part_growth,
            max_part_size=self._config.limits.max_part_size,
        )

    @property
    def declares_length(self) -> bool:
        """Whether the length is known now but not yet in the row."""
        return self.length is not None and self.session.length is None

    async def opened(self, upload_id: str) -> None:
        """Records the multipart upload. Raises: LeaseLost, StateUnavailable."""
        self.lease.fence()
        await self._sessions.opened(self.session.id, self.lease.epoch, upload_id)
        self.session = changed(self.session, upload_id=upload_id)

    async def rewind(self) -> None:
        """Moves the offset back to the end of the parts: what the tail held is given up.

        Raises: LeaseLost, StateUnavailable (it may or may not have happened).
        """
        length, self.length = self.length, self.session.length
        await self.commit(to_offset=self.session.parts_size, tail_crc32=0)
        self.length = length

    async def commit(
        self,
        *,
        parts: Sequence[Part] = (),
        to_offset: int,
        tail_crc32: int,
        state: SessionState = SessionState.UPLOADING,
        release: bool = False,
        tail: Writing | None = None,
    ) -> None:
        """Moves ledger and offset together, when `tail` is written.

        Raises: LeaseLost, StateUnavailable (it may or may not have happened), DiskFull.
        """
        self.lease.fence()
        session, now = self.session, self._now()
        crc32 = session.parts_crc32
        for part in parts:
            if part.crc32 is None:
                continue  # copied, into an upload whose checksum follows from its partial ones
            crc32 = isal_zlib.crc32_combine(crc32, part.crc32, part.size)
        expires_at = rules.expires_at(
            session.created_at,
            now,
            idle=self._config.expires_in,
            life=self._config.max_lifetime,
        )
        commit = Append(
            id=session.id,
            epoch=self.lease.epoch,
            from_offset=session.offset,
            to_offset=to_offset,
            parts=tuple(parts),
            parts_crc32=crc32,
            tail_node=self._config.node,
            tail_crc32=tail_crc32,
            length=self.length if self.declares_length else None,
            state=state,
            expires_at=expires_at,
            now=now,
            release=release,
        )
        await self._sessions.append(commit, tail)
        self.lease.given_back = release
        self.session = changed(
            session,
            state=state,
            offset=to_offset,
            length=self.length,
            parts_count=session.parts_count + len(parts),
            parts_size=session.parts_size + sum(part.size for part in parts),
            parts_crc32=crc32,
            tail_node=self._config.node,
            tail_crc32=tail_crc32,
            expires_at=expires_at,
            updated_at=now,
        )
