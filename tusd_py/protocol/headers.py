"""Grammar of the single headers, and the names the server advertises.

Parsers return values or raise InvalidHeader; formatters return the header's text.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from tusd_py.protocol.errors import InvalidHeader, UnsupportedMediaType, UnsupportedVersion

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "checksum-trailer",
    "termination",
    "concatenation",
    "concatenation-unfinished",
)
OFFSET_MEDIA_TYPE = "application/offset+octet-stream"
MAX_INTEGER = 2**63 - 1
"""Larger sizes exist on no store and in no database column."""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

UPLOAD_ID = re.compile(r"[A-Za-z0-9_~+-][A-Za-z0-9_~.+-]{0,179}")
"""Shape of ids, the last segment of an upload's URL: `<node>~<random>`, or `<object>+<multipart>`
of an upload that tusd began. Anything else is no upload, and never gets as far as the database. A
longer id would not fit into the name of a tail."""

EXPOSED_HEADERS = (
    "Location",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Defer-Length",
    "Upload-Metadata",
    "Upload-Expires",
    "Upload-Concat",
    "Upload-Checksum",
    "Upload-Error",
    "Tus-Version",
    "Tus-Resumable",
    "Tus-Max-Size",
    "Tus-Extension",
    "Tus-Checksum-Algorithm",
    "Retry-After",
    "WWW-Authenticate",
)
"""Response headers a browser client has to read (CORS)."""

REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-HTTP-Method-Override",
    "X-Requested-With",
    "X-Request-ID",
)
"""Request headers a browser client may send (CORS)."""

Headers = Mapping[str, str]
"""Request headers by lower-case name."""


def integer(headers: Headers, name: str) -> int | None:
    """A non-negative decimal integer (Core, Headers), or None if the header is absent.

    Raises: InvalidHeader for signs, blanks, other digits than ASCII, and values beyond 2^63 - 1.
    """
    text = headers.get(name.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise InvalidHeader(name, "must be a non-negative integer")
    value = int(text)
    if value > MAX_INTEGER:
        raise InvalidHeader(name, "must be a non-negative integer below 2^63")
    return value


def check_version(headers: Headers) -> None:
    """Core, Tus-Resumable: MUST be in every request but OPTIONS. Raises: UnsupportedVersion."""
    version = headers.get("tus-resumable")
    if version != VERSION:
        said = "is absent" if version is None else "names an unsupported version"
        raise UnsupportedVersion(f"Tus-Resumable {said}; this server speaks {VERSION}")


def check_media_type(headers: Headers) -> None:
    """Core, PATCH, and Creation With Upload. Raises: UnsupportedMediaType.

    Offsets count the bytes of the file: a coded body would be stored as it is, and be no longer
    what its sender meant (RFC 9110, section 15.5.16).
    """
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != OFFSET_MEDIA_TYPE:
        raise UnsupportedMediaType(f"the body must be sent as {OFFSET_MEDIA_TYPE}")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("the body must be sent without Content-Encoding")
    if headers.get("transfer-encoding", "chunked").strip().lower() not in ("chunked", "identity"):
        raise UnsupportedMediaType("the body must be sent with no transfer coding but chunked")


def effective_method(method: str, headers: Headers) -> str:
    """Core, X-HTTP-Method-Override: if present, the actual method MUST be ignored."""
    return headers.get("x-http-method-override", method).strip().upper()


def deferred(headers: Headers) -> bool:
    """Creation, Upload-Defer-Length: its value MUST be 1. Raises: InvalidHeader."""
    text = headers.get("upload-defer-length")
    if text is None:
        return False
    if text != "1":
        raise InvalidHeader("Upload-Defer-Length", "must be 1")
    return True


def http_date(at: datetime) -> str:
    """Expiration, Upload-Expires: the datetime format of RFC 9110, section 5.6.7."""
    utc = at.astimezone(UTC)
    # strftime writes the names of the server's language; format_datetime costs twice as much.
    day, month = _DAYS[utc.weekday()], _MONTHS[utc.month - 1]
    date = f"{day}, {utc.day:02} {month} {utc.year:04}"
    return f"{date} {utc.hour:02}:{utc.minute:02}:{utc.second:02} GMT"
