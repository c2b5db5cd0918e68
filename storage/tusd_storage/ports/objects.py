"""The objects: an S3-compatible store."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tusd_storage.records import Body, MultipartUpload, ObjectInfo, ObjectSpec, Part


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

    async def put(
        self, spec: ObjectSpec, body: Body, *, fence: Callable[[], None] | None = None
    ) -> str:
        """PutObject; returns the ETag. The store verifies the body's CRC-32 (or MD5).

        `fence` is called before each try, on the event loop: what has lost the right to write
        raises there, and nothing more is sent.
        Raises: StoreUnavailable, ChecksumRejected, AccessDenied, StoreRefused; what `fence` does.
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
        """A PUT for the whole object; the signature binds type, token and (if given) length.

        Where the store has conditional writes, it replaces nothing: it is refused (412) once there
        is an object.
        """
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
