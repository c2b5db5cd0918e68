"""Signed URLs: the URL is the capability, until it expires. Pure, but for the secrets.

    /files/?exp=1767225600&owner=ann&sig=…         whoever has it may create uploads of ann's
    /files/<id>?exp=1767225600&sig=…               whoever has it may do anything with that upload

`sig` is HMAC-SHA-256 over everything else the server reads from the URL. Parameters of other names
mean nothing and are not signed.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import parse_qsl, urlencode

from tusd_py.auth.grants import Grant, SignatureRefused, is_owner

MIN_SECRET_LENGTH = 32
MAX_SECRETS = 8
MAX_QUERY_LENGTH = 4096
MAX_KEY_LENGTH = 255

_CREATE = "create"
_UPLOAD = "upload"
_NAMES = frozenset({"exp", "sig", "owner", "max_size", "profile", "key"})


class UrlSigner:
    """Signs with the first secret, accepts each."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Raises: ValueError when there is none, too many, or one is too short."""
        if not 1 <= len(secrets) <= MAX_SECRETS:
            raise ValueError(f"write 1 to {MAX_SECRETS} secrets")
        if any(len(secret) < MIN_SECRET_LENGTH for secret in secrets):
            raise ValueError(f"each secret needs at least {MIN_SECRET_LENGTH} characters")
        self._secrets = tuple(secret.encode() for secret in secrets)

    def for_creation(
        self,
        *,
        expires_at: datetime,
        owner: str | None = None,
        max_size: int | None = None,
        profile: str | None = None,
        key: str | None = None,
    ) -> str:
        """The query of a URL that creates uploads.

        Without `owner`, uploads belong to this very URL. With `key` it creates one upload, however
        often it is used. Raises: ValueError.
        """
        if owner is not None and not is_owner(owner):
            raise ValueError("an owner is 1 to 255 printable characters")
        if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
            raise ValueError(f"a key has 1 to {MAX_KEY_LENGTH} characters")
        if max_size is not None and max_size < 0:
            raise ValueError("max_size is negative")
        named = {"owner": owner, "max_size": max_size, "profile": profile, "key": key}
        given = {name: str(value) for name, value in named.items() if value is not None}
        return self._signed(_CREATE, "", given, expires_at)

    def for_upload(self, upload_id: str, *, expires_at: datetime) -> str:
        """The query of an upload's URL."""
        return self._signed(_UPLOAD, upload_id, {}, expires_at)

    def check_creation(self, query: str, *, now: datetime) -> Grant:
        """What a signed URL allows. Raises: SignatureRefused."""
        given = self._checked(_CREATE, "", query, now)
        size = given.get("max_size", "0")
        owner = given.get("owner") or _owner_by(given["sig"])
        if not (size.isascii() and size.isdecimal() and len(size) <= 19 and is_owner(owner)):
            raise SignatureRefused("the signed URL has an owner or a max_size that cannot be")
        return Grant(
            owner=owner,
            max_size=int(size) if "max_size" in given else None,
            profile=given.get("profile"),
            creation_key=given.get("key"),
        )

    def check_upload(self, query: str, upload_id: str, *, now: datetime) -> None:
        """Raises: SignatureRefused."""
        self._checked(_UPLOAD, upload_id, query, now)

    def _signed(self, kind: str, subject: str, given: dict[str, str], expires_at: datetime) -> str:
        given = given | {"exp": str(int(expires_at.timestamp()))}
        signature = _signature(self._secrets[0], kind, subject, given)
        return urlencode([*sorted(given.items()), ("sig", signature)])

    def _checked(self, kind: str, subject: str, query: str, now: datetime) -> dict[str, str]:
        given = _parsed(query)
        signed = {name: value for name, value in given.items() if name != "sig"}
        offered = given["sig"].encode("ascii", "replace")
        matches = [
            hmac.compare_digest(_signature(secret, kind, subject, signed).encode(), offered)
            for secret in self._secrets
        ]
        if not any(matches):
            raise SignatureRefused("the URL's signature is not valid")
        if int(given["exp"]) <= now.timestamp():
            raise SignatureRefused("the signed URL has expired")
        return given


def is_signed(query: str) -> bool:
    """Whether a query claims to be signed."""
    return any(field.startswith("sig=") for field in query.split("&"))


def _parsed(query: str) -> dict[str, str]:
    """Our parameters, each at most once. Raises: SignatureRefused."""
    if len(query) > MAX_QUERY_LENGTH:
        raise SignatureRefused("the URL's query is too long")
    pairs = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] in _NAMES]
    given = dict(pairs)
    expiry = given.get("exp", "")
    if len(given) != len(pairs) or not given.get("sig"):
        raise SignatureRefused("the URL is not signed")
    if not (expiry.isascii() and expiry.isdecimal() and len(expiry) <= 12):
        raise SignatureRefused("the URL's signature is not valid")
    return given


def _signature(secret: bytes, kind: str, subject: str, given: dict[str, str]) -> str:
    text = f"tusd-py/1\n{kind}\n{subject}\n{urlencode(sorted(given.items()))}"
    return _base64url(hmac.digest(secret, text.encode(), "sha256"))


def _owner_by(signature: str) -> str:
    """The owner of what a URL without one creates: stable, and tells nothing of the signature."""
    return f"url:{_base64url(hashlib.sha256(signature.encode()).digest()[:16])}"


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
