"""Bearer tokens: JSON Web Tokens (RFC 7519), verified as RFC 8725 asks.

Owns which claims mean what. Knows no request; where keys come from is in `keys`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    MissingRequiredClaimError,
    PyJWTError,
)

from tusd_py.auth.grants import Grant, Unauthorized, is_owner
from tusd_py.auth.keys import ALGORITHMS, Keys

MAX_TOKEN_LENGTH = 16 * 1024
MAX_KID_LENGTH = 256

_SAID: Mapping[type[PyJWTError], str] = {
    ExpiredSignatureError: "the token has expired",
    ImmatureSignatureError: "the token is not valid yet",
    InvalidAudienceError: "the token is for another audience",
    InvalidIssuerError: "the token is from another issuer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What tokens must say, and in which claims they say what is allowed."""

    audience: tuple[str, ...] = ()
    """One of them must be in `aud`. None configured: a token with `aud` is for somebody else."""
    issuer: str | None = None
    leeway_s: float = 30.0
    owner: str = "sub"
    max_size: str = "max_size"
    profile: str = "profile"


class TokenVerifier:
    """Turns a token into a grant."""

    def __init__(self, keys: Keys, claims: Claims) -> None:
        self._keys = keys
        self._claims = claims

    async def verify(self, token: str) -> Grant:
        """Raises: Unauthorized, AuthUnavailable."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise _refused("the token is too long")
        algorithm, kid = _header(token)
        key = await self._keys.find(kid)
        if algorithm not in key.algorithms:
            raise _refused("the token's algorithm is not its key's")
        return self._grant(self._decoded(token, key.value, algorithm))

    def _decoded(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        claims = self._claims
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=list(claims.audience) or None,
                issuer=claims.issuer,
                leeway=claims.leeway_s,
                options={"require": ["exp", claims.owner]},
            )
        except MissingRequiredClaimError as error:
            raise _refused(f"the token lacks the claim {error.claim}") from None
        except PyJWTError as error:
            raise _refused(_SAID.get(type(error), "the token is not valid")) from None
        except (ValueError, TypeError, RecursionError, OverflowError):
            raise _refused("the token is not valid") from None

    def _grant(self, found: Mapping[str, Any]) -> Grant:
        claims = self._claims
        owner = found[claims.owner]
        if not is_owner(owner):
            raise _refused(f"the token's claim {claims.owner} is no owner's name")
        max_size = found.get(claims.max_size)
        if max_size is not None and (type(max_size) is not int or max_size < 0):
            raise _refused(f"the token's claim {claims.max_size} is no number of bytes")
        profile = found.get(claims.profile)
        if profile is not None and not isinstance(profile, str):
            raise _refused(f"the token's claim {claims.profile} is no profile's name")
        return Grant(owner=owner, max_size=max_size, profile=profile)


def _header(token: str) -> tuple[str, str | None]:
    """Algorithm and key id, as far as they can be used. `none` cannot. Raises: Unauthorized."""
    try:
        header = jwt.get_unverified_header(token)
    except (PyJWTError, ValueError, TypeError, RecursionError):
        raise _refused("the token is not valid") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refused("the token's algorithm is not accepted")
    if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID_LENGTH):
        raise _refused("the token's key id is not valid")
    return algorithm, kid


def _refused(detail: str) -> Unauthorized:
    """RFC 6750, 3.1."""
    return Unauthorized(detail, f'Bearer error="invalid_token", error_description="{detail}"')
