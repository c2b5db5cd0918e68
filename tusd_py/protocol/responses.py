"""The headers of answers. Values in, header names and texts out."""

from datetime import datetime

from tusd_py.protocol.checksum import ALGORITHMS, crc32_text
from tusd_py.protocol.headers import EXTENSIONS, VERSION, http_date


def options(max_size: int | None) -> dict[str, str]:
    """Core, OPTIONS; Checksum: Tus-Checksum-Algorithm."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": ",".join(EXTENSIONS),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    if max_size is not None:
        headers["Tus-Max-Size"] = str(max_size)
    return headers


def created(
    location: str, *, offset: int | None, expires: datetime | None, crc32: int | None = None
) -> dict[str, str]:
    """Creation, POST. Creation With Upload: Upload-Offset when a body came."""
    headers = {"Location": location}
    if offset is not None:
        headers["Upload-Offset"] = str(offset)
    return headers | _expires(expires) | file_checksum(crc32)


def patched(offset: int, *, expires: datetime | None, crc32: int | None = None) -> dict[str, str]:
    """Core, PATCH; Expiration: MUST be in every PATCH response if the upload is going to expire."""
    return {"Upload-Offset": str(offset)} | _expires(expires) | file_checksum(crc32)


def head(
    *,
    offset: int | None,
    length: int | None,
    metadata: str,
    concat: str | None,
    expires: datetime | None,
    crc32: int | None = None,
) -> dict[str, str]:
    """Core, HEAD. `offset` is None for a final upload that is not there yet (Concatenation)."""
    headers = {"Cache-Control": "no-store"}
    if offset is not None:
        headers["Upload-Offset"] = str(offset)
    if length is not None:
        headers["Upload-Length"] = str(length)
    elif concat is None or concat == "partial":
        headers["Upload-Defer-Length"] = "1"
    if metadata:
        headers["Upload-Metadata"] = metadata
    if concat is not None:
        headers["Upload-Concat"] = concat
    return headers | _expires(expires) | file_checksum(crc32)


def file_checksum(crc32: int | None) -> dict[str, str]:
    """The whole file's checksum, once the upload is complete; in the form of Upload-Checksum."""
    return {} if crc32 is None else {"Upload-Checksum": crc32_text(crc32)}


def _expires(at: datetime | None) -> dict[str, str]:
    return {} if at is None else {"Upload-Expires": http_date(at)}
