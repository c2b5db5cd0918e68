"""The store: is the bucket there, and does each thing an upload needs work, right by right?

Uses every right on a probe object, whose key begins with the prefix of the settings.
"""

import secrets
import zlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from tusd_py.doctor.findings import Finding, broken, ok, skipped, warning
from tusd_storage.errors import (
    AccessDenied,
    ChecksumRejected,
    Rejected,
    StorageError,
    StoreUnresolved,
    Unavailable,
)
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.ports import ObjectStore
from tusd_storage.records import Body, ObjectSpec
from tusd_storage.termination import abort_until_gone

T = TypeVar("T")

LAST = b"the last part may be short"
_REACH = "Start the store, or correct TUSD_S3_ENDPOINT."
_RESOLVE = "Correct TUSD_S3_ENDPOINT or TUSD_S3_REGION, or the name service of this machine."
_CHECKSUM = "Set TUSD_S3_CHECKSUM to another value: md5 for older stores."


def body_of(data: bytes) -> Body:
    """A body in memory."""
    return Body(segments=(data,) if data else (), size=len(data), crc32=zlib.crc32(data))


class _Broken(Exception):
    """What comes next stands on what did not work."""


class StoreExamination:
    """One examination of one bucket; `findings` are in order."""

    def __init__(self, objects: ObjectStore, *, bucket: str, prefix: str, checksum: str) -> None:
        self.findings: list[Finding] = []
        self._objects = objects
        self._bucket = bucket
        self._checksum = checksum
        key = f"{prefix}tusd-doctor-{secrets.token_hex(8)}"
        self.spec = ObjectSpec(bucket=bucket, key=key, token=secrets.token_hex(8))
        self._whole = ObjectSpec(bucket=bucket, key=f"{key}-parts", token=self.spec.token)

    async def run(self) -> None:
        """Everything but what needs the probe from outside: that is between `put` and `tidy`."""
        try:
            await self._bucket_is_there()
            await self.put()
            await self._look()
            await self._verify_checksum()
            await self._multipart()
        except _Broken:
            done = {finding.id for finding in self.findings}
            for check in ("put", "head", "read", "checksum", "multipart", "copy", "list", "abort"):
                if f"store.{check}" not in done:
                    why = "Not looked at: what it stands on does not work."
                    self.findings.append(skipped(f"store.{check}", why))

    async def tidy(self) -> None:
        """Deletes the probe objects, which is a check as well."""

        async def delete() -> None:
            for spec in (self.spec, self._whole):
                await self._objects.delete(spec.bucket, spec.key)
            if await self._objects.head(self._bucket, self.spec.key) is not None:
                raise Rejected("the object is still there")

        try:
            await self._use("delete", "s3:DeleteObject", delete, "Objects can be deleted.")
        except _Broken:
            return

    async def _use(self, check: str, right: str, work: Callable[[], Awaitable[T]], good: str) -> T:
        """Does it, and says how it went. Raises: _Broken."""
        name = f"store.{check}"
        try:
            result = await work()
        except AccessDenied as error:
            mend = f"Give the credentials the right {right} on the bucket {self._bucket}."
            self.findings.append(broken(name, f"The store refuses it: {error}.", mend))
        except StoreUnresolved:
            what = "The host name of the store cannot be resolved."
            self.findings.append(broken(name, what, _RESOLVE))
        except Unavailable as error:
            self.findings.append(broken(name, f"The store did not do it: {error}.", _REACH))
        except StorageError as error:
            mend = f"See what the store supports; the right is {right}."
            self.findings.append(broken(name, f"The store cannot do it: {error}.", mend))
        else:
            self.findings.append(ok(name, good))
            return result
        raise _Broken

    async def _bucket_is_there(self) -> None:
        await self._use(
            "bucket",
            "s3:ListBucket",
            lambda: self._objects.probe(self._bucket),
            "The bucket answers.",
        )

    async def put(self) -> None:
        """The probe object."""
        await self._use(
            "put",
            "s3:PutObject",
            lambda: self._objects.put(self.spec, body_of(LAST)),
            "Objects can be stored, with a checksum.",
        )

    async def _look(self) -> None:
        async def head() -> None:
            found = await self._objects.head(self._bucket, self.spec.key)
            if found is None or found.size != len(LAST):
                raise Rejected("a stored object is not there, or has another size")
            if found.token != self.spec.token:
                raise Rejected("the store does not keep the metadata of objects")

        async def read() -> None:
            reading = self._objects.read(self._bucket, self.spec.key, offset=4, size=4)
            async with aclosing(reading) as chunks:
                if b"".join([chunk async for chunk in chunks]) != LAST[4:8]:
                    raise Rejected("a range of an object holds other bytes")

        await self._use("head", "s3:GetObject", head, "Objects keep size and metadata.")
        await self._use("read", "s3:GetObject", read, "Objects can be read in ranges.")

    async def _verify_checksum(self) -> None:
        check = "store.checksum"
        if self._checksum != "crc32":
            why = f"s3_checksum is {self._checksum}: only crc32 can be tried with a wrong value."
            self.findings.append(skipped(check, why))
            return
        wrong = Body(segments=(LAST,), size=len(LAST), crc32=zlib.crc32(LAST) ^ 1)
        try:
            await self._objects.put(self._whole, wrong)
        except ChecksumRejected:
            self.findings.append(ok(check, "The store refuses bytes that do not match."))
        except StorageError as error:
            self.findings.append(broken(check, f"The store cannot do it: {error}.", _CHECKSUM))
        else:
            what = "The store took bytes with a wrong CRC-32: it does not verify what it gets."
            self.findings.append(warning(check, what, _CHECKSUM))

    async def _multipart(self) -> None:
        objects, whole = self._objects, self._whole
        first = body_of(bytes(MIN_PART_SIZE))

        async def parts() -> None:
            upload_id = await objects.create_multipart(whole)
            try:
                sent = [
                    await objects.upload_part(whole.bucket, whole.key, upload_id, number, body)
                    for number, body in enumerate((first, body_of(LAST)), start=1)
                ]
                await objects.complete_multipart(whole.bucket, whole.key, upload_id, sent)
            except StorageError:
                with suppress(StorageError):
                    await objects.abort_multipart(whole.bucket, whole.key, upload_id)
                raise
            found = await objects.head(whole.bucket, whole.key)
            if found is None or found.size != first.size + len(LAST):
                raise Rejected("the object of a completed multipart upload is not there")

        await self._use("multipart", "s3:PutObject", parts, "Multipart uploads can be completed.")
        upload_id = await self._use(
            "copy", "s3:GetObject", self._copy, "Parts can be copied from other objects."
        )
        try:
            await self._use(
                "list",
                "s3:ListBucketMultipartUploads",
                lambda: self._find(upload_id),
                "Open multipart uploads are listed under the prefix.",
            )
        finally:
            await self._use(
                "abort",
                "s3:AbortMultipartUpload and s3:ListMultipartUploadParts",
                lambda: abort_until_gone(objects, self._bucket, self.spec.key, upload_id),
                "Multipart uploads can be aborted.",
            )

    async def _copy(self) -> str:
        """Leaves an open multipart upload, and returns its id."""
        whole = self._whole
        upload_id = await self._objects.create_multipart(self.spec)
        try:
            await self._objects.copy_part(
                self._bucket,
                self.spec.key,
                upload_id,
                1,
                source_key=whole.key,
                offset=0,
                size=MIN_PART_SIZE,
                crc32=zlib.crc32(bytes(MIN_PART_SIZE)),
            )
        except StorageError:
            with suppress(StorageError):
                await self._objects.abort_multipart(self._bucket, self.spec.key, upload_id)
            raise
        return upload_id

    async def _find(self, upload_id: str) -> None:
        listing = self._objects.list_multipart(self._bucket, self.spec.key)
        async with aclosing(listing) as uploads:
            async for upload in uploads:
                if upload.upload_id == upload_id:
                    return
        raise Rejected("an open multipart upload is not listed")
