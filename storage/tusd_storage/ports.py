"""The contracts between the use cases and what holds bytes and state.

Every implementation runs the same suite in `tests/contract`. Where a promise below says MUST, the
suite has a test for it. All methods are async and never block the event loop. All raise only the
taxonomy of `tusd_storage.errors`. Cancelling a call leaves its outcome unknown, never half done.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tusd_storage.records import (
    Append,
    Asset,
    Body,
    Completion,
    FileRange,
    Job,
    MultipartUpload,
    ObjectInfo,
    ObjectSpec,
    Part,
    Segment,
    SessionState,
    UploadSession,
)


class SessionStore(Protocol):
    """The authoritative state. Each method is one short transaction of its own.

    Writes that carry an `epoch` MUST compare-and-swap on it and raise LeaseLost, changing nothing,
    when it is not the row's current one. State changes MUST follow `lifecycle.SESSION_EDGES` and
    raise InvalidTransition, changing nothing, otherwise.
    A write that raises StateUnavailable may or may not have happened.
    """

    async def create(self, session: UploadSession, asset: Asset | None) -> None:
        """Inserts both rows or none.

        Of several with one `creation_key` at once, on any node, exactly one MUST be created. A
        session that has ended, was deleted, or is unfinished and past its `expires_at` gives its
        key free. The owner's quota, if there is one, holds under concurrency; a session without a
        declared size is given a `max_size` within it.

        Raises: AlreadyExists (id or object key), CreationRepeated, TooManySessions, TooManyBytes.
        """
        ...

    async def created(self, creation_key: str, *, now: datetime) -> UploadSession | None:
        """The session that has the key at this time, or None."""
        ...

    async def get(self, session_id: str) -> UploadSession | None:
        """The row, or None. Takes no lock and loads no parts."""
        ...

    async def get_many(self, session_ids: Collection[str]) -> dict[str, UploadSession]:
        """Rows by id; unknown ids are left out. Any number of ids."""
        ...

    async def acquire(
        self,
        session_id: str,
        *,
        holder: str,
        now: datetime,
        until: datetime,
        over: str | None = None,
    ) -> UploadSession:
        """Takes the lease if it is free, has run out at `now`, or is held by `over`.

        The epoch grows by one. `lease_stolen` in the returned row tells whether the previous
        holder had not released it. Exactly one of several callers at once MUST win.

        Raises: SessionUnknown, LeaseHeld.
        """
        ...

    async def want(self, session_id: str, epoch: int) -> None:
        """Asks the holder with this epoch to let go. Changes nothing if the epoch has moved on."""
        ...

    async def wanted(self, holder: str) -> list[str]:
        """Ids of the sessions whose lease this holder has and somebody else wants."""
        ...

    async def renew(self, holder: str, until: datetime) -> set[str]:
        """Extends every lease of this holder; returns the ids it still holds."""
        ...

    async def release(self, session_id: str, epoch: int) -> None:
        """Gives the lease back; does nothing if the epoch has moved on."""
        ...

    async def opened(self, session_id: str, epoch: int, upload_id: str) -> None:
        """Records the multipart upload id."""
        ...

    async def append(self, commit: Append) -> None:
        """Applies one commit point. The only thing that moves an offset forward.

        Ledger rows, offset, tail, length, state, expiry and (if asked) the release happen together.

        Raises: LeaseLost when epoch or `from_offset` differ; InvalidTransition.
        """
        ...

    async def parts(self, session_id: str) -> list[Part]:
        """The ledger in order of part numbers."""
        ...

    async def complete(self, completion: Completion) -> UploadSession:
        """Session `completed`, asset `validating`, job `promote_asset`: one transaction.

        A session that is already completed is returned as it is: one promotion, always.

        Raises: LeaseLost, InvalidTransition.
        """
        ...

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
        """Moves to `aborted`, `expired` or `failed` and releases the lease.

        `cleanup_reason` (bounded text) marks a row whose storage side still needs cleaning.

        Raises: LeaseLost, InvalidTransition.
        """
        ...

    async def delete(
        self, session_id: str, epoch: int, *, cleanup_reason: str | None, now: datetime
    ) -> None:
        """Marks a `completed` session as deleted and releases the lease. Raises: LeaseLost."""
        ...

    async def asset(self, asset_id: str) -> Asset | None:
        """The asset row, or None."""
        ...

    async def ping(self) -> None:
        """Raises StateUnavailable unless the database answers."""
        ...

    async def aclose(self) -> None:
        """Ends all connections; calls under way finish first."""
        ...


class JobQueue(Protocol):
    """The outbox: jobs are inserted by state changes, claimed and run at least once."""

    async def claim(
        self, *, worker: str, kinds: Collection[str], now: datetime, until: datetime, limit: int
    ) -> list[Job]:
        """Takes due jobs (queued, or running with a lock that ran out), oldest first.

        Two workers MUST never get the same job for the same period. `attempts` counts this try.
        """
        ...

    async def extend(self, job_id: str, *, worker: str, until: datetime) -> bool:
        """Heartbeat; False when the job is no longer this worker's."""
        ...

    async def succeed(self, job_id: str, *, worker: str, now: datetime) -> bool:
        """Marks it done; False when it is no longer this worker's."""
        ...

    async def retry(
        self, job_id: str, *, worker: str, error: str, run_at: datetime | None, now: datetime
    ) -> bool:
        """Back to the queue at `run_at`, or dead when that is None; False as above."""
        ...

    async def jobs(
        self, *, state: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Job]:
        """A page of jobs in order of id."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Presigned:
    """A request a client may send straight to the store."""

    url: str
    method: str
    headers: dict[str, str]


class ObjectStore(Protocol):
    """An S3-compatible store. `bucket` is always explicit; keys come from our rows.

    Transient failures have been retried with backoff, jitter and a deadline before
    StoreUnavailable is raised; its outcome is then unknown.
    """

    async def put(self, spec: ObjectSpec, body: Body) -> str:
        """PutObject; returns the ETag. The store verifies the body's CRC-32 (or MD5).

        Raises: StoreUnavailable, ChecksumRejected, AccessDenied, StoreRefused.
        """
        ...

    async def create_multipart(self, spec: ObjectSpec, *, direct: bool = False) -> str:
        """CreateMultipartUpload; returns the upload id.

        `direct`: clients will send the parts themselves (`presign_part`), without checksums; say
        the same to `complete_multipart`. AWS takes parts with a CRC-32 only into an upload that
        was announced to have them, and then no part without.
        """
        ...

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> Part:
        """UploadPart, verified by the store as `put` is.

        Sending a number again replaces the part; which copy counts is decided by the ETag given to
        `complete_multipart`. When this returns or raises, no byte of the body is in flight any
        more; a cancelled call breaks its connection and waits for that before it raises.

        Raises: NoSuchUpload and as `put`.
        """
        ...

    async def copy_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_key: str,
        offset: int,
        size: int,
        crc32: int | None,
    ) -> Part:
        """UploadPartCopy of `size` bytes from `offset` of an object in the same bucket.

        `crc32`, where it is known, MUST be compared with the store's own, if it tells that, and is
        the returned Part's. Where it is not, the store's own is; None without one.

        Raises: NoSuchUpload, NoSuchObject, ….
        """
        ...

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        direct: bool = False,
    ) -> str:
        """CompleteMultipartUpload; returns the ETag. A 200 with an error body is an error.

        In any order; a number twice, no parts at all, or less than 5 MiB before the last part MUST
        be refused with InvalidPart, whatever the store would do. `direct` as at creation: the
        `crc32` of the parts means nothing.

        The answer is ambiguous by nature: after StoreUnavailable or NoSuchUpload the object may be
        there, which only `head` and its token can tell.

        Raises: NoSuchUpload, InvalidPart, StoreUnavailable, ….
        """
        ...

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """AbortMultipartUpload. An unknown upload counts as aborted: idempotent."""
        ...

    def list_multipart(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """Every multipart upload under the prefix, page by page, in no promised order."""
        ...

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        """What the store says it has; never the truth about an upload (crc32: where it tells).

        One entry a part number: the newest. Raises NoSuchUpload.
        """
        ...

    async def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """HeadObject; None when there is no object."""
        ...

    def read(
        self, bucket: str, key: str, *, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The object's bytes in chunks of at most 1 MiB; bounded memory.

        Close the iterator (`aclose`) to end early; that frees its connection.

        Raises: NoSuchObject; StoreRefused("InvalidRange") when the object does not reach as far as
        asked; StoreUnavailable when bytes are missing in the end, which may be after some came.
        """
        ...

    async def delete(self, bucket: str, key: str) -> None:
        """DeleteObject. An unknown key counts as deleted: idempotent."""
        ...

    async def presign_get(
        self,
        bucket: str,
        key: str,
        *,
        expires_in_s: int,
        content_disposition: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """A SigV4 URL at the public endpoint; the two headers override the stored ones."""
        ...

    async def presign_put(
        self, spec: ObjectSpec, *, expires_in_s: int, content_length: int | None = None
    ) -> Presigned:
        """A PUT for the whole object; the signature binds type, token and (if given) length."""
        ...

    async def presign_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        expires_in_s: int,
        content_length: int | None = None,
    ) -> Presigned:
        """An UploadPart for this number and no other."""
        ...

    async def probe(self, bucket: str) -> None:
        """HeadBucket. Raises StoreUnavailable, AccessDenied or StoreRefused."""
        ...

    async def aclose(self) -> None:
        """Ends all connections; calls under way finish first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TailFile:
    """A tail file as the reaper finds it."""

    session_id: str
    size: int
    modified_at: datetime


class Tail(Protocol):
    """The open tail of one upload, held by the one writer that has its lease.

    All writes go through the file handle that `TailStore.open` returned, so a writer that lost its
    lease can never touch the file of the one that took over.
    """

    @property
    def exists(self) -> bool:
        """Whether there is a file; a fresh tail has none until `append` or `replace`."""
        ...

    def range(self) -> FileRange:
        """The committed bytes, for reading; valid until `replace` or `aclose`."""
        ...

    async def append(self, segments: Sequence[Segment], *, crc32: int) -> None:
        """Adds bytes behind the committed ones and flushes them; makes the file if there is none.

        `crc32` is that of the whole tail afterwards.

        Raises: DiskFull, LeaseLost. On any failure the committed prefix is as it was.
        """
        ...

    async def replace(self, segments: Sequence[Segment], *, crc32: int) -> None:
        """Drops the committed bytes and stores these instead, flushed. Call it only when the part
        that contains the dropped bytes is in the ledger.

        Raises: DiskFull (the file is then empty), LeaseLost.
        """
        ...

    async def aclose(self) -> None:
        """Closes the handle; the file stays."""
        ...


class Spool(Protocol):
    """An anonymous file for bytes that wait for the rest of their part. Gone when closed."""

    size: int

    async def write(self, segments: Sequence[Segment]) -> None:
        """Appends. Raises DiskFull."""
        ...

    def range(self) -> FileRange:
        """All bytes written so far."""
        ...

    def close(self) -> None:
        """Frees the file at once."""
        ...


class TailStore(Protocol):
    """Tails of this node: one file per upload. A tail changes only at a commit point."""

    async def open(
        self,
        session_id: str,
        *,
        size: int,
        crc32: int,
        fresh: bool,
        steal: bool,
        fence: Callable[[], None],
    ) -> Tail:
        """The guard. Opens the tail and proves that it holds the `size` committed bytes.

        Longer is the residue of a crash and is cut back. `fresh` (offset 0): nothing is expected,
        and the file is made when the first bytes come. `steal`: the previous holder did not
        release its lease; the bytes move to a new file so that its handle points nowhere.
        `fence` raises LeaseLost when the lease has run out; it is called, perhaps in a thread,
        right before anything on disk is changed.

        Raises: TailMissing, DiskFull.
        """
        ...

    async def spool(self) -> Spool:
        """A new anonymous file on the same disk. Raises DiskFull."""
        ...

    async def delete(self, session_id: str) -> bool:
        """Removes the tail; False when there was none."""
        ...

    def scan(self) -> Iterator[TailFile]:
        """Every tail on this node; foreign file names are left out."""
        ...
