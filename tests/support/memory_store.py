"""An ObjectStore in memory that is as strict as Amazon's S3.

`MemoryStore` passes the same contract suite as the real adapter. It refuses what some engines let
through, so that code tested against it asks nothing that a strict store refuses.
"""

import asyncio
import hashlib
import itertools
import os
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from tusd_storage.errors import (
    AccessDenied,
    ChecksumRejected,
    InvalidPart,
    NoSuchObject,
    NoSuchUpload,
    StoreRefused,
)
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.ports import Presigned
from tusd_storage.records import Body, FileRange, MultipartUpload, ObjectInfo, ObjectSpec, Part

CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object."""

    spec: ObjectSpec
    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class _StoredPart:
    data: bytes
    etag: str


@dataclass(slots=True)
class _Upload:
    spec: ObjectSpec
    direct: bool
    initiated_at: datetime
    parts: dict[int, _StoredPart] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a presigned request allows."""

    accept: Callable[[bytes], str]
    headers: dict[str, str]
    content_length: int | None


class MemoryStore:
    """Buckets come into being by being named, unless `buckets` lists the ones there are."""

    def __init__(
        self,
        *,
        buckets: Sequence[str] | None = None,
        opaque_etags: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.objects: dict[tuple[str, str], StoredObject] = {}
        self.uploads: dict[str, _Upload] = {}
        self.calls: Counter[str] = Counter()
        """How often each method was called."""
        self._buckets = buckets
        self._opaque_etags = opaque_etags
        """ETags are new each time and tell nothing of the bytes, as with SSE-KMS."""
        self._now = now
        self._ids = itertools.count(1)
        self._grants: dict[str, Grant] = {}

    async def put(
        self, spec: ObjectSpec, body: Body, *, fence: Callable[[], None] | None = None
    ) -> str:
        """PutObject."""
        await self._called("put", spec.bucket)
        if fence is not None:
            fence()
        check_headers(spec)
        return self._store(spec, _bytes_of(body))

    async def create_multipart(self, spec: ObjectSpec, *, direct: bool = False) -> str:
        """CreateMultipartUpload."""
        await self._called("create_multipart", spec.bucket)
        check_headers(spec)
        upload_id = f"upload-{next(self._ids)}"
        self.uploads[upload_id] = _Upload(spec, direct, self._now())
        return upload_id

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> Part:
        """UploadPart."""
        await self._called("upload_part", bucket)
        upload = self._upload(bucket, key, upload_id)
        data = _bytes_of(body)
        if upload.direct:
            raise StoreRefused("InvalidRequest", "the upload was created without checksums")
        etag = self._store_part(upload, number, data)
        return Part(number=number, size=len(data), etag=etag, crc32=body.crc32)

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
        """UploadPartCopy."""
        await self._called("copy_part", bucket)
        upload = self._upload(bucket, key, upload_id)
        source = self.objects.get((bucket, source_key))
        if source is None:
            raise NoSuchObject("UploadPartCopy: no such source")
        if size <= 0 or offset + size > len(source.data):
            raise StoreRefused("InvalidRange", "UploadPartCopy: the source is shorter")
        data = source.data[offset : offset + size]
        if crc32 not in {None, zlib.crc32(data)}:
            raise ChecksumRejected("UploadPartCopy: the source holds other bytes")
        etag = self._store_part(upload, number, data)
        return Part(number=number, size=size, etag=etag, crc32=zlib.crc32(data))

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        direct: bool = False,
    ) -> str:
        """CompleteMultipartUpload."""
        await self._called("complete_multipart", bucket)
        ordered = sorted(parts, key=lambda part: part.number)
        if not ordered or len({part.number for part in ordered}) != len(ordered):
            raise InvalidPart("no parts, or one twice")
        upload = self._upload(bucket, key, upload_id)
        stored = [_matching(upload, part, direct=direct) for part in ordered]
        if any(len(part.data) < MIN_PART_SIZE for part in stored[:-1]):
            raise InvalidPart("EntityTooSmall")
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in stored)
        etag = f'"{hashlib.md5(digests).hexdigest()}-{len(stored)}"'
        data = b"".join(part.data for part in stored)
        self.objects[bucket, key] = StoredObject(upload.spec, data, etag)
        del self.uploads[upload_id]
        return etag

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """AbortMultipartUpload."""
        await self._called("abort_multipart", bucket)
        self.uploads.pop(upload_id, None)

    async def list_multipart(
        self, bucket: str, prefix: str
    ) -> AsyncGenerator[MultipartUpload, None]:
        """ListMultipartUploads."""
        await self._called("list_multipart", bucket)
        for upload_id, upload in list(self.uploads.items()):
            if upload.spec.bucket == bucket and upload.spec.key.startswith(prefix):
                yield MultipartUpload(
                    key=upload.spec.key, upload_id=upload_id, initiated_at=upload.initiated_at
                )

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        """ListParts."""
        await self._called("list_parts", bucket)
        upload = self._upload(bucket, key, upload_id)
        return [
            Part(
                number=number,
                size=len(part.data),
                etag=part.etag,
                crc32=None if upload.direct else zlib.crc32(part.data),
            )
            for number, part in sorted(upload.parts.items())
        ]

    async def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """HeadObject."""
        await self._called("head", bucket)
        stored = self.objects.get((bucket, key))
        if stored is None:
            return None
        return ObjectInfo(
            size=len(stored.data),
            etag=stored.etag,
            content_type=stored.spec.content_type or "binary/octet-stream",
            token=stored.spec.token,
        )

    async def read(
        self, bucket: str, key: str, *, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """GetObject."""
        await self._called("read", bucket)
        stored = self.objects.get((bucket, key))
        if stored is None:
            raise NoSuchObject("GetObject: no such object")
        if size == 0:
            return
        end = len(stored.data) if size is None else offset + size
        ranged = size is not None or offset
        if end > len(stored.data) or (ranged and offset >= len(stored.data)):
            raise StoreRefused("InvalidRange", "GetObject: the object ends before the range")
        for start in range(offset, end, CHUNK):
            yield stored.data[start : min(start + CHUNK, end)]
            await asyncio.sleep(0)

    async def delete(self, bucket: str, key: str) -> None:
        """DeleteObject."""
        await self._called("delete", bucket)
        self.objects.pop((bucket, key), None)

    async def presign_get(
        self,
        bucket: str,
        key: str,
        *,
        expires_in_s: int,
        content_disposition: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """A URL that leads nowhere."""
        return self._url(bucket, key)

    async def presign_put(
        self, spec: ObjectSpec, *, expires_in_s: int, content_length: int | None = None
    ) -> Presigned:
        """A request that `deliver` takes."""
        check_headers(spec)
        headers = {"x-amz-meta-tusd-token": spec.token}
        if spec.content_type is not None:
            headers["Content-Type"] = spec.content_type
        if spec.content_disposition is not None:
            headers["Content-Disposition"] = spec.content_disposition
        headers["If-None-Match"] = "*"

        def accept(data: bytes) -> str:
            if (spec.bucket, spec.key) in self.objects:
                raise StoreRefused("PreconditionFailed", "PutObject: there is an object already")
            return self._store(spec, data)

        url = self._url(spec.bucket, spec.key)
        self._grants[url] = Grant(accept, headers, content_length)
        return Presigned(url=url, method="PUT", headers=dict(headers))

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
        """A request that `deliver` takes."""

        def accept(data: bytes) -> str:
            return self._store_part(self._upload(bucket, key, upload_id), number, data)

        url = self._url(bucket, key)
        self._grants[url] = Grant(accept, {}, content_length)
        return Presigned(url=url, method="PUT", headers={})

    def deliver(self, url: str, data: bytes, headers: dict[str, str] | None = None) -> str:
        """What a client does with a presigned request; returns the ETag.

        Raises: AccessDenied where S3 would answer 403.
        """
        grant = self._grants.get(url)
        if grant is None or (headers or {}) != grant.headers:
            raise AccessDenied("SignatureDoesNotMatch")
        if grant.content_length not in {None, len(data)}:
            raise AccessDenied("SignatureDoesNotMatch")
        return grant.accept(data)

    async def probe(self, bucket: str) -> None:
        """HeadBucket."""
        await self._called("probe", bucket)

    async def aclose(self) -> None:
        """Nothing to end."""

    async def _called(self, method: str, bucket: str) -> None:
        self.calls[method] += 1
        await asyncio.sleep(0)
        if self._buckets is not None and bucket not in self._buckets:
            raise StoreRefused("NoSuchBucket", "there is no such bucket")

    def _upload(self, bucket: str, key: str, upload_id: str) -> _Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or (upload.spec.bucket, upload.spec.key) != (bucket, key):
            raise NoSuchUpload("no such upload")
        return upload

    def _store(self, spec: ObjectSpec, data: bytes) -> str:
        stored = StoredObject(spec, data, _etag(data))
        self.objects[spec.bucket, spec.key] = stored
        return stored.etag

    def _store_part(self, upload: _Upload, number: int, data: bytes) -> str:
        if not 1 <= number <= 10_000:
            raise StoreRefused("InvalidArgument", "part numbers are 1 to 10000")
        etag = f'"{os.urandom(16).hex()}"' if self._opaque_etags else _etag(data)
        upload.parts[number] = _StoredPart(data, etag)
        return upload.parts[number].etag

    def _url(self, bucket: str, key: str) -> str:
        return f"https://memory.invalid/{bucket}/{quote(key)}?signature={next(self._ids)}"


def _matching(upload: _Upload, part: Part, *, direct: bool) -> _StoredPart:
    stored = upload.parts.get(part.number)
    if stored is None or stored.etag != part.etag:
        raise InvalidPart(f"part {part.number} is missing or was replaced")
    if upload.direct is not direct:
        raise StoreRefused("InvalidRequest", "with or without checksums, as at creation")
    if not direct and part.crc32 not in {None, zlib.crc32(stored.data)}:
        raise InvalidPart(f"part {part.number} has another checksum")
    return stored


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _bytes_of(body: Body) -> bytes:
    pieces = [
        os.pread(segment.fd, segment.size, segment.offset)
        if isinstance(segment, FileRange)
        else segment
        for segment in body.segments
    ]
    data = b"".join(pieces)
    if len(data) != body.size:
        raise StoreRefused("BodyTooShort", "the segments are not as long as the body")
    if zlib.crc32(data) != body.crc32:
        raise ChecksumRejected("BadDigest")
    return data


def check_headers(spec: ObjectSpec) -> None:
    for value in (spec.content_type, spec.content_disposition, spec.token):
        if value is not None and not (value.isascii() and value.isprintable()):
            raise StoreRefused("InvalidArgument", "not printable ASCII")
