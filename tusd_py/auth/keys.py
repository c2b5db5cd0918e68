"""Keys that tokens are verified with: one that is configured, or a set behind a URL (JWKS).

Owns which algorithms a key may be used with: they follow from the key, never from the token
(RFC 8725, 3.1 and 3.2). Knows no claim.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from tusd_py.auth.grants import AuthUnavailable, Unauthorized

log = structlog.get_logger(__name__)

HMAC = frozenset({"HS256", "HS384", "HS512"})
RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
EDDSA = frozenset({"EdDSA"})
ALGORITHMS = HMAC | RSA | frozenset(_CURVES.values()) | EDDSA
"""All that can be accepted, each only with a key of its kind."""

MIN_SECRET_LENGTH = 32
MIN_RSA_BITS = 2048
MAX_KEYS = 100
STALE_S = 24 * 3600.0
"""Keys that can no longer be fetched are trusted for so long after they were last seen."""
RETRY_S = 30.0
"""An unknown key id leads to another fetch at most this often: tokens with invented ids must not
become requests to the issuer."""
FAILED_RETRY_S = 3.0
"""As `RETRY_S`, after a fetch that failed."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key and what it may be used for."""

    value: Any
    algorithms: frozenset[str]


class Keys(Protocol):
    """Where a verifier finds keys."""

    async def find(self, kid: str | None) -> Key:
        """Raises: Unauthorized for an unknown id, AuthUnavailable."""
        ...


class OneKey:
    """The configured key, whatever id a token names."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def find(self, kid: str | None) -> Key:
        """The key."""
        return self._key


def shared_secret(secret: str) -> Key:
    """Raises: ValueError when it is too short (RFC 7518, 3.2)."""
    if len(secret) < MIN_SECRET_LENGTH:
        raise ValueError(f"a secret has at least {MIN_SECRET_LENGTH} characters")
    return Key(secret.encode(), HMAC)


def public_key(pem: bytes) -> Key:
    """From PEM (SubjectPublicKeyInfo). Raises: ValueError for private, short and other keys."""
    try:
        return _key_of(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            "write the path of a PEM file with a public key: RSA of at least 2048 bits, "
            "EC (P-256, P-384, P-521) or Ed25519"
        ) from None


def _key_of(key: object) -> Key:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return Key(key, RSA)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return Key(key, frozenset({_CURVES[key.curve.name]}))
    if isinstance(key, ed25519.Ed25519PublicKey):
        return Key(key, EDDSA)
    raise ValueError("no key that tokens are verified with")


class RemoteKeys:
    """A JSON Web Key Set (RFC 7517), fetched when needed and kept."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        *,
        lifetime_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        """`fetch` is bounded in time and size, and raises AuthUnavailable."""
        self._fetch = fetch
        self._lifetime_s = lifetime_s
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._keys: dict[str | None, Key] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failed = False

    async def find(self, kid: str | None) -> Key:
        """See `Keys`. A token without an id is good for a set of one key."""
        known = self._look(kid) is not None and self._age(self._fetched_at) <= STALE_S
        if not (known and (self._is_fresh() or self._lock.locked())):  # else somebody fetches now
            await self._refresh(kid)
        found = self._look(kid)
        if found is None and self._failed:
            raise AuthUnavailable("the keys of the tokens cannot be fetched")
        if found is None:
            raise Unauthorized("the token's key is not known", _INVALID)
        return found

    def _look(self, kid: str | None) -> Key | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return None if kid is None else self._keys.get(kid)

    def _is_fresh(self) -> bool:
        return self._age(self._fetched_at) < self._lifetime_s

    def _age(self, since: float | None) -> float:
        return float("inf") if since is None else self._monotonic() - since

    async def _refresh(self, kid: str | None) -> None:
        """At most one fetch at a time. Raises: AuthUnavailable when the keys are too old."""
        async with self._lock:
            if self._is_fresh() and self._look(kid) is not None:
                return  # somebody else fetched it meanwhile
            if self._age(self._tried_at) >= (FAILED_RETRY_S if self._failed else RETRY_S):
                await self._try()
            if self._age(self._fetched_at) > STALE_S:
                raise AuthUnavailable("the keys of the tokens cannot be fetched")

    async def _try(self) -> None:
        self._failed = True  # should this be cancelled
        try:
            self._keys = dict(_parse(await self._fetch()))
            self._fetched_at, self._failed = self._monotonic(), False
        except AuthUnavailable as error:
            log.warning("jwks_unavailable", reason=str(error))
        finally:
            self._tried_at = self._monotonic()


_INVALID = 'Bearer error="invalid_token"'


def _parse(text: bytes) -> Iterator[tuple[str | None, Key]]:
    """The usable keys by id. Raises: AuthUnavailable when it is no key set."""
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise AuthUnavailable("the key set is no JSON Web Key Set") from None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise AuthUnavailable(f"the key set is no list of at most {MAX_KEYS} keys")
    for entry in entries:
        if isinstance(entry, dict) and (key := _usable(entry)) is not None:
            kid = entry.get("kid")
            yield (kid if isinstance(kid, str) else None), key


def _usable(entry: dict[str, Any]) -> Key | None:
    """A public key for signatures; None for what else may be in a set. Never a shared secret."""
    if entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
        return None
    public = {name: value for name, value in entry.items() if name not in ("alg", "d")}
    try:
        key = _key_of(PyJWK(public).key)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    named = entry.get("alg")
    allowed = key.algorithms if named is None else key.algorithms & {str(named)}
    return Key(key.value, allowed) if allowed else None
