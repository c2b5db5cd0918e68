"""The broker: direct-to-storage uploads from the first request to the recorded asset.

One door for applications in Python and for the HTTP API. Each function is one use case of its own
module; none makes a request to the store inside a database transaction. Events are told after the
commit, by the session store the broker is given (`tusd_py.telemetry.commits`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tusd_py.broker.cancellation import Canceller
from tusd_py.broker.creation import Admit, Initiator, Wish, admit_all
from tusd_py.broker.errors import (
    BrokerError,
    SessionBusy,
)
from tusd_py.broker.multipart import MultipartCompleter
from tusd_py.broker.parts import PartName
from tusd_py.broker.profiles import Profiles
from tusd_py.broker.results import (
    Multipart,
    Resumable,
    ResumableStatus,
    Signed,
    SignedForm,
    SignedPart,
    Verified,
)
from tusd_py.broker.resumable import Resumables, ResumableSessions
from tusd_py.broker.signing import UrlSigner
from tusd_py.broker.storehouse import Storehouse
from tusd_py.broker.verification import Lane
from tusd_py.telemetry.events import Event
from tusd_py.uploads.config import UploadConfig
from tusd_storage.leases import Lease, LeaseManager
from tusd_storage.ports import SessionStore, TailStore
from tusd_storage.ports.direct import DirectSessions, DirectStore
from tusd_storage.records import Part, Protocol, SessionState, Strategy, UploadSession
from tusd_storage.termination import Terminator


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerParts:
    """What stands behind a broker."""

    sessions: SessionStore
    direct: DirectSessions
    objects: DirectStore
    tails: TailStore
    leases: LeaseManager
    resumables: Resumables
    uploads: UploadConfig
    session_uri: Callable[[str], str]
    """The URL of a tus upload, by its id."""
    emit: Callable[[Event], None]
    now: Callable[[], datetime]
    admit: Admit = admit_all


class Broker:
    """Manages direct-to-storage upload sessions. Made once for a process."""

    def __init__(self, profiles: Profiles, parts: BrokerParts) -> None:
        self.profiles = profiles
        self._direct = parts.direct
        storehouse = Storehouse(parts.objects, profiles)
        self._lane = Lane(
            sessions=parts.sessions, leases=parts.leases, storehouse=storehouse, now=parts.now
        )
        self._initiator = Initiator(
            profiles=profiles,
            sessions=parts.sessions,
            objects=parts.objects,
            uploads=parts.uploads,
            session_uri=parts.session_uri,
            now=parts.now,
            admit=parts.admit,
        )
        self._signer = UrlSigner(
            profiles=profiles,
            sessions=parts.sessions,
            direct=parts.direct,
            objects=parts.objects,
            now=parts.now,
        )
        self._multipart = MultipartCompleter(
            profiles=profiles,
            sessions=parts.sessions,
            objects=parts.objects,
            storehouse=storehouse,
            lane=self._lane,
            node=parts.uploads.node,
            now=parts.now,
        )
        self._resumable = ResumableSessions(
            parts.resumables, self._lane, emit=parts.emit, now=parts.now
        )
        self._canceller = Canceller(
            leases=parts.leases,
            terminator=Terminator(parts.sessions, parts.objects, parts.tails, parts.now),
            lane=self._lane,
        )

    async def initiate_session(
        self,
        profile: str,
        *,
        filename: str | None = None,
        expires_in: timedelta | None = None,
        content_type: str | None = None,
        size: int | None = None,
        owner: str | None = None,
        max_size: int | None = None,
    ) -> UploadSession:
        """A new session for one presigned PUT: asset `staged`, session `initialized`, or neither.

        Content type, and the size where it is declared, become part of the signature and are
        verified at completion. `expires_in` is cut to what the profile allows. `max_size` is what
        the creator may send at most.

        Raises: UnknownProfile, UploadUnsupported, ContentTypeRefused, SizeRefused,
        InvalidArgument; StateUnavailable.
        """
        wish = Wish(
            filename=filename,
            content_type=content_type,
            size=size,
            expires_in=expires_in,
            owner=owner,
            max_size=max_size,
        )
        return await self._initiator.presigned(profile, wish)

    async def sign_url(self, session_id: str, *, expires_in: timedelta | None = None) -> Signed:
        """A presigned PUT at the public endpoint; the session is `signed`. May be called again.

        The client must send the headers as they are. The URL ends with the session at the latest.

        Raises: SessionNotFound, SessionExpired, InvalidTransition, UploadUnsupported.
        """
        return await self._signer.put(session_id, expires_in=expires_in)

    async def sign_form(
        self, session_id: str, *, expires_in: timedelta | None = None
    ) -> SignedForm:
        """As `sign_url`, for an HTML form (S3: POST Object)."""
        return await self._signer.form(session_id, expires_in=expires_in)

    async def verify_completion(self, session_id: str) -> Verified:
        """The client says that the object is there: proves it, and records it once.

        Session `completed`, asset `validating` with measured size and content type, and the job
        `promote_asset`, in one transaction. A session that is completed is returned as it is.

        Raises: ObjectMissing (nothing has changed), ObjectMismatch (the session is `failed`),
        InvalidTransition, SessionNotFound, SessionBusy; StoreUnavailable, StateUnavailable: call
        again. A cancelled call changed all or nothing.
        """
        session = await self._lane.load(session_id)
        if session.protocol is Protocol.TUS:
            return await self._lane.verified(await self._resumable.finished(session))

        async def work(lease: Lease) -> UploadSession:
            begun = lease.session.state is SessionState.VERIFYING
            if begun and lease.session.strategy is Strategy.MULTIPART:
                return await self._multipart.finish(lease, lease.session)
            return await self._lane.prove(lease, lease.session)

        return await self._lane.verified(await self._lane.exclusively(session, work))

    async def initiate_multipart_session(
        self,
        profile: str,
        *,
        filename: str | None = None,
        expires_in: timedelta | None = None,
        content_type: str | None = None,
        size: int | None = None,
        part_size: int | None = None,
        owner: str | None = None,
        max_size: int | None = None,
    ) -> Multipart:
        """A new session with an open multipart upload, whose parts the client sends.

        When the row cannot be saved, the multipart upload is aborted. `part_size` is what the
        client should cut into; it follows from the size unless the caller names one.

        Raises: as `initiate_session`, and StoreUnavailable.
        """
        wish = Wish(
            filename=filename,
            content_type=content_type,
            size=size,
            expires_in=expires_in,
            part_size=part_size,
            owner=owner,
            max_size=max_size,
        )
        return await self._initiator.multipart(profile, wish)

    async def sign_multipart_part(
        self,
        session_id: str,
        part_number: int,
        *,
        expires_in: timedelta | None = None,
        size: int | None = None,
    ) -> SignedPart:
        """A signed UploadPart, for this number and no other; the session is `signed`.

        `size` binds the part's length. Never falls back to a plain PUT.

        Raises: InvalidParts for numbers beyond 1 to 10,000; MultipartNotInitialized,
        SessionNotFound, SessionExpired, InvalidTransition.
        """
        return await self._signer.part(session_id, part_number, expires_in=expires_in, size=size)

    async def list_multipart_parts(self, session_id: str) -> list[Part]:
        """The parts the store has, for a client that goes on (their CRCs are unknown).

        Raises: MultipartNotInitialized, SessionNotFound; NoSuchUpload once it is completed.
        """
        return await self._signer.parts(session_id)

    async def complete_multipart_upload(
        self, session_id: str, parts: Sequence[PartName]
    ) -> Verified:
        """Completes with these parts, in any order, and verifies as `verify_completion`.

        Raises: InvalidParts (nothing has changed, unless the store refused what it had listed),
        MultipartNotInitialized, MultipartVanished, and as `verify_completion`.
        """
        return await self._lane.verified(await self._multipart.complete(session_id, parts))

    async def initiate_resumable_session(
        self,
        profile: str,
        *,
        filename: str | None = None,
        expires_in: timedelta | None = None,
        content_type: str | None = None,
        size: int | None = None,
        owner: str | None = None,
        max_size: int | None = None,
    ) -> Resumable:
        """A new resumable session: a tus upload of this server, its URI the upload's URL.

        Without `size` the length is deferred (tus, Creation Defer Length).

        Raises: as `initiate_session`.
        """
        wish = Wish(
            filename=filename,
            content_type=content_type,
            size=size,
            expires_in=expires_in,
            owner=owner,
            max_size=max_size,
        )
        return await self._initiator.resumable(profile, wish)

    async def resumable_session_status(self, session_id: str) -> ResumableStatus:
        """How far a resumable session is. Reads; does not move the state machine.

        Raises: SessionNotFound, ResumableNotInitialized.
        """
        return await self._resumable.status(session_id)

    async def cancel_resumable_session(self, session_id: str) -> UploadSession:
        """Aborts the storage side, then the row; whoever writes is interrupted.

        A store that would not abort leaves `cleanup_reason` in the row for the reaper.

        Raises: ResumableNotInitialized, and as `cancel_session`.
        """
        await self._resumable.load(session_id)
        return await self._canceller.cancel(session_id)

    async def cancel_session(self, session_id: str) -> UploadSession:
        """As `cancel_resumable_session`, for every strategy.

        Raises: InvalidTransition once it is being verified or has ended otherwise,
        SessionNotFound, SessionBusy; StateUnavailable.
        """
        return await self._canceller.cancel(session_id)

    async def finish(self, session: UploadSession) -> UploadSession:
        """For sweeps: completes a direct session whose client never came back to say so.

        An object that proves itself completes it; one that breaks its promise fails it. The row as
        it then is; unchanged when there is nothing to finish.

        Raises: LeaseHeld, Unavailable, Rejected.
        """
        try:
            return (await self.verify_completion(session.id)).session
        except SessionBusy as busy:
            raise busy.__cause__ or busy from None
        except BrokerError:
            return await self._lane.load(session.id)

    async def find(self, session_id: str) -> UploadSession:
        """The row. Raises: SessionNotFound."""
        return await self._lane.load(session_id)

    async def find_by_key(self, bucket: str, object_key: str) -> UploadSession | None:
        """The session whose object has this key."""
        return await self._direct.by_key(bucket, object_key)

    async def show(self, session_id: str) -> Verified:
        """The session, completed or not, with its asset. Raises: SessionNotFound."""
        return await self._lane.verified(await self._lane.load(session_id))
