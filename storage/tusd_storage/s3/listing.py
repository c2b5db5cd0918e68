"""S3 listings: of multipart uploads and of parts.

Owns what to believe of them: stores list a part once for each time it was sent, order nothing, and
some send a reader back to where it was, for ever.
"""

from collections.abc import AsyncGenerator, Iterable
from datetime import UTC
from typing import TYPE_CHECKING

from tusd_storage.records import MultipartUpload, Part
from tusd_storage.s3 import faults
from tusd_storage.s3.calls import Calls
from tusd_storage.s3.fields import crc32_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        ListMultipartUploadsOutputTypeDef,
        ListObjectsV2OutputTypeDef,
        ListPartsOutputTypeDef,
        PartTypeDef,
    )


class Lister:
    """Follows the pages of a listing."""

    def __init__(self, client: "S3Client", calls: Calls) -> None:
        self._client = client
        self._calls = calls

    async def uploads(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """ListMultipartUploads, until it ends or leads to where it has been."""
        marker = ("", "")
        been: set[tuple[str, str]] = set()
        before: set[tuple[str, str]] = set()
        while marker not in been:
            been.add(marker)
            page = await self._uploads_page(bucket, prefix, *marker)
            with faults.reading("ListMultipartUploads"):
                found = list(_uploads(page))
            for upload in found:
                if upload.key.startswith(prefix) and (upload.key, upload.upload_id) not in before:
                    yield upload
            before = {(upload.key, upload.upload_id) for upload in found}
            if not page.get("IsTruncated"):
                return
            marker = (page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", ""))

    async def keys(self, bucket: str, prefix: str) -> AsyncGenerator[str, None]:
        """ListObjectsV2: every key under the prefix, until the listing ends or stands still."""
        token = ""
        while True:
            page = await self._keys_page(bucket, prefix, token)
            with faults.reading("ListObjectsV2"):
                keys = [entry["Key"] for entry in page.get("Contents", ())]
            for key in keys:
                yield key
            following = page.get("NextContinuationToken", "")
            if not page.get("IsTruncated") or following in {"", token}:
                return
            token = following

    async def parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        """ListParts, all pages: one entry a number. Raises NoSuchUpload."""
        found: list[PartTypeDef] = []
        marker = 0
        while True:
            page = await self._parts_page(bucket, key, upload_id, marker)
            found += page.get("Parts", ())
            with faults.reading("ListParts"):
                following = int(page.get("NextPartNumberMarker") or 0)
                if not page.get("IsTruncated") or following <= marker:
                    return newest(found)
            marker = following

    async def _uploads_page(
        self, bucket: str, prefix: str, key_marker: str, id_marker: str
    ) -> "ListMultipartUploadsOutputTypeDef":
        def request() -> "ListMultipartUploadsOutputTypeDef":
            if not key_marker:
                return self._client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
            return self._client.list_multipart_uploads(
                Bucket=bucket, Prefix=prefix, KeyMarker=key_marker, UploadIdMarker=id_marker
            )

        return await self._calls.call("ListMultipartUploads", request)

    async def _keys_page(
        self, bucket: str, prefix: str, token: str
    ) -> "ListObjectsV2OutputTypeDef":
        def request() -> "ListObjectsV2OutputTypeDef":
            if not token:
                return self._client.list_objects_v2(Bucket=bucket, Prefix=prefix)
            return self._client.list_objects_v2(
                Bucket=bucket, Prefix=prefix, ContinuationToken=token
            )

        return await self._calls.call("ListObjectsV2", request)

    async def _parts_page(
        self, bucket: str, key: str, upload_id: str, marker: int
    ) -> "ListPartsOutputTypeDef":
        return await self._calls.call(
            "ListParts",
            lambda: self._client.list_parts(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumberMarker=marker
            ),
        )


def newest(parts: "Iterable[PartTypeDef]") -> list[Part]:
    """One entry a part number, in order: the newest, and of equally new ones the last listed."""
    found: dict[int, PartTypeDef] = {}
    for part in parts:
        known = found.get(part["PartNumber"])
        if known is None or part["LastModified"] >= known["LastModified"]:
            found[part["PartNumber"]] = part
    return [
        Part(
            number=number,
            size=part["Size"],
            etag=part["ETag"],
            crc32=crc32_of(part.get("ChecksumCRC32")),
        )
        for number, part in sorted(found.items())
    ]


def _uploads(page: "ListMultipartUploadsOutputTypeDef") -> "Iterable[MultipartUpload]":
    return (
        MultipartUpload(
            key=entry["Key"],
            upload_id=entry["UploadId"],
            initiated_at=entry["Initiated"].astimezone(UTC),
        )
        for entry in page.get("Uploads", ())
    )
