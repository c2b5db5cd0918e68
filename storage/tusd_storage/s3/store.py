"""`ports.ObjectStore` on S3: which request each promise becomes.

Owns the S3 operations and their parameters. Sending, signing, repeating, translating errors and
threads are its neighbours'; sessions, offsets and tails are nobody's here.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from botocore.session import Session

from tusd_storage.errors import ChecksumRejected, NoSuchObject, NoSuchUpload, StoreRefused
from tusd_storage.ports import Presigned
from tusd_storage.ports.direct import Capability, PresignedForm
from tusd_storage.records import (
    Body,
    MultipartUpload,
    ObjectInfo,
    ObjectSpec,
    Part,
)
from tusd_storage.s3 import fields
from tusd_storage.s3.calls import Calls
from tusd_storage.s3.client import make_client, make_wire, new_session
from tusd_storage.s3.config import Observe, S3Config
from tusd_storage.s3.listing import Lister
from tusd_storage.s3.presign import Presigner
from tusd_storage.s3.reading import Reader
from tusd_storage.s3.retry import Repeat, Retry
from tusd_storage.s3.sending import Sender
from tusd_storage.s3.signing import Signer
from tusd_storage.s3.threads import Threads

CALL_THREADS = 8
"""For rare calls. Not those that send: a store that takes bodies slowly must still answer HEAD."""
READ_THREADS = 8
"""For reading objects; a stream holds one only while a chunk arrives."""
ASSEMBLY_THREADS = 8
"""For each of the two calls that may last minutes, so that neither stops the others."""
READ_STREAMS = 128
"""Connections that are kept for objects being read: each holds one from its first byte to its last.
Beyond them, those that have ended are closed, with a warning of urllib3's for each."""


class S3Store:
    """An S3-compatible store. Made once for a process; used from one event loop."""

    capabilities = frozenset(Capability)
    """All of them."""

    def __init__(
        self,
        config: S3Config,
        *,
        session: Session | None = None,
        observe: Observe | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        session = session or new_session()
        observe = observe or _ignore
        self._with_crc32 = config.checksum == "crc32"
        self._client = make_client(
            config,
            session,
            endpoint=config.endpoint,
            connections=CALL_THREADS + READ_STREAMS,
        )
        self._public_client = (
            make_client(config, session, endpoint=config.public_endpoint, connections=1)
            if config.public_endpoint
            else self._client
        )
        retry = Retry(deadline_s=config.deadline_s, clock=clock, sleep=sleep, uniform=uniform)
        self._calls = Calls(Threads("call", CALL_THREADS), retry, observe, clock)
        self._patient_client = make_client(
            replace(config, read_timeout_s=max(config.assembly_timeout_s, config.read_timeout_s)),
            session,
            endpoint=config.endpoint,
            connections=2 * ASSEMBLY_THREADS,
        )
        self._copies = Calls(Threads("copy", ASSEMBLY_THREADS), retry, observe, clock)
        self._completions = Calls(Threads("complete", ASSEMBLY_THREADS), retry, observe, clock)
        self._sender = Sender(
            signer=Signer(self._client, session.get_credentials, config.checksum),
            wire=make_wire(config, session),
            connections=config.max_connections,
            retry=retry,
            observe=observe,
            clock=clock,
        )
        self._lister = Lister(self._client, self._calls)
        self._read_threads = Threads("read", READ_THREADS)
        self._reader = Reader(self._client, self._calls, self._read_threads)
        self._presigner = Presigner(
            self._public_client, conditional_writes=config.conditional_writes
        )

    async def put(
        self, spec: ObjectSpec, body: Body, *, fence: Callable[[], None] | None = None
    ) -> str:
        """PutObject."""
        headers = fields.headers(spec)
        return await self._sender.put(
            "PutObject", spec.bucket, spec.key, body, headers=headers, fence=fence
        )

    async def create_multipart(self, spec: ObjectSpec, *, direct: bool = False) -> str:
        """CreateMultipartUpload."""
        parameters = fields.multipart(spec, with_crc32=self._with_crc32 and not direct)
        return await self._calls.call(
            "CreateMultipartUpload",
            lambda: self._client.create_multipart_upload(**parameters)["UploadId"],
        )

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> Part:
        """UploadPart."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        etag = await self._sender.put("UploadPart", bucket, key, body, query=query)
        return Part(number=number, size=body.size, etag=etag, crc32=body.crc32)

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
        """UploadPartCopy with CopySourceRange."""
        etag, told = await self._copies.call(
            "UploadPartCopy",
            lambda: fields.copied(
                self._patient_client.upload_part_copy(
                    Bucket=bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource={"Bucket": bucket, "Key": source_key},
                    CopySourceRange=f"bytes={offset}-{offset + size - 1}",
                )
            ),
        )
        if crc32 is None:
            crc32 = told
        elif told is not None and told != crc32:
            raise ChecksumRejected("UploadPartCopy: the source holds other bytes")
        return Part(number=number, size=size, etag=etag, crc32=crc32)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        direct: bool = False,
    ) -> str:
        """CompleteMultipartUpload. Sent again only when the store said that it did nothing."""
        listed = fields.completed(parts, with_crc32=self._with_crc32 and not direct)
        return await self._completions.call(
            "CompleteMultipartUpload",
            lambda: self._patient_client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}
            )["ETag"],
            repeat=Repeat.UNEXECUTED,
        )

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """AbortMultipartUpload."""
        with suppress(NoSuchUpload):
            await self._calls.call(
                "AbortMultipartUpload",
                lambda: self._client.abort_multipart_upload(
                    Bucket=bucket, Key=key, UploadId=upload_id
                ),
            )

    def list_multipart(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """ListMultipartUploads."""
        return self._lister.uploads(bucket, prefix)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        """ListParts."""
        return await self._lister.parts(bucket, key, upload_id)

    def list_keys(self, bucket: str, prefix: str) -> AsyncGenerator[str, None]:
        """ListObjectsV2."""
        return self._lister.keys(bucket, prefix)

    async def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """HeadObject."""
        try:
            return await self._calls.call(
                "HeadObject",
                lambda: fields.info(self._client.head_object(Bucket=bucket, Key=key)),
            )
        except NoSuchObject:
            return None

    def read(
        self, bucket: str, key: str, *, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """GetObject, with a Range where one is needed."""
        return self._reader.read(bucket, key, offset=offset, size=size)

    async def delete(self, bucket: str, key: str) -> None:
        """DeleteObject."""
        with suppress(NoSuchObject):
            await self._calls.call(
                "DeleteObject", lambda: self._client.delete_object(Bucket=bucket, Key=key)
            )

    async def presign_get(
        self,
        bucket: str,
        key: str,
        *,
        expires_in_s: int,
        content_disposition: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """A GetObject URL."""
        return await self._calls.compute(
            "GetObject",
            lambda: self._presigner.get(
                bucket,
                key,
                expires_in_s=expires_in_s,
                content_disposition=content_disposition,
                content_type=content_type,
            ),
        )

    async def presign_put(
        self, spec: ObjectSpec, *, expires_in_s: int, content_length: int | None = None
    ) -> Presigned:
        """A PutObject request."""
        return await self._calls.compute(
            "PutObject",
            lambda: self._presigner.put(
                spec, expires_in_s=expires_in_s, content_length=content_length
            ),
        )

    async def presign_post(
        self, spec: ObjectSpec, *, expires_in_s: int, min_size: int, max_size: int
    ) -> PresignedForm:
        """A PostObject form."""
        return await self._calls.compute(
            "PostObject",
            lambda: self._presigner.form(
                spec, expires_in_s=expires_in_s, min_size=min_size, max_size=max_size
            ),
        )

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
        """An UploadPart request, for an upload created as `direct`."""
        return await self._calls.compute(
            "UploadPart",
            lambda: self._presigner.part(
                bucket,
                key,
                upload_id,
                number,
                expires_in_s=expires_in_s,
                content_length=content_length,
            ),
        )

    async def probe(self, bucket: str) -> None:
        """HeadBucket."""
        try:
            await self._calls.call("HeadBucket", lambda: self._client.head_bucket(Bucket=bucket))
        except NoSuchObject as error:
            raise StoreRefused("NoSuchBucket", "HeadBucket: there is no such bucket") from error

    async def aclose(self) -> None:
        """Calls under way finish first."""
        await self._sender.aclose()
        for calls in (self._calls, self._copies, self._completions):
            await calls.aclose()
        await self._read_threads.aclose()
        for client in {self._client, self._public_client, self._patient_client}:
            client.close()


def _ignore(_operation: str, _outcome: str, _seconds: float) -> None:
    """Nobody observes."""
