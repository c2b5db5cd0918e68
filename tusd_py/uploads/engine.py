"""The tus use cases, each under the rules of `protocol` and the lease of its upload.

Knows ports, no adapter, no HTTP. Everything that can be refused is refused before a byte of the
body is read.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tusd_py.protocol import rules
from tusd_py.protocol.errors import (
    FileChecksumMismatch,
    FileRefused,
    OffsetMismatch,
    ProtocolError,
    SizeExceeded,
    UploadGone,
    UploadNotFound,
)
from tusd_py.protocol.idempotency import CreationKey
from tusd_py.protocol.requests import PatchRequest
from tusd_py.protocol.rules import UploadFacts
from tusd_py.telemetry.events import Event
from tusd_py.telemetry.stages import Stages
from tusd_py.uploads import concatenation
from tusd_py.uploads.appender import AppendTools
from tusd_py.uploads.appending import Appending, Writer
from tusd_py.uploads.body import BodyReader
from tusd_py.uploads.completion import Finisher
from tusd_py.uploads.concatenation import Concatenator
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creator import Creator
from tusd_py.uploads.destinations import FindDestination
from tusd_py.uploads.gathering import Gatherer
from tusd_py.uploads.guard import Guard
from tusd_py.uploads.memory import MemoryBudget
from tusd_py.uploads.watch import Watch
from tusd_storage import lifecycle
from tusd_storage.errors import SessionUnknown, StaleLease, TailMissing
from tusd_storage.leases import Interruption, Lease, LeaseManager
from tusd_storage.ports import ObjectStore, SessionStore, TailStore
from tusd_storage.records import Kind, Protocol, SessionState, UploadSession
from tusd_storage.termination import Terminator


class UploadEngine:
    """Look at, append to, finish and terminate uploads; `creator` makes them."""

    def __init__(
        self,
        *,
        config: UploadConfig,
        sessions: SessionStore,
        objects: ObjectStore,
        tails: TailStore,
        leases: LeaseManager,
        now: Callable[[], datetime],
        find_destination: FindDestination | None = None,
        emit: Callable[[Event], None] | None = None,
        stages: Stages | None = None,
    ) -> None:
        """`find_destination`: profiles beside that of `config`."""
        emit, stages = emit or _tell_nobody, stages or Stages()
        self.config = config
        self._sessions = sessions
        self._leases = leases
        self._now = now
        self._terminator = Terminator(sessions, objects, tails, now)
        self._budget = MemoryBudget(config.memory_budget)
        self._watch = Watch(
            idle_timeout_s=config.body_idle_timeout_s, min_rate=config.min_body_rate
        )
        finisher = Finisher(sessions, objects, self._terminator, now, stages)
        gatherer = Gatherer(objects, self._budget, tails.spool)
        self._concatenator = Concatenator(
            sessions, objects, finisher, gatherer, config.limits, stages
        )
        self._appending = Appending(
            AppendTools(
                config=config,
                objects=objects,
                finisher=finisher,
                budget=self._budget,
                new_spool=tails.spool,
                emit=emit,
                stages=stages,
            ),
            guard=Guard(tails, node=config.node, rewinds=config.tail_loss == "rewind", emit=emit),
            sessions=sessions,
            tails=tails,
            watch=self._watch,
            now=now,
        )
        self.creator = Creator(
            config,
            sessions=sessions,
            leases=leases,
            watch=self._watch,
            appending=self._appending,
            finisher=finisher,
            concatenator=self._concatenator,
            terminator=self._terminator,
            now=now,
            find_destination=find_destination,
        )

    def begin_shutdown(self) -> None:
        """Every running body stops, keeps what it has, commits and ends. Later ones are refused."""
        self._watch.stop_all()

    @property
    def memory_used(self) -> int:
        """Bytes of request bodies held in memory now."""
        return self._budget.used

    @property
    def active(self) -> int:
        """Request bodies being read now."""
        return self._watch.active

    def receiving(self) -> dict[str, int]:
        """Offsets of the bodies this process receives now, acknowledged or not yet, by id."""
        return self._watch.received()

    async def aclose(self) -> None:
        """Ends the background task of the engine."""
        await self._watch.aclose()

    async def find(self, session_id: str) -> UploadSession:
        """The row of a tus upload. Raises: UploadNotFound."""
        session = self._leases.known(session_id) or await self._sessions.get(session_id)
        if session is None or session.protocol is not Protocol.TUS:
            raise UploadNotFound("there is no such upload")
        return session

    async def created(self, key: CreationKey) -> UploadSession | None:
        """The upload that was created with this key, or None; as `status` gives it.

        Raises: KeyReused when something else was asked for then; what `status` raises.
        """
        session = await self._sessions.created(key.key, now=self._now())
        if session is None:
            return None
        key.check(session.creation_digest)
        return await self.status(session)

    async def status(self, session: UploadSession) -> UploadSession:
        """The upload as HEAD may tell it: one that is fully received is finished first.

        Raises: UploadGone; LeaseHeld, TailMissing or Unavailable when it cannot be finished now.
        """
        rules.check_exists(_facts(session), self._now())
        if session.state is SessionState.COMPLETED:
            return session
        try:
            if session.kind is Kind.FINAL:
                return await self._finish_final(session)
            if not session.received:
                return session
            async with self._leases.hold(session.id, interrupt=_ignore, patience_s=0) as lease:
                return await self._appending.finish_received(lease)
        except OffsetMismatch:  # its last bytes were lost; the client is told where to go on
            return await self.find(session.id)
        except FileChecksumMismatch as error:
            raise FileRefused(str(error)) from error

    async def finish(self, session: UploadSession) -> UploadSession:
        """For the reaper: finishes an upload whose bytes are all here, even if it has expired.

        The row as it then is; unchanged when there is nothing to finish.
        Raises: LeaseHeld, TailMissing, Unavailable, Rejected.
        """
        try:
            if session.kind is Kind.FINAL:
                return await self._finish_final(session)
            async with self._leases.hold(session.id, interrupt=_ignore, patience_s=0) as lease:
                return await self._finish_here(lease)
        except ProtocolError:
            return await self.find(session.id)

    async def _finish_here(self, lease: Lease) -> UploadSession:
        """Leaves alone what another node has the last bytes of: that is no loss to rewind."""
        session = lease.session
        if session.state in lifecycle.TERMINAL or not session.received:
            return session
        has_tail = session.offset > 0 and session.state is not SessionState.VERIFYING
        if has_tail and session.tail_node != self.config.node:
            raise TailMissing(session.id, "other_node")
        return await self._appending.finish_received(lease)

    async def _finish_final(self, session: UploadSession) -> UploadSession:
        length = session.length
        if session.state is not SessionState.VERIFYING:  # then it has all its parts
            partials = await concatenation.load_partials(
                self._sessions, session.concat, owner=session.owner
            )
            longest = self.config.longest(
                deferred=False, profile=session.profile, max_size=session.max_size
            )
            length = concatenation.total_length(partials, longest)
            if not concatenation.finished(partials):
                return replace(session, length=length)
        async with self._leases.hold(session.id, interrupt=_ignore, patience_s=0) as lease:
            if lease.session.state in lifecycle.TERMINAL:
                return lease.session
            return await self._concatenator.assemble(self._appending.ledger(lease, length))

    async def patch(
        self, session_id: str, request: PatchRequest, reader: BodyReader
    ) -> UploadSession:
        """Appends a body; the upload is `completed` if that was its end.

        Raises: what `rules.check_patch` and `Appender.run` raise; TailMissing, LeaseHeld,
        UploadNotFound.
        """
        self._watch.check_open()
        writer = Writer()
        try:
            try:
                session = await self._patch_held(session_id, writer, request, reader)
            except StaleLease:  # nothing was done, and the lease that stayed is given back
                session = await self._patch_held(session_id, writer, request, reader)
        except SessionUnknown as error:
            raise UploadNotFound("there is no such upload") from error
        if writer.wrote or request.body.is_empty:
            return session
        if await self._watch.read(reader):  # nobody has read it: the upload was complete before
            raise SizeExceeded("the upload has all its bytes already")
        return session

    async def _patch_held(
        self, session_id: str, writer: Writer, request: PatchRequest, reader: BodyReader
    ) -> UploadSession:
        async with self._leases.hold(session_id, interrupt=writer.interrupt) as lease:
            return await self._patch(writer, lease, request, reader)

    async def _patch(
        self, writer: Writer, lease: Lease, request: PatchRequest, reader: BodyReader
    ) -> UploadSession:
        session = self._check_tus(lease.session)
        longest = self.config.longest(
            deferred=session.length is None, profile=session.profile, max_size=session.max_size
        )
        accepted = rules.check_patch(_facts(session), request, now=self._now(), max_size=longest)
        if session.received:
            return await self._appending.finish_received(lease)
        ledger = self._appending.ledger(lease, accepted.length)
        return await self._appending.append(
            writer, ledger, request.body, reader, accepted.max_bytes
        )

    async def terminate(self, session_id: str) -> None:
        """Termination: frees everything, of finished and unfinished uploads.

        Raises: UploadNotFound, UploadGone, LeaseHeld, Unavailable.
        """
        writer = Writer()
        try:
            async with self._leases.hold(session_id, interrupt=writer.interrupt) as lease:
                session = self._check_tus(lease.session)
                if _facts(session).ended:
                    raise UploadGone("the upload was terminated or has expired")
                if session.state is SessionState.VERIFYING:
                    session = await self._appending.finish_received(lease, release=False)
                if session.state is SessionState.COMPLETED:
                    await self._terminator.delete_finished(lease, session)
                else:
                    await self._terminator.abort_unfinished(
                        lease,
                        session,
                        state=SessionState.ABORTED,
                        failure="terminated",
                        thorough=False,
                    )
        except SessionUnknown as error:
            raise UploadNotFound("there is no such upload") from error

    def _check_tus(self, session: UploadSession) -> UploadSession:
        if session.protocol is not Protocol.TUS:
            raise UploadNotFound("there is no such upload")
        return session


def _ignore(_: Interruption) -> None:
    """For work that is short, or that only the store can end."""


def _tell_nobody(_: Event) -> None:
    """Where no telemetry is wanted."""


def _facts(session: UploadSession) -> UploadFacts:
    finished = session.state is SessionState.COMPLETED
    ended = session.state in lifecycle.TERMINAL and not finished
    return UploadFacts(
        offset=session.offset,
        length=session.length,
        is_final=session.kind is Kind.FINAL,
        ended=ended or session.deleted_at is not None,
        failure=session.failure,
        finished=finished,
        expires_at=session.expires_at,
    )
