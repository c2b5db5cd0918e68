"""What the broker's functions return: frozen values, none of them a bare session with extras."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tusd_storage.ports import Presigned
from tusd_storage.records import Asset, UploadSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """`sign_url`: the session and the request its client may send."""

    session: UploadSession
    presigned: Presigned


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedForm:
    """`sign_form`: the session and the form its client may post."""

    session: UploadSession
    url: str
    fields: dict[str, str]
    expires_in_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPart:
    """`sign_multipart_part`: the session and the request for one part."""

    session: UploadSession
    part_number: int
    upload_id: str
    presigned: Presigned
    expires_in_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Multipart:
    """`initiate_multipart_session`: where the parts go."""

    session: UploadSession
    upload_id: str
    upload_key: str
    part_size: int
    """Bytes of every part but the last."""
    part_headers: dict[str, str]
    """To be sent with every part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumable:
    """`initiate_resumable_session`: where the bytes go."""

    session: UploadSession
    session_uri: str
    """The upload's URL at the tus server."""
    upload_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """`verify_completion`, `complete_multipart_upload`: the session and the asset it made."""

    session: UploadSession
    asset: Asset | None
    """None for a partial tus upload, which makes none."""


class ResumableState(StrEnum):
    """How a resumable session stands."""

    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    EXPIRED = "expired"
    """It takes no bytes any more; `session.state` tells why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumableStatus:
    """`resumable_session_status`."""

    session: UploadSession
    committed_bytes: int
    state: ResumableState
