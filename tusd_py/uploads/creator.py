"""Creating uploads: empty ones, with a first body, or put together from partial ones.

Knows ports, no adapter, no HTTP. Everything that can be refused is refused before a byte of the
body is read.
"""

from collections.abc import Callable
from datetime import datetime

from tusd_py.protocol.errors import NotConcatenable, ProtocolError, UploadNotFound
from tusd_py.protocol.idempotency import CreationKey
from tusd_py.protocol.requests import CreateRequest
from tusd_py.uploads import concatenation
from tusd_py.uploads.appending import Appending, Writer
from tusd_py.uploads.body import Begun, BodyReader, Interrupted
from tusd_py.uploads.completion import Finisher
from tusd_py.uploads.concatenation import Concatenator
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import ANYWHERE, Place, new_upload
from tusd_py.uploads.destinations import Destination, FindDestination
from tusd_py.uploads.watch import Watch
from tusd_storage.errors import Unavailable
from tusd_storage.leases import Interruption, LeaseManager
from tusd_storage.ports import SessionStore
from tusd_storage.records import Asset, SessionState, UploadSession
from tusd_storage.termination import Terminator


class Creator:
    """Everything between a request for a new upload and its row, its first bytes included."""

    def __init__(
        self,
        config: UploadConfig,
        *,
        sessions: SessionStore,
        leases: LeaseManager,
        watch: Watch,
        appending: Appending,
        finisher: Finisher,
        concatenator: Concatenator,
        terminator: Terminator,
        now: Callable[[], datetime],
        find_destination: FindDestination | None = None,
    ) -> None:
        """`find_destination`: profiles beside that of `config`."""
        self._config = config
        self._sessions = sessions
        self._leases = leases
        self._watch = watch
        self._appending = appending
        self._finisher = finisher
        self._concatenator = concatenator
        self._terminator = terminator
        self._now = now
        self._find_destination = find_destination

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
        it again raises CreationRepeated, see `UploadEngine.created`. `profile`: None for the
        default one. `created` is told of an upload with a body before that is read.
        Raises: AlreadyExists, QuotaExceeded, CreationRepeated, SizeExceeded, NotConcatenable,
        ChecksumMismatch and FileChecksumMismatch (nothing is left), Unavailable, Interrupted,
        ClientGone.
        """
        if request.concat.final:
            return await self._create_final(request, owner, max_size, profile, key, place)
        destination = self._destination(profile)
        session, asset = new_upload(
            request,
            self._config if destination is None else destination.config,
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
        self._watch.check_open()
        if not request.body.is_empty:
            reader = Begun(await self._watch.read(reader), reader)
        session = await self._leases.create(session, asset)
        return await self._fill(session, request, reader, created, new=place.id is None)

    async def length_of(self, request: CreateRequest, *, owner: str | None) -> int | None:
        """Length in bytes of the upload that is asked for; None while it is not known.

        Raises: NotConcatenable, SizeExceeded.
        """
        if not request.concat.final:
            return request.length
        partials = await concatenation.load_partials(
            self._sessions, request.concat.ids, owner=owner
        )
        return concatenation.total_length(partials, self._config.longest(deferred=False))

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
        limited = self._config.owner_size_limited and session.owner is not None
        return limited and session.length is None

    def _destination(self, profile: str | None) -> Destination | None:
        if profile in (None, self._config.profile) or self._find_destination is None:
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
        writer = Writer()
        async with self._leases.adopt(session, interrupt=writer.interrupt) as lease:
            if self._may_differ(session):
                lease.session = session = await self._inserted(session.id)
            if created is not None:
                created(session)
            ledger = self._appending.ledger(lease, request.length)
            if request.length == 0 and request.body.is_empty:
                return await self._finisher.finish(ledger)
            longest = self._config.longest(
                deferred=request.length is None,
                profile=session.profile,
                max_size=session.max_size,
            )
            room = longest if request.length is None else request.length
            try:
                return await self._appending.append(
                    writer, ledger, request.body, reader, room, new=new
                )
            except (Unavailable, Interrupted):
                # What was stored is told; the client goes on from there (Creation With Upload).
                if ledger.session.received:
                    raise
                return ledger.session
            except ProtocolError:
                if not lease.given_back:  # as it is when the upload has failed for good
                    await self._terminator.abort_unfinished(
                        lease,
                        ledger.session,
                        state=SessionState.ABORTED,
                        failure="refused",
                        thorough=False,
                    )
                raise

    async def _inserted(self, session_id: str) -> UploadSession:
        session = await self._sessions.get(session_id)
        if session is None:
            raise UploadNotFound("there is no such upload")
        return session

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
        config = self._config if destination is None else destination.config
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
            return await self._concatenator.assemble(self._appending.ledger(lease, length))


def _ignore(_: Interruption) -> None:
    """For work that only the store can end."""
