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
    NotConcatenable,
    OffsetMismatch,
    ProtocolError,
    SizeExceeded,
    UploadGone,
    UploadNotFound,
)
from tusd_py.protocol.idempotency import CreationKey
from tusd_py.protocol.requests import BodyFacts, CreateRequest, PatchRequest
from tusd_py.protocol.rules import UploadFacts
from tusd_py.telemetry.events import Event
from tusd_py.telemetry.stages import Stages
from tusd_py.uploads import concatenation
from tusd_py.uploads.appender import Appender, AppendTools
from tusd_py.uploads.body import Begun, BodyReader, Interrupted, Stop
from tusd_py.uploads.completion import EMPTY, Finisher
from tusd_py.uploads.concatenation import Concatenator
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import ANYWHERE, Place, new_upload
from tusd_py.uploads.destinations import Destination, FindDestination
from tusd_py.uploads.gathering import Gatherer
from tusd_py.uploads.guard import Guard
from tusd_py.uploads.ledger import Ledger
from tusd_py.uploads.memory import MemoryBudget
from tusd_py.uploads.watch import Watch
from tusd_storage import lifecycle
from tusd_storage.errors import (
    NoSuchUpload,
    SessionUnknown,
    StaleLease,
    TailMissing,
    Unavailable,
)
from tusd_storage.leases import Interruption, Lease, LeaseManager
from tusd_storage.ports import ObjectStore, SessionStore, TailStore
from tusd_storage.records import Asset, Body, Kind, Protocol, SessionState, UploadSession
from tusd_storage.termination import Terminator

_STOPS = {
    Interruption.WANTED: Stop.WANTED,
    Interruption.LOST: Stop.LOST,
    Interruption.SHUTDOWN: Stop.SHUTDOWN,
}


class UploadEngine:
    """Create, look at, append to, finish and terminate uploads."""

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
        self._find_destination = find_destination
        self._sessions = sessions
        self._tails = tails
        self._leases = leases
        self._now = now
        rewinds = config.tail_loss == "rewind"
        self._guard = Guard(tails, node=config.node, rewinds=rewinds, emit=emit)
        self._terminator = Terminator(sessions, objects, tails, now)
        self._finisher = Finisher(sessions, objects, self._terminator, now, stages)
        budget = MemoryBudget(config.memory_budget)
        gatherer = Gatherer(objects, budget, tails.spool)
        self._concatenator = Concatenator(
            sessions, objects, self._finisher, gatherer, config.limits, stages
        )
        self._watch = Watch(
            idle_timeout_s=config.body_idle_timeout_s, min_rate=config.min_body_rate
        )
        self._tools = AppendTools(
            config=config,
            objects=objects,
            finisher=self._finisher,
            budget=budget,
            new_spool=tails.spool,
            emit=emit,
            stages=stages,
        )

    def begin_shutdown(self) -> None:
        """Every running body stops, keeps what it has, commits and ends. Later ones are refused."""
        self._watch.stop_all()

    @property
    def memory_used(self) -> int:
        """Bytes of request bodies held in memory now."""
        return self._tools.budget.used

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

    async def create(
        self,
        request: CreateRequest,
        reader: BodyReader,
        *,
        owner: str | None,
        max_size: int | None = None,
        profile: str | None = None,
        key: CreationKey | None = None,
        place: Place = ANYWHERE,
        created: Callable[[UploadSession], object] | None = None,
    ) -> UploadSession:
        """Creation, Creation With Upload, Concatenation: the upload after its body, if any.

        A body that could only partly be stored gives an upload with a smaller offset; one that
        never begins gives none.
        `max_size`: the most bytes it may ever have, where the grant limits it. `key`: creating with
        it again raises CreationRepeated, see `created`. `profile`: None for the default one.
        `created` is told of an upload with a body before that is read.
        Raises: AlreadyExists, QuotaExceeded, CreationRepeated, SizeExceeded, NotConcatenable,
        ChecksumMismatch and FileChecksumMismatch (nothing is left), Unavailable, Interrupted,
        ClientGone.
        """
        if request.concat.final:
            return await self._create_final(request, owner, max_size, profile, key, place)
        destination = self._destination(profile)
        session, asset = new_upload(
            request,
            self.config if destination is None else destination.config,
            owner=owner,
            length=request.length,
            now=self._now(),
            max_size=max_size,
            creation=key,
            destination=destination,
            place=place,
        )
        if request.body.is_empty and request.length != 0:
            return await self._create_empty(session, asset)
        self._refuse_when_closing()
        if not request.body.is_empty:
            reader = Begun(await self._watch.read(reader), reader)
        session = await self._leases.create(session, asset)
        return await self._fill(session, request, reader, created, new=place.id is None)

    async def _create_empty(self, session: UploadSession, asset: Asset | None) -> UploadSession:
        """Nobody has sent a byte yet; who will, mostly does so at once."""
        if not self._leases.keeps or self._may_differ(session):
            await self._sessions.create(session, asset)
            return session
        session = await self._leases.create(session, asset)
        self._leases.keep(session)
        return session

    def _may_differ(self, session: UploadSession) -> bool:
        """Whether the row got a limit of its own from what its owner may still have."""
        limited = self.config.owner_size_limited and session.owner is not None
        return limited and session.length is None

    async def length_of(self, request: CreateRequest, *, owner: str | None) -> int | None:
        """Length in bytes of the upload that is asked for; None while it is not known.

        Raises: NotConcatenable, SizeExceeded.
        """
        if not request.concat.final:
            return request.length
        partials = await concatenation.load_partials(
            self._sessions, request.concat.ids, owner=owner
        )
        return concatenation.total_length(partials, self.config.longest(deferred=False))

    def _destination(self, profile: str | None) -> Destination | None:
        if profile in (None, self.config.profile) or self._find_destination is None:
            return None
        return self._find_destination(str(profile))

    async def _fill(
        self,
        session: UploadSession,
        request: CreateRequest,
        reader: BodyReader,
        created: Callable[[UploadSession], object] | None,
        *,
        new: bool,
    ) -> UploadSession:
        writer = _Writer()
        async with self._leases.adopt(session, interrupt=writer.interrupt) as lease:
            if self._may_differ(session):
                lease.session = session = await self.find(session.id)
            if created is not None:
                created(session)
            ledger = self._ledger(lease, request.length)
            if request.length == 0 and request.body.is_empty:
                return await self._finisher.finish(ledger)
            longest = self.config.longest(
                deferred=request.length is None,
                profile=session.profile,
                max_size=session.max_size,
            )
            room = longest if request.length is None else request.length
            try:
                return await self._append(writer, ledger, request.body, reader, room, new=new)
            except (Unavailable, Interrupted):
                # What was stored is told; the client goes on from there (Creation With Upload).
                if ledger.session.received:
                    raise
                return ledger.session
            except ProtocolError:
                if not lease.given_back:  # as it is when the upload has failed for good
                    await self._abort(lease, ledger.session, failure="refused")
                raise

    async def _create_final(
        self,
        request: CreateRequest,
        owner: str | None,
        max_size: int | None,
        profile: str | None,
        key: CreationKey | None,
        place: Place,
    ) -> UploadSession:
        """Concatenation. With unfinished partials the final upload waits for them."""
        partials = await concatenation.load_partials(
            self._sessions, request.concat.ids, owner=owner
        )
        destination = self._destination(profile)
        config = self.config if destination is None else destination.config
        if any(partial.profile != config.profile for partial in partials):
            raise NotConcatenable("Upload-Concat names a partial upload of another profile")
        longest = config.longest(deferred=False, max_size=max_size)
        length = concatenation.total_length(partials, longest)
        session, asset = new_upload(
            request,
            config,
            owner=owner,
            length=length,
            now=self._now(),
            max_size=max_size,
            creation=key,
            destination=destination,
            place=place,
        )
        if not concatenation.finished(partials):
            await self._sessions.create(session, asset)
            return session
        session = await self._leases.create(session, asset)
        async with self._leases.adopt(session, interrupt=_ignore) as lease:
            return await self._concatenator.assemble(self._ledger(lease, length))

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
                return await self._resume_finish(lease)
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
        return await self._resume_finish(lease)

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
            return await self._concatenator.assemble(self._ledger(lease, length))

    async def patch(
        self, session_id: str, request: PatchRequest, reader: BodyReader
    ) -> UploadSession:
        """Appends a body; the upload is `completed` if that was its end.

        Raises: what `rules.check_patch` and `Appender.run` raise; TailMissing, LeaseHeld,
        UploadNotFound.
        """
        self._refuse_when_closing()
        writer = _Writer()
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
        self, session_id: str, writer: "_Writer", request: PatchRequest, reader: BodyReader
    ) -> UploadSession:
        async with self._leases.hold(session_id, interrupt=writer.interrupt) as lease:
            return await self._patch(writer, lease, request, reader)

    async def _patch(
        self, writer: "_Writer", lease: Lease, request: PatchRequest, reader: BodyReader
    ) -> UploadSession:
        session = self._check_tus(lease.session)
        longest = self.config.longest(
            deferred=session.length is None, profile=session.profile, max_size=session.max_size
        )
        accepted = rules.check_patch(_facts(session), request, now=self._now(), max_size=longest)
        if session.received:
            return await self._resume_finish(lease)
        ledger = self._ledger(lease, accepted.length)
        return await self._append(writer, ledger, request.body, reader, accepted.max_bytes)

    async def _append(
        self,
        writer: "_Writer",
        ledger: Ledger,
        facts: BodyFacts,
        reader: BodyReader,
        room: int,
        *,
        new: bool = False,
    ) -> UploadSession:
        tail = await self._guard.open(ledger, new=new)
        try:
            appender = Appender(self._tools, ledger, tail, reader, facts, max_bytes=room)
            writer.attach(appender)
            with self._watch.over(appender):
                done = await self._run(appender, ledger)
            if done.state is not SessionState.COMPLETED:
                ledger.lease.stay(done)
            elif tail.exists:
                await self._tails.delete(done.id)
            return done
        finally:
            await tail.aclose()

    async def _run(self, appender: Appender, ledger: Ledger) -> UploadSession:
        try:
            return await appender.run()
        except NoSuchUpload as error:
            # Somebody aborted it behind our back, or a termination was cut short.
            await self._finisher.give_up(ledger, "multipart_vanished")
            raise UploadGone("the store no longer has the parts of this upload") from error

    async def _resume_finish(self, lease: Lease, *, release: bool = True) -> UploadSession:
        """Every byte is here, the object is not: finish what a crash or a failing store left."""
        session = lease.session
        if session.state is SessionState.COMPLETED:
            return session
        ledger = self._ledger(lease, session.length)
        if session.state is SessionState.VERIFYING or session.offset == 0:
            return await self._finisher.finish(ledger, release=release)
        tail = await self._guard.open(ledger)
        try:
            last = EMPTY
            if session.tail_size:
                last = Body(
                    segments=(tail.range(),), size=session.tail_size, crc32=session.tail_crc32
                )
            done = await self._finisher.finish(ledger, last, release=release)
        finally:
            await tail.aclose()
        await self._tails.delete(session.id)
        return done

    async def terminate(self, session_id: str) -> None:
        """Termination: frees everything, of finished and unfinished uploads.

        Raises: UploadNotFound, UploadGone, LeaseHeld, Unavailable.
        """
        writer = _Writer()
        try:
            async with self._leases.hold(session_id, interrupt=writer.interrupt) as lease:
                session = self._check_tus(lease.session)
                if _facts(session).ended:
                    raise UploadGone("the upload was terminated or has expired")
                if session.state is SessionState.VERIFYING:
                    session = await self._resume_finish(lease, release=False)
                if session.state is SessionState.COMPLETED:
                    await self._terminator.delete_finished(lease, session)
                else:
                    await self._abort(lease, session, failure="terminated")
        except SessionUnknown as error:
            raise UploadNotFound("there is no such upload") from error

    async def _abort(self, lease: Lease, session: UploadSession, *, failure: str) -> None:
        await self._terminator.abort_unfinished(
            lease, session, state=SessionState.ABORTED, failure=failure, thorough=False
        )

    def _ledger(self, lease: Lease, length: int | None) -> Ledger:
        return Ledger(self._sessions, lease, self.config, self._now, length=length)

    def _check_tus(self, session: UploadSession) -> UploadSession:
        if session.protocol is not Protocol.TUS:
            raise UploadNotFound("there is no such upload")
        return session

    def _refuse_when_closing(self) -> None:
        if self._watch.closing:
            raise Interrupted(Stop.SHUTDOWN)


class _Writer:
    """Passes an interruption of the lease on to the appender, however early it comes."""

    def __init__(self) -> None:
        self._appender: Appender | None = None
        self._stop: Stop | None = None

    def interrupt(self, why: Interruption) -> None:
        self._stop = _STOPS[why]
        if self._appender is not None:
            self._appender.stop(self._stop)

    @property
    def wrote(self) -> bool:
        """Whether the body was read, to its end if nothing was raised."""
        return self._appender is not None

    def attach(self, appender: Appender) -> None:
        self._appender = appender
        if self._stop is not None:
            appender.stop(self._stop)


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
