"""The first step of every strategy: rows for a session nobody has written to.

A multipart upload is opened before its row is written, so that the row never names one that does
not exist; when the row cannot be written, it is aborted again.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from tusd_py.broker.errors import InvalidArgument, SizeRefused
from tusd_py.broker.profiles import Profile, Profiles, destination_of
from tusd_py.broker.results import Multipart, Resumable
from tusd_py.protocol import metadata
from tusd_py.protocol.concat import Concat
from tusd_py.protocol.requests import BodyFacts, CreateRequest
from tusd_py.uploads.completion import object_spec
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import new_upload, new_upload_id
from tusd_storage import partplan
from tusd_storage.errors import Rejected, StateUnavailable, Unavailable
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.ports import ObjectStore, SessionStore
from tusd_storage.records import (
    Asset,
    AssetState,
    Kind,
    Protocol,
    SessionState,
    Strategy,
    UploadSession,
)

log = structlog.get_logger(__name__)

_ID_BYTES = 18
"""144 random bits, as for uploads: knowing the id is knowing the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller says about the file to come."""

    filename: str | None = None
    content_type: str | None = None
    size: int | None = None
    """Bytes, where it is known: then bound into signatures and verified at completion."""
    expires_in: timedelta | None = None
    """How long the session shall live; never longer than the profile allows."""
    part_size: int | None = None
    """Bytes of a part; only for multipart sessions."""
    owner: str | None = None
    max_size: int | None = None
    """Bytes, where the grant limits them."""


Admit = Callable[[str, Wish], Awaitable[tuple[str, Wish]]]
"""Asked before a session is made, with its profile and the wish; returns both as they shall be.
Raises what refuses it."""


async def admit_all(profile: str, wish: Wish) -> tuple[str, Wish]:
    """Where there is nobody to ask."""
    return profile, wish


class Initiator:
    """Creates sessions of each strategy."""

    def __init__(
        self,
        *,
        profiles: Profiles,
        sessions: SessionStore,
        objects: ObjectStore,
        uploads: UploadConfig,
        session_uri: Callable[[str], str],
        now: Callable[[], datetime],
        admit: Admit = admit_all,
    ) -> None:
        self._profiles = profiles
        self._sessions = sessions
        self._objects = objects
        self._uploads = uploads
        self._session_uri = session_uri
        self._now = now
        self._admit = admit

    async def presigned(self, profile_name: str, wish: Wish) -> UploadSession:
        """Asset `staged` and session `initialized`, both or none."""
        profile, wish = await self._admitted(profile_name, Strategy.PRESIGNED_PUT, wish)
        session, asset = self._rows(profile, Strategy.PRESIGNED_PUT, wish)
        await self._sessions.create(session, asset)
        return session

    async def multipart(self, profile_name: str, wish: Wish) -> Multipart:
        """As `presigned`, with an open multipart upload. Raises: StoreUnavailable, …."""
        profile, wish = await self._admitted(profile_name, Strategy.MULTIPART, wish)
        session, asset = self._rows(profile, Strategy.MULTIPART, wish)
        upload_id = await self._objects.create_multipart(object_spec(session), direct=True)
        session = replace(session, upload_id=upload_id)
        await self._save_opened(session, asset, upload_id)
        return Multipart(
            session=session,
            upload_id=upload_id,
            upload_key=session.object_key,
            part_size=session.part_size,
            part_headers={},
        )

    async def resumable(self, profile_name: str, wish: Wish) -> Resumable:
        """A tus upload of this server, with nothing written to it yet."""
        profile, wish = await self._admitted(profile_name, Strategy.RESUMABLE, wish)
        _check(profile, Strategy.RESUMABLE, wish)
        now = self._now()
        expires_in = _expires_in(profile, wish)
        config = replace(destination_of(profile, self._uploads).config, expires_in=expires_in)
        session, asset = new_upload(
            _create_request(wish),
            config,
            owner=wish.owner,
            length=wish.size,
            now=now,
            max_size=wish.max_size,
        )
        key = profile.key(session.id.replace("~", "-"), session.filename, now)
        session = replace(session, object_key=key)
        await self._sessions.create(session, replace(asset, object_key=key) if asset else None)
        return Resumable(
            session=session,
            session_uri=self._session_uri(session.id),
            upload_id=session.id,
            expires_at=session.expires_at or now + expires_in,
        )

    async def _admitted(
        self, profile_name: str, strategy: Strategy, wish: Wish
    ) -> tuple[Profile, Wish]:
        """What is refused anyway is not asked about. Raises: as `_check`, and what `Admit` does."""
        _check(self._profiles.get(profile_name, strategy), strategy, wish)
        name, wish = await self._admit(profile_name, wish)
        return self._profiles.get(name, strategy), wish

    async def _save_opened(self, session: UploadSession, asset: Asset, upload_id: str) -> None:
        """Writes the rows, or takes the multipart upload back."""
        try:
            await self._sessions.create(session, asset)
        except StateUnavailable:
            if await self._is_there(session.id):
                return  # the answer was lost, not the rows
            await self._abort(session, upload_id)
            raise
        except BaseException:
            await self._abort(session, upload_id)
            raise

    async def _is_there(self, session_id: str) -> bool:
        try:
            return await self._sessions.get(session_id) is not None
        except Unavailable:
            return False

    async def _abort(self, session: UploadSession, upload_id: str) -> None:
        """What this cannot abort no row knows: the reaper's sweep of the bucket finds it."""
        try:
            await self._objects.abort_multipart(session.bucket, session.object_key, upload_id)
        except (Unavailable, Rejected) as error:
            log.warning("multipart_left_behind", session=session.id, error=type(error).__name__)

    def _rows(
        self, profile: Profile, strategy: Strategy, wish: Wish
    ) -> tuple[UploadSession, Asset]:
        _check(profile, strategy, wish)
        now = self._now()
        session_id = secrets.token_urlsafe(_ID_BYTES)
        filename = _clean(wish.filename)
        asset = Asset(
            id=secrets.token_urlsafe(_ID_BYTES),
            state=AssetState.STAGED,
            profile=profile.name,
            owner=wish.owner,
            bucket=profile.bucket,
            object_key=profile.key(self._unique(), filename, now),
            filename=filename,
            content_type=wish.content_type,
            size=None,
            reason=None,
            created_at=now,
            updated_at=now,
        )
        expires_at = now + _expires_in(profile, wish)
        return _session(session_id, asset, profile, strategy, wish, expires_at), asset

    def _unique(self) -> str:
        """For the key; of a tus upload's shape, by which sweeps tell our keys from others.

        Not the session's id: the key is in URLs, and those travel further than they should.
        """
        return new_upload_id(self._uploads.node).replace("~", "-")


def _session(
    session_id: str,
    asset: Asset,
    profile: Profile,
    strategy: Strategy,
    wish: Wish,
    expires_at: datetime,
) -> UploadSession:
    return UploadSession(
        id=session_id,
        asset_id=asset.id,
        protocol=Protocol.S3,
        strategy=strategy,
        state=SessionState.INITIALIZED,
        kind=Kind.SINGLE,
        profile=profile.name,
        owner=asset.owner,
        bucket=asset.bucket,
        object_key=asset.object_key,
        token=secrets.token_hex(16),
        length=None,
        part_size=_part_size(profile, wish),
        filename=asset.filename,
        content_type=asset.content_type,
        size_promised=wish.size,
        created_at=asset.created_at,
        updated_at=asset.updated_at,
        expires_at=expires_at,
        max_size=wish.max_size,
    )


def _check(profile: Profile, strategy: Strategy, wish: Wish) -> None:
    """Raises: InvalidArgument, ContentTypeRefused, SizeRefused."""
    if wish.content_type is not None and not metadata.is_media_type(wish.content_type):
        raise InvalidArgument("content_type is not a media type")
    if wish.size is not None and wish.size < 0:
        raise InvalidArgument("size is negative")
    if strategy is Strategy.MULTIPART and wish.size == 0:
        raise InvalidArgument("an empty file has no part to send: use a presigned PUT")
    if wish.expires_in is not None and wish.expires_in < timedelta(seconds=1):
        raise InvalidArgument("expires_in is below one second")
    profile.check_content_type(wish.content_type)
    profile.check_size(strategy, wish.size)
    if wish.max_size is not None and wish.size is not None and wish.size > wish.max_size:
        raise SizeRefused(f"{wish.size} bytes are more than the {wish.max_size} that are allowed")


def _expires_in(profile: Profile, wish: Wish) -> timedelta:
    wanted = wish.expires_in or profile.expires_in
    return min(wanted, profile.expires_in)


def _part_size(profile: Profile, wish: Wish) -> int:
    """One size for all parts: a client that cuts by itself is told a single number.

    Raises: InvalidArgument.
    """
    size = wish.size
    if size is None:
        size = 0 if profile.max_size is None else profile.longest(Strategy.MULTIPART)
    needed = partplan.plan(size, profile.limits).part_size
    if wish.part_size is None:
        return needed
    smallest = max(MIN_PART_SIZE, needed if wish.size else 0)
    if not smallest <= wish.part_size <= profile.limits.max_part_size:
        raise InvalidArgument(f"part_size must be between {smallest} and what the store takes")
    return wish.part_size


def _clean(filename: str | None) -> str | None:
    """As a tus upload's: the last segment, printable, of bounded length."""
    return metadata.filename({"filename": filename.encode("utf-8", "replace")} if filename else {})


def _create_request(wish: Wish) -> CreateRequest:
    """The POST that a tus client would have sent for this file."""
    named = {"filename": _clean(wish.filename), "filetype": wish.content_type}
    pairs = {
        key: text.encode("utf-8", "replace") for key, text in named.items() if text is not None
    }
    header = ",".join(
        f"{key} {base64.b64encode(value).decode('ascii')}" for key, value in pairs.items()
    )
    return CreateRequest(
        length=wish.size,
        metadata=header,
        pairs=pairs,
        concat=Concat(),
        concat_header=None,
        body=BodyFacts(content_length=0, checksum=None, checksum_trailer=False),
    )
