"""The frozen data that crosses borders: sessions, parts, assets, jobs.

Owns no behaviour beyond arithmetic on its own fields. Knows neither SQL nor S3 nor HTTP.
"""

from dataclasses import field
from datetime import datetime
from enum import StrEnum

from tusd_storage.frozen import record


class Strategy(StrEnum):
    """How the bytes reach storage."""

    PRESIGNED_PUT = "presigned_put"
    MULTIPART = "multipart"
    RESUMABLE = "resumable"


class Protocol(StrEnum):
    """Who receives the bytes: this server (tus), or the store itself (s3)."""

    TUS = "tus"
    S3 = "s3"


class SessionState(StrEnum):
    """States of `upload_sessions.state`; the edges are in `lifecycle`."""

    INITIALIZED = "initialized"
    SIGNED = "signed"
    RESUMING = "resuming"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    VERIFYING = "verifying"
    COMPLETED = "completed"
    ABORTED = "aborted"
    EXPIRED = "expired"
    FAILED = "failed"


class AssetState(StrEnum):
    """States of `assets.state`."""

    STAGED = "staged"
    VALIDATING = "validating"
    AVAILABLE = "available"
    QUARANTINED = "quarantined"


class Kind(StrEnum):
    """The role of a tus upload in concatenation (tus 1.0.0, Concatenation)."""

    SINGLE = "single"
    PARTIAL = "partial"
    FINAL = "final"


class JobState(StrEnum):
    """States of `jobs.state`."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"


@record(frozen=True, slots=True, kw_only=True)
class Part:
    """One S3 multipart part as the ledger records it."""

    number: int
    """1-based part number."""
    size: int
    """Bytes."""
    etag: str
    """Exactly as S3 returned it, quotes included."""
    crc32: int | None
    """CRC-32 (ISO-HDLC, as zlib) of the part's bytes; None where this server has not seen them and
    the store has not told."""


FOREIGN = ""
"""Token of a session whose multipart upload another server opened, without one."""


@record(frozen=True, slots=True, kw_only=True)
class UploadSession:
    """One row of `upload_sessions`. All datetimes are aware UTC.

    The defaults are a session to which nothing has happened yet.
    """

    id: str
    """Unguessable; for a tus upload also the last segment of its URL: `<node>~<random>`."""
    asset_id: str | None
    """The asset this session produces; None for partial uploads."""
    protocol: Protocol
    strategy: Strategy
    state: SessionState
    kind: Kind
    profile: str
    """Name of the profile the destination came from."""
    owner: str | None
    """Whoever created it, as the application's `authorize` named them."""
    bucket: str
    object_key: str
    token: str
    """Random; stored with the object as metadata `tusd-token`: proves an ambiguous completion.
    `FOREIGN` where another server opened the multipart upload: its object carries none."""
    upload_id: str | None = None
    """S3 multipart upload id, once one has been opened."""
    length: int | None
    """Declared total in bytes; None while deferred."""
    offset: int = 0
    """Bytes acknowledged: the contiguous durable prefix."""
    part_size: int
    """Size of the first part in bytes; see `partplan.PartPlan`."""
    part_growth: int = 0
    """Parts after which the size doubles; 0 for equal parts."""
    parts_count: int = 0
    """Number of ledger rows (their numbers are 1..parts_count)."""
    parts_size: int = 0
    """Sum of the ledger's part sizes."""
    parts_crc32: int = 0
    """CRC-32 of the bytes inside the ledger's parts, composed from the parts' own CRCs. Means
    nothing for final uploads, direct sessions and uploads that another server began, whose parts
    this server has not seen."""
    tail_node: str | None = None
    """The node whose disk holds the tail."""
    tail_crc32: int = 0
    """CRC-32 of the tail's `tail_size` bytes; 0 for an empty tail."""
    metadata: str = ""
    """`Upload-Metadata` exactly as received; empty if there was none."""
    filename: str | None
    content_type: str | None
    size_promised: int | None = None
    """Size a client declared for a presigned PUT or multipart session, verified at completion."""
    crc32_promised: int | None = None
    """CRC-32 of the whole file that a client declared at creation, verified before completion."""
    concat: tuple[str, ...] = ()
    """Ids of the partial uploads of a final upload, in order; a partial may appear twice."""
    concat_header: str | None = None
    """`Upload-Concat` exactly as received."""
    lease_holder: str | None = None
    """`<node>/<process instance>` of the writer."""
    lease_epoch: int = 0
    """Fencing token: grows with each acquisition."""
    lease_until: datetime | None = None
    lease_stolen: bool = False
    """Whether the current lease was taken from a holder that had not released it."""
    etag: str | None = None
    """ETag of the finished object."""
    crc32: int | None = None
    """CRC-32 of the whole finished object, where it is known."""
    failure: str | None = None
    """Stable code of why the session failed or was cut short."""
    cleanup_reason: str | None = None
    """Set when the storage side could not be cleaned; the reaper retries."""
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    completed_at: datetime | None = None
    deleted_at: datetime | None = None
    """When a finished upload was terminated."""
    max_size: int | None = None
    """Bytes it may have at most, by the grant it was created with; None: what its profile says."""
    creation_key: str | None = None
    """Hash of owner and idempotency key: no two sessions that are not over have the same."""
    creation_digest: str | None = None
    """Hash of the request that created it, where there is a key."""

    @property
    def tail_size(self) -> int:
        """Acknowledged bytes that are not yet inside a part."""
        return self.offset - self.parts_size

    @property
    def received(self) -> bool:
        """Whether every byte of a known length has been acknowledged."""
        return self.length is not None and self.offset == self.length


@record(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one owner may have open at once. Sessions of nobody in particular do not count."""

    max_sessions: int | None = None
    max_size: int | None = None
    """Sum of bytes. A session without a declared length counts with its `max_size`."""


@record(frozen=True, slots=True, kw_only=True)
class Append:
    """One commit point of an upload: ledger rows of a contiguous prefix, offset and tail together.

    Applied by compare-and-swap on `(id, epoch, from_offset)`.
    """

    id: str
    epoch: int
    from_offset: int
    to_offset: int
    parts: tuple[Part, ...] = ()
    """New ledger rows; their numbers continue the ledger without a gap."""
    parts_crc32: int
    """CRC-32 over the bytes of the whole ledger after this commit."""
    tail_node: str
    tail_crc32: int
    length: int | None = None
    """Set to declare a deferred length; None leaves it as it is."""
    state: SessionState = SessionState.UPLOADING
    expires_at: datetime | None
    now: datetime
    release: bool = False
    """Give the lease back in the same transaction."""


@record(frozen=True, slots=True, kw_only=True)
class Completion:
    """The object is in the bucket: make the session `completed` and the asset `validating`."""

    id: str
    epoch: int
    size: int
    """Size of the object; becomes offset and length."""
    etag: str
    crc32: int | None
    content_type: str | None
    now: datetime
    job_id: str
    """Id for the `promote_asset` job; unused for a session without asset."""
    release: bool = True


@record(frozen=True, slots=True, kw_only=True)
class Asset:
    """One row of `assets`."""

    id: str
    state: AssetState
    profile: str
    owner: str | None
    bucket: str
    object_key: str
    filename: str | None
    content_type: str | None
    size: int | None
    reason: str | None
    """Why it was quarantined."""
    created_at: datetime
    updated_at: datetime


@record(frozen=True, slots=True, kw_only=True)
class Job:
    """One outbox row: written with the state change that causes it, run at least once."""

    id: str
    kind: str
    """E.g. `promote_asset`."""
    subject: str
    """Id of the session or asset it is about."""
    payload: dict[str, object] = field(default_factory=dict)
    state: JobState
    attempts: int
    run_at: datetime
    """Not before."""
    locked_by: str | None
    locked_until: datetime | None
    error: str | None
    """Bounded text of the last failure."""
    created_at: datetime
    updated_at: datetime


@record(frozen=True, slots=True, kw_only=True)
class ObjectSpec:
    """What an object is created with."""

    bucket: str
    key: str
    token: str
    content_type: str | None = None
    content_disposition: str | None = None


@record(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What HeadObject says."""

    size: int
    etag: str
    content_type: str | None
    token: str | None
    """User metadata `tusd-token`."""

    def is_of(self, session: UploadSession) -> bool:
        """Whether it carries the token of this session, or none where there is none to carry."""
        return (self.token or FOREIGN) == session.token


@record(frozen=True, slots=True, kw_only=True)
class MultipartUpload:
    """One entry of ListMultipartUploads."""

    key: str
    upload_id: str
    initiated_at: datetime


@record(frozen=True, slots=True, kw_only=True)
class FileRange:
    """Bytes of an open file: read with `os.pread`, so the position of `fd` never matters."""

    fd: int
    offset: int
    size: int


Segment = bytes | memoryview | FileRange
"""A piece of a body: in memory, or in a file."""


@record(frozen=True, slots=True, kw_only=True)
class Body:
    """A body of known size that can be sent again from its start."""

    segments: tuple[Segment, ...]
    size: int
    crc32: int
    """CRC-32 of all bytes, in order."""
