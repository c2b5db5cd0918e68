"""A session store that tells of what it has committed.

Owns which commit is which event: told once the call of the store behind it has returned, so never
before the commit. Decorates `ports.SessionStore`; knows no adapter.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from tusd_py.telemetry.events import (
    Event,
    LeaseTaken,
    ResumableCancel,
    ResumablePatch,
    ResumableStart,
    ResumableStop,
    SessionEnded,
    UploadStart,
    UploadStop,
    UploadTerminated,
)
from tusd_py.telemetry.stages import Stage, Stages
from tusd_storage.ports import SessionStore, Writing
from tusd_storage.records import (
    Append,
    Asset,
    Completion,
    Part,
    Protocol,
    SessionState,
    Strategy,
    UploadSession,
)

MAX_KNOWN = 10_000
"""Rows a process remembers the profile of; beyond that the oldest are forgotten."""


TERMINATED = "terminated"
"""The `failure` of a session that its client terminated."""


@dataclass(slots=True)
class _Known:
    """What an `Append` does not say about its session."""

    profile: str
    resumable: bool
    kind: str
    offset: int


class TellingSessions:
    """`SessionStore`, with events."""

    def __init__(
        self, sessions: SessionStore, emit: Callable[[Event], None], stages: Stages | None = None
    ) -> None:
        self._sessions = sessions
        self._emit = emit
        self._stages = stages or Stages()
        self._known: dict[str, _Known] = {}

    async def create(self, session: UploadSession, asset: Asset | None) -> None:
        await self._sessions.create(session, asset)
        size = session.length if session.length is not None else session.size_promised
        self._emit(
            UploadStart(
                profile=session.profile,
                strategy=session.strategy,
                protocol=session.protocol,
                size=size,
            )
        )
        if session.strategy is Strategy.RESUMABLE:
            self._emit(ResumableStart(profile=session.profile, size=size))
        if session.lease_holder is not None:
            self._remember(session)

    async def created(self, creation_key: str, *, now: datetime) -> UploadSession | None:
        return await self._sessions.created(creation_key, now=now)

    async def get(self, session_id: str) -> UploadSession | None:
        return await self._sessions.get(session_id)

    async def get_many(self, session_ids: Collection[str]) -> dict[str, UploadSession]:
        return await self._sessions.get_many(session_ids)

    async def acquire(
        self,
        session_id: str,
        *,
        holder: str,
        now: datetime,
        until: datetime,
        over: str | None = None,
    ) -> UploadSession:
        session = await self._sessions.acquire(
            session_id, holder=holder, now=now, until=until, over=over
        )
        self._remember(session)
        if session.lease_stolen:
            self._emit(LeaseTaken(reason="expired" if over is None else "abandoned"))
        return session

    async def want(self, session_id: str, epoch: int) -> None:
        await self._sessions.want(session_id, epoch)

    async def wanted(self, holder: str) -> list[str]:
        return await self._sessions.wanted(holder)

    async def renew(self, holder: str, until: datetime) -> set[str]:
        return await self._sessions.renew(holder, until)

    async def release(self, session_id: str, epoch: int) -> None:
        self._known.pop(session_id, None)
        await self._sessions.release(session_id, epoch)

    async def release_many(self, leases: Mapping[str, int]) -> None:
        for session_id in leases:
            self._known.pop(session_id, None)
        await self._sessions.release_many(leases)

    async def opened(self, session_id: str, epoch: int, upload_id: str) -> None:
        await self._sessions.opened(session_id, epoch, upload_id)

    async def append(self, commit: Append, tail: Writing | None = None) -> None:
        with self._stages.measure(Stage.COMMIT):
            await self._sessions.append(commit, tail)
        known = self._known.pop(commit.id, None) if commit.release else self._known.get(commit.id)
        if known is not None:
            known.offset = commit.from_offset
            self._tell_moved(known, commit.to_offset)

    async def parts(self, session_id: str) -> list[Part]:
        return await self._sessions.parts(session_id)

    async def complete(self, completion: Completion) -> UploadSession:
        session = await self._sessions.complete(completion)
        known = self._known.pop(session.id, None)
        if session.completed_at != completion.now:
            return session  # it was completed before, and told then
        if known is not None:
            self._tell_moved(known, session.offset)
        lived_s = _lived_s(session, completion.now)
        self._emit(
            UploadStop(
                profile=session.profile,
                strategy=session.strategy,
                protocol=session.protocol,
                asset_id=session.asset_id,
                size=session.offset,
                crc32=session.crc32,
                duration_s=lived_s,
            )
        )
        if session.strategy is Strategy.RESUMABLE:
            self._emit(
                ResumableStop(
                    profile=session.profile, committed_bytes=session.offset, duration_s=lived_s
                )
            )
        return session

    async def close(
        self,
        session_id: str,
        epoch: int,
        *,
        state: SessionState,
        failure: str | None,
        cleanup_reason: str | None,
        now: datetime,
    ) -> UploadSession:
        session = await self._sessions.close(
            session_id,
            epoch,
            state=state,
            failure=failure,
            cleanup_reason=cleanup_reason,
            now=now,
        )
        self._known.pop(session_id, None)
        self._emit(SessionEnded(strategy=session.strategy, state=state))
        if failure == TERMINATED and session.protocol is Protocol.TUS:
            self._emit(UploadTerminated(profile=session.profile, finished=False))
        if state is SessionState.ABORTED and session.strategy is Strategy.RESUMABLE:
            self._emit(
                ResumableCancel(
                    profile=session.profile,
                    committed_bytes=session.offset,
                    clean=cleanup_reason is None,
                    duration_s=_lived_s(session, now),
                )
            )
        return session

    async def delete(
        self, session_id: str, epoch: int, *, cleanup_reason: str | None, now: datetime
    ) -> None:
        known = self._known.pop(session_id, None)
        await self._sessions.delete(session_id, epoch, cleanup_reason=cleanup_reason, now=now)
        if known is not None and known.resumable:
            self._emit(UploadTerminated(profile=known.profile, finished=True))

    async def asset(self, asset_id: str) -> Asset | None:
        return await self._sessions.asset(asset_id)

    async def ping(self) -> None:
        await self._sessions.ping()

    async def aclose(self) -> None:
        await self._sessions.aclose()

    def _remember(self, session: UploadSession) -> None:
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[session.id] = _Known(
            profile=session.profile,
            resumable=session.strategy is Strategy.RESUMABLE,
            kind=session.kind,
            offset=session.offset,
        )

    def _tell_moved(self, known: _Known, to_offset: int) -> None:
        moved, known.offset = to_offset - known.offset, to_offset
        if known.resumable and moved:
            self._emit(
                ResumablePatch(
                    profile=known.profile,
                    committed_bytes=to_offset,
                    offset_delta=moved,
                    kind=known.kind,
                )
            )


def _lived_s(session: UploadSession, now: datetime) -> float:
    return (now - session.created_at).total_seconds()
