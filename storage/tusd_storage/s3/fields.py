"""Records as S3 takes them: headers for our own requests, parameters for botocore's. Pure."""

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tusd_storage.errors import InvalidPart, StoreRefused
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.records import ObjectInfo, ObjectSpec, Part

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CreateMultipartUploadRequestTypeDef,
        HeadObjectOutputTypeDef,
        UploadPartCopyOutputTypeDef,
    )

TOKEN_KEY = "tusd-token"  # noqa: S105 - a name, not a secret
"""Of the user metadata."""

_CRC32 = re.compile(r"[A-Za-z0-9+/]{6}==")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def headers(spec: ObjectSpec) -> dict[str, str]:
    """The headers of a PutObject.

    Raises: StoreRefused where a value could not be one; no request may be made with it then.
    """
    values = {
        "Content-Type": spec.content_type,
        "Content-Disposition": spec.content_disposition,
        f"x-amz-meta-{TOKEN_KEY}": spec.token,
    }
    present = {name: value for name, value in values.items() if value is not None}
    for name, value in present.items():
        if not _HEADER_VALUE.fullmatch(value):
            raise StoreRefused("InvalidArgument", f"{name} is not printable ASCII")
    return present


def multipart(spec: ObjectSpec, *, with_crc32: bool) -> "CreateMultipartUploadRequestTypeDef":
    """The parameters of a CreateMultipartUpload. Raises StoreRefused as `headers`."""
    headers(spec)
    parameters: CreateMultipartUploadRequestTypeDef = {
        "Bucket": spec.bucket,
        "Key": spec.key,
        "Metadata": {TOKEN_KEY: spec.token},
    }
    if spec.content_type is not None:
        parameters["ContentType"] = spec.content_type
    if spec.content_disposition is not None:
        parameters["ContentDisposition"] = spec.content_disposition
    if with_crc32:
        # AWS takes parts with a CRC-32 only into an upload that was announced to have them ...
        parameters["ChecksumAlgorithm"] = "CRC32"
    return parameters


def completed(parts: Sequence[Part], *, with_crc32: bool) -> "list[CompletedPartTypeDef]":
    """The part list of a CompleteMultipartUpload, in order.

    Raises: InvalidPart for lists that stores ought to refuse and that some make a wrong object of.
    """
    ordered = sorted(parts, key=lambda part: part.number)
    if not ordered:
        raise InvalidPart("CompleteMultipartUpload: no parts")
    if len({part.number for part in ordered}) != len(ordered):
        raise InvalidPart("CompleteMultipartUpload: a part number is there twice")
    if any(part.size < MIN_PART_SIZE for part in ordered[:-1]):
        raise InvalidPart("CompleteMultipartUpload: a part before the last is too small")
    entries: list[CompletedPartTypeDef] = [
        {"PartNumber": part.number, "ETag": part.etag} for part in ordered
    ]
    if with_crc32:
        # ... and completes it only with all of them.
        for entry, part in zip(entries, ordered, strict=True):
            # A store that keeps no checksum of a copied part asks for none.
            if part.crc32 is not None:
                entry["ChecksumCRC32"] = crc32_text(part.crc32)
    return entries


def info(answer: "HeadObjectOutputTypeDef") -> ObjectInfo:
    """What a HeadObject said."""
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    return ObjectInfo(
        size=answer["ContentLength"],
        etag=answer["ETag"],
        content_type=answer.get("ContentType"),
        token=metadata.get(TOKEN_KEY),
    )


def copied(answer: "UploadPartCopyOutputTypeDef") -> tuple[str, int | None]:
    """ETag and, where the store tells it, the CRC-32 of a copied part."""
    result = answer["CopyPartResult"]
    return result["ETag"], crc32_of(result.get("ChecksumCRC32"))


def crc32_of(text: str | None) -> int | None:
    """The inverse of `crc32_text`; None for what the store did not tell, or not so."""
    if text is None or not _CRC32.fullmatch(text):
        return None
    return int.from_bytes(base64.b64decode(text), "big")


def crc32_text(crc32: int) -> str:
    """As S3 writes it: base64 of four bytes, the highest first."""
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()
