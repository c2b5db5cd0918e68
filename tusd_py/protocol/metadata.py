"""Upload-Metadata (Creation): strict grammar, and the few keys the server itself reads."""

import base64
import binascii
from collections.abc import Mapping

from tusd_py.protocol.errors import InvalidHeader

MAX_METADATA_LENGTH = 16 * 1024
"""Characters of the whole header; it is kept in the row and sent back on every HEAD."""

MAX_FILENAME_LENGTH = 255
_NAME = "Upload-Metadata"


def parse(text: str) -> dict[str, bytes]:
    """Key-value pairs in order of appearance; an absent value is empty.

    Creation, Upload-Metadata: keys are not empty, unique, ASCII, without spaces and commas;
    values are Base64. Raises: InvalidHeader.
    """
    if not text:
        return {}
    if len(text) > MAX_METADATA_LENGTH:
        raise InvalidHeader(_NAME, f"must not be longer than {MAX_METADATA_LENGTH} characters")
    pairs: dict[str, bytes] = {}
    for element in text.split(","):
        key, _, value = element.strip(" \t").partition(" ")
        if not key or not all("!" <= char <= "~" for char in key):
            raise InvalidHeader(_NAME, "keys must be visible ASCII and not empty")
        if key in pairs:
            raise InvalidHeader(_NAME, "keys must be unique")
        pairs[key] = _decode(value.strip(" "))
    return pairs


def _decode(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidHeader(_NAME, "values must be Base64 (RFC 4648, section 4)") from error


def filename(pairs: Mapping[str, bytes]) -> str | None:
    """The original name (`filename`, as tus-js-client and Uppy send it; or `name`), made safe.

    Only the last path segment counts, and control characters are dropped.
    """
    text = _text(pairs, "filename", "name")
    if text is None:
        return None
    last = text.replace("\\", "/").rpartition("/")[2]
    clean = "".join(char for char in last if char.isprintable()).strip()
    name = clean[:MAX_FILENAME_LENGTH].rstrip()
    return None if name in {"", ".", ".."} else name


def content_type(pairs: Mapping[str, bytes]) -> str | None:
    """The media type (`filetype` or `contentType`), or None unless it is a well-formed one."""
    text = _text(pairs, "filetype", "contentType")
    if text is None or not is_media_type(text):
        return None
    return text


def is_media_type(text: str) -> bool:
    """Whether the text is `type/subtype`, perhaps with parameters, in ASCII (RFC 9110, 8.3)."""
    if len(text) > 255 or not all(" " <= char <= "~" for char in text):
        return False
    essence = text.partition(";")[0].strip()
    kind, slash, subtype = essence.partition("/")
    return bool(slash) and _is_token(kind) and _is_token(subtype)


def _is_token(text: str) -> bool:
    """RFC 9110, section 5.6.2."""
    return bool(text) and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in text)


def _text(pairs: Mapping[str, bytes], *keys: str) -> str | None:
    for key in keys:
        value = pairs.get(key)
        if value:
            return value.decode("utf-8", "replace")
    return None
