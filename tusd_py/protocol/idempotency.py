"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), and what two requests share.

A creation that is sent again with the key it had gives the upload of the first one.
"""

import hashlib
import re
from dataclasses import dataclass

from tusd_py.protocol.errors import InvalidHeader, KeyReused
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.requests import CreateRequest

MAX_FINGERPRINT_SIZE = 1024
"""Bytes of a metadata value that serves as a key."""

MIN_OPEN_LENGTH = 16
"""Characters of a key where there are no owners. It then stands for its upload's URL, so nobody
must guess it, and no two clients choose the same; a UUID has 36."""

_NAME = "Idempotency-Key"
_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreationKey:
    """What a creation can be recognised by."""

    key: str
    """Hash of the owner and the key, so that one owner's keys say nothing to another."""
    digest: str
    """Hash of what was asked for."""

    def check(self, digest: str | None) -> None:
        """Raises: KeyReused unless the same was asked for."""
        if digest != self.digest:
            raise KeyReused(f"{_NAME}: this key was used for another upload")


def creation_key(
    headers: Headers,
    request: CreateRequest,
    *,
    owner: str | None,
    fixed: str | None = None,
    metadata_key: str | None = None,
) -> CreationKey | None:
    """The key of a creation, or None.

    `fixed` comes from the grant and wins; then the header; then the metadata named `metadata_key`.
    Partial uploads have none: clients send one header with all that belong to a file.
    Without an owner all clients share one space of keys: a header must then be long, and metadata
    is no key, since others may have the same file. Raises: InvalidHeader.
    """
    given = _given(headers, request, None if owner is None else metadata_key)
    if request.concat.partial:
        return None
    if fixed is not None:
        given = f"grant {fixed}"
    if given is None:
        return None
    if owner is None and fixed is None and len(headers[_NAME.lower()]) < MIN_OPEN_LENGTH:
        raise InvalidHeader(
            _NAME, f"must have at least {MIN_OPEN_LENGTH} characters where uploads have no owner"
        )
    subject = ("nobody", "") if owner is None else ("owner", owner)
    return CreationKey(key=_hash(*subject, given), digest=digest_of(request))


def digest_of(request: CreateRequest) -> str:
    """Of length, metadata in any order, and partial uploads; not of a body that came with it."""
    pairs = [text for key in sorted(request.pairs) for text in (key, request.pairs[key].hex())]
    return _hash(str(request.length), "final" * request.concat.final, *request.concat.ids, *pairs)


def _given(headers: Headers, request: CreateRequest, metadata_key: str | None) -> str | None:
    header = headers.get(_NAME.lower())
    if header is not None:
        if not _KEY.fullmatch(header):
            raise InvalidHeader(_NAME, "must be 1 to 255 visible ASCII characters")
        return f"header {header}"
    fingerprint = request.pairs.get(metadata_key) if metadata_key is not None else None
    if not fingerprint:
        return None
    if len(fingerprint) > MAX_FINGERPRINT_SIZE:
        raise InvalidHeader(
            "Upload-Metadata", f"{metadata_key} must have at most {MAX_FINGERPRINT_SIZE} bytes"
        )
    return f"metadata {fingerprint.hex()}"


def _hash(*texts: str) -> str:
    """Unambiguous: each text with its length."""
    state = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        state.update(f"{len(raw)}:".encode())
        state.update(raw)
    return state.hexdigest()
