"""Signatures for clients: short-lived, bound to one object, never longer than the session.

A signature is computed here, without a request to the store; then the row says that it exists.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from tusd_py.broker.errors import (
    InvalidArgument,
    InvalidParts,
    InvalidTransition,
    MultipartNotInitialized,
    MultipartVanished,
    SessionExpired,
    SessionNotFound,
    UploadUnsupported,
    broker_errors,
)
from tusd_py.broker.parts import MAX_PART_NUMBER
from tusd_py.broker.profiles import MAX_SINGLE_PUT, Profiles
from tusd_py.broker.results import Signed, SignedForm, SignedPart
from tusd_py.uploads.completion import object_spec
from tusd_storage import lifecycle
from tusd_storage.errors import NoSuchUpload
from tusd_storage.ports import SessionStore
from tusd_storage.ports.direct import DirectSessions, DirectStore
from tusd_storage.records import Part, SessionState, Strategy, UploadSession

MAX_URL_LIFE = timedelta(days=7)
"""SigV4 signs for no longer."""
DEFAULT_URL_LIFE = timedelta(hours=1)


class UrlSigner:
    """Signs for sessions of the strategies `presigned_put` and `multipart`."""

    def __init__(
        self,
        *,
        profiles: Profiles,
        sessions: SessionStore,
        direct: DirectSessions,
        objects: DirectStore,
        now: Callable[[], datetime],
    ) -> None:
        self._profiles = profiles
        self._sessions = sessions
        self._direct = direct
        self._objects = objects
        self._now = now

    async def put(self, session_id: str, *, expires_in: timedelta | None) -> Signed:
        """One PUT of the whole object: type, token and a declared length are bound.

        Raises: InvalidArgument where the size is limited and was not declared: no signature of a
        PUT could bind the limit.
        """
        session = await self._load(session_id, Strategy.PRESIGNED_PUT)
        profile = self._profiles.find(session.profile)
        limited = session.max_size is not None or (profile and profile.max_size is not None)
        if limited and session.size_promised is None:
            raise InvalidArgument("sizes are limited here: create a session that declares its size")
        presigned = await self._objects.presign_put(
            object_spec(session),
            expires_in_s=self._life_s(session, expires_in),
            content_length=session.size_promised,
        )
        return Signed(session=await self._mark(session), presigned=presigned)

    async def form(self, session_id: str, *, expires_in: timedelta | None) -> SignedForm:
        """One POST form: as `put`, and the size is bounded even where none was declared."""
        session = await self._load(session_id, Strategy.PRESIGNED_PUT)
        life_s = self._life_s(session, expires_in)
        profile = self._profiles.find(session.profile)
        longest = profile.longest(session.strategy) if profile else MAX_SINGLE_PUT
        if session.max_size is not None:
            longest = min(longest, session.max_size)
        promised = session.size_promised
        form = await self._objects.presign_post(
            object_spec(session),
            expires_in_s=life_s,
            min_size=promised or 0,
            max_size=longest if promised is None else promised,
        )
        return SignedForm(
            session=await self._mark(session),
            url=form.url,
            fields=form.fields,
            expires_in_s=life_s,
        )

    async def part(
        self,
        session_id: str,
        part_number: int,
        *,
        expires_in: timedelta | None,
        size: int | None = None,
    ) -> SignedPart:
        """One UploadPart; `size` binds its length. Never anything but a part."""
        if not 1 <= part_number <= MAX_PART_NUMBER:
            raise InvalidParts(f"part numbers are 1 to {MAX_PART_NUMBER}")
        if size is not None and size < 1:
            raise InvalidArgument("a part's size is at least one byte")
        session, upload_id = await self._load_multipart(session_id)
        life_s = self._life_s(session, expires_in)
        presigned = await self._objects.presign_part(
            session.bucket,
            session.object_key,
            upload_id,
            part_number,
            expires_in_s=life_s,
            content_length=size,
        )
        return SignedPart(
            session=await self._mark(session),
            part_number=part_number,
            upload_id=upload_id,
            presigned=presigned,
            expires_in_s=life_s,
        )

    async def parts(self, session_id: str) -> list[Part]:
        """The parts that the store has, for a client that goes on."""
        session, upload_id = await self._load_multipart(session_id)
        if session.state in lifecycle.TERMINAL:
            raise InvalidTransition(session_id, source=session.state, target=SessionState.UPLOADING)
        try:
            return await self._objects.list_parts(session.bucket, session.object_key, upload_id)
        except NoSuchUpload as error:
            raise MultipartVanished(f"session {session_id}: its parts are gone") from error

    async def _load(self, session_id: str, strategy: Strategy) -> UploadSession:
        session = await self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound("there is no such session")
        if session.strategy is not strategy:
            raise UploadUnsupported(f"this session's strategy is {session.strategy}")
        return session

    async def _load_multipart(self, session_id: str) -> tuple[UploadSession, str]:
        session = await self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound("there is no such session")
        if session.strategy is not Strategy.MULTIPART or session.upload_id is None:
            raise MultipartNotInitialized(f"session {session_id} has no multipart upload")
        return session, session.upload_id

    async def _mark(self, session: UploadSession) -> UploadSession:
        with broker_errors(session.id):
            return await self._direct.mark_signed(session.id, now=self._now())

    def _life_s(self, session: UploadSession, expires_in: timedelta | None) -> int:
        """Whole seconds, at least one. Raises: SessionExpired, InvalidTransition."""
        if session.state in lifecycle.TERMINAL or session.state is SessionState.VERIFYING:
            raise InvalidTransition(session.id, source=session.state, target=SessionState.SIGNED)
        if expires_in is not None and expires_in < timedelta(seconds=1):
            raise InvalidArgument("expires_in is below one second")
        profile = self._profiles.find(session.profile)
        usual = profile.url_expires_in if profile else DEFAULT_URL_LIFE
        life = min(expires_in or usual, MAX_URL_LIFE)
        if session.expires_at is not None:
            life = min(life, session.expires_at - self._now())
        if life <= timedelta(0):
            raise SessionExpired(f"session {session.id} has expired: create a new one")
        return max(1, int(life.total_seconds()))
