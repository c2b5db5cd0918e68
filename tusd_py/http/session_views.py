"""The JSON of the session API, as models: what comes in is checked, what goes out is documented.

The OpenAPI document is made from these. What is not named here is not told: keys of objects and
upload ids only where a client needs them, tokens never.
"""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from tusd_py.broker.results import (
    Multipart,
    Resumable,
    ResumableState,
    ResumableStatus,
    Signed,
    SignedPart,
    Verified,
)
from tusd_storage.ports import Presigned
from tusd_storage.records import Asset, AssetState, Part, SessionState, Strategy, UploadSession

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest whole number every JSON reader understands; larger than any object."""
MAX_SECONDS = 365 * 24 * 3600
MAX_SIGNED_AT_ONCE = 1_000
NAME = r"^[A-Za-z0-9_-]{1,64}$"


class _In(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class CreateSession(_In):
    """What a new session is for."""

    strategy: Strategy = Field(strict=False)
    profile: str = Field(default="default", pattern=NAME)
    filename: str | None = Field(default=None, max_length=1024)
    content_type: str | None = Field(default=None, max_length=255)
    size: int | None = Field(default=None, ge=0, le=MAX_SAFE_INTEGER)
    """Bytes. Declared, it becomes part of the signature and is verified at completion."""
    part_size: int | None = Field(default=None, ge=1, le=MAX_SAFE_INTEGER)
    """Bytes of a part, for strategy `multipart`; the default follows from the size."""
    expires_in_s: int | None = Field(default=None, ge=1, le=MAX_SECONDS)
    """Cut to what the profile allows."""


class SignRequest(_In):
    """How a signature shall be."""

    expires_in_s: int | None = Field(default=None, ge=1, le=MAX_SECONDS)


class SignPartsRequest(_In):
    """Which parts are to be signed."""

    part_numbers: list[int] = Field(min_length=1, max_length=MAX_SIGNED_AT_ONCE)
    """1 to 10,000."""
    size: int | None = Field(default=None, ge=1, le=MAX_SAFE_INTEGER)
    """Bytes that each of these parts will have, to bind them."""
    expires_in_s: int | None = Field(default=None, ge=1, le=MAX_SECONDS)


class PartEntry(_In):
    """A part that the client has sent."""

    part_number: int
    etag: str = Field(max_length=256)
    """As the store answered it."""


class CompleteRequest(_In):
    """The parts, for strategy `multipart`; nothing for the others."""

    parts: list[PartEntry] | None = Field(default=None, max_length=10_001)


class SessionView(_Out):
    """A session."""

    id: str
    asset_id: str | None
    state: SessionState
    strategy: Strategy
    profile: str
    filename: str | None
    content_type: str | None
    size: int | None
    """Declared bytes, or those of the object once it is completed."""
    failure: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, session: UploadSession) -> "SessionView":
        """The view of a row."""
        return cls(
            id=session.id,
            asset_id=session.asset_id,
            state=session.state,
            strategy=session.strategy,
            profile=session.profile,
            filename=session.filename,
            content_type=session.content_type,
            size=session.size_promised if session.length is None else session.length,
            failure=session.failure,
            created_at=session.created_at,
            updated_at=session.updated_at,
            expires_at=session.expires_at,
            completed_at=session.completed_at,
        )


class AssetView(_Out):
    """What a session produced."""

    id: str
    state: AssetState
    filename: str | None
    content_type: str | None
    size: int | None
    etag: str | None
    """Of the object that was proven: what is read with it as `If-Match` is what was verified."""
    reason: str | None
    """Why it was quarantined."""

    @classmethod
    def of(cls, asset: Asset, session: UploadSession) -> "AssetView":
        """The view of a row, and of what its session proved."""
        return cls(
            id=asset.id,
            state=asset.state,
            filename=asset.filename,
            content_type=asset.content_type,
            size=asset.size,
            etag=session.etag,
            reason=asset.reason,
        )


class MultipartView(_Out):
    """Where parts go."""

    upload_id: str
    upload_key: str
    part_size: int
    part_headers: dict[str, str]


class ResumableView(_Out):
    """Where a tus client goes."""

    session_uri: str
    upload_id: str
    expires_at: datetime


class CreatedView(_Out):
    """A new session; `multipart` or `resumable` with those strategies."""

    session: SessionView
    multipart: MultipartView | None = None
    resumable: ResumableView | None = None

    @classmethod
    def of(cls, made: UploadSession | Multipart | Resumable, uri: str = "") -> "CreatedView":
        """The view of what the broker returned; `uri` is the tus upload's URL for this client."""
        if isinstance(made, Multipart):
            multipart = MultipartView(
                upload_id=made.upload_id,
                upload_key=made.upload_key,
                part_size=made.part_size,
                part_headers=made.part_headers,
            )
            return cls(session=SessionView.of(made.session), multipart=multipart)
        if isinstance(made, Resumable):
            resumable = ResumableView(
                session_uri=uri, upload_id=made.upload_id, expires_at=made.expires_at
            )
            return cls(session=SessionView.of(made.session), resumable=resumable)
        return cls(session=SessionView.of(made))


class RequestView(_Out):
    """A request the client may send to the store, with these headers as they are."""

    url: str
    method: str
    headers: dict[str, str]

    @classmethod
    def of(cls, presigned: Presigned) -> "RequestView":
        """The view of a signature."""
        return cls(url=presigned.url, method=presigned.method, headers=presigned.headers)


class SignedView(_Out):
    """A signed session."""

    session: SessionView
    presigned: RequestView

    @classmethod
    def of(cls, signed: Signed) -> "SignedView":
        """The view of what the broker returned."""
        return cls(
            session=SessionView.of(signed.session), presigned=RequestView.of(signed.presigned)
        )


class SignedPartView(RequestView):
    """The request for one part."""

    part_number: int


class SignedPartsView(_Out):
    """Signed parts."""

    session: SessionView
    upload_id: str
    expires_in_s: int
    parts: list[SignedPartView]

    @classmethod
    def of(cls, signed: list[SignedPart]) -> "SignedPartsView":
        """The view of what the broker returned; at least one."""
        last = signed[-1]
        return cls(
            session=SessionView.of(last.session),
            upload_id=last.upload_id,
            expires_in_s=min(part.expires_in_s for part in signed),
            parts=[
                SignedPartView(
                    part_number=part.part_number,
                    url=part.presigned.url,
                    method=part.presigned.method,
                    headers=part.presigned.headers,
                )
                for part in signed
            ],
        )


class StoredPartView(_Out):
    """A part that the store has."""

    part_number: int
    size: int
    etag: str


class PartsView(_Out):
    """The parts that the store has."""

    parts: list[StoredPartView]

    @classmethod
    def of(cls, parts: list[Part]) -> "PartsView":
        """The view of a listing."""
        return cls(
            parts=[
                StoredPartView(part_number=part.number, size=part.size, etag=part.etag)
                for part in parts
            ]
        )


class VerifiedView(_Out):
    """A session with its asset."""

    session: SessionView
    asset: AssetView | None

    @classmethod
    def of(cls, verified: Verified) -> "VerifiedView":
        """The view of what the broker returned."""
        asset = verified.asset
        return cls(
            session=SessionView.of(verified.session),
            asset=None if asset is None else AssetView.of(asset, verified.session),
        )


class StatusView(_Out):
    """How far a resumable session is."""

    session: SessionView
    committed_bytes: int
    state: ResumableState

    @classmethod
    def of(cls, status: ResumableStatus) -> "StatusView":
        """The view of what the broker returned."""
        return cls(
            session=SessionView.of(status.session),
            committed_bytes=status.committed_bytes,
            state=status.state,
        )


class ProblemView(_Out):
    """Every error answer (RFC 9457), as `application/problem+json`."""

    status: int
    code: str
    """Stable."""
    detail: str
