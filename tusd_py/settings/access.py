"""Who may upload, and how much; what must be true of these settings together."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tusd_py.settings.area import Area, Hidden
from tusd_py.settings.kinds import Duration, Endpoint, Names, Size, Split

MIN_SECRET_LENGTH = 32

AuthWay = Literal["none", "jwt", "signed", "forward"]
AuthWays = Annotated[tuple[AuthWay, ...], Split]


class AccessSettings(Area):
    """Who may upload."""

    auth: AuthWays = ("none",)
    """How requests prove who they are, separated by commas: `jwt` (bearer tokens), `signed` (URLs
    that you sign), `forward` (another server is asked). `none`: anybody may upload."""
    jwt_secret: Annotated[str | None, Hidden()] = None
    """Secret that tokens are signed with (HS256, HS384, HS512), at least 32 characters."""
    jwt_public_key_file: Path | None = None
    """PEM file with the RSA, EC or Ed25519 public key that tokens are verified with."""
    jwt_jwks_url: Endpoint | None = None
    """Address of the JSON Web Key Set that tokens are verified with."""
    jwt_jwks_lifetime: Duration = Field(default=timedelta(minutes=10), ge=timedelta(seconds=1))
    """The key set is fetched again after this time, and for a key that is not in it."""
    jwt_audience: Names = ()
    """Audiences, separated by commas: a token must name one. Without any, tokens that name an
    audience are refused."""
    jwt_issuer: str | None = None
    """Issuer that tokens must name."""
    jwt_leeway: Duration = Field(
        default=timedelta(seconds=30), ge=timedelta(), le=timedelta(minutes=10)
    )
    """Clocks may differ by this much."""
    jwt_owner_claim: str = Field(default="sub", min_length=1)
    """Claim that names the owner of what is uploaded."""
    jwt_max_size_claim: str = Field(default="max_size", min_length=1)
    """Claim that limits the size of an upload, in bytes."""
    jwt_profile_claim: str = Field(default="profile", min_length=1)
    """Claim that names the profile to upload to."""
    url_secrets: Annotated[Names, Hidden()] = ()
    """Secrets for signed URLs, separated by commas, each at least 32 characters. The first signs,
    all are accepted."""
    url_lifetime: Duration | None = Field(default=None, ge=timedelta(seconds=1))
    """The signed URL of an upload is good for this long after its creation. Default:
    `max_lifetime`."""
    forward_auth_url: Endpoint | None = None
    """Address that is asked about every request: 2xx allows it."""
    forward_auth_headers: Names = ("Authorization", "Cookie")
    """Headers of the request that are passed on to it."""
    forward_auth_owner: str = "Remote-User"
    """Header of its answer that names the owner; an answer without it is refused. Empty: uploads
    belong to nobody in particular."""
    forward_auth_timeout: Duration = Field(
        default=timedelta(seconds=5), ge=timedelta(milliseconds=100), le=timedelta(minutes=1)
    )
    """Time it has to answer."""
    owner_max_uploads: int | None = Field(default=None, ge=1)
    """Uploads that one owner may have unfinished at the same time."""
    owner_max_bytes: Size | None = Field(default=None, ge=1)
    """Bytes that the unfinished uploads of one owner may have, by their declared lengths."""
    idempotency_metadata: str | None = None
    """Name of an `Upload-Metadata` value, such as a fingerprint of the file: creating with the same
    value again gives its owner the same upload, as the header `Idempotency-Key` does. Uploads
    without an owner have no such key."""


def check_auth(settings: AccessSettings) -> None:
    """Keys without the way that uses them are refused too: whoever set them wants them used.

    Raises: ValueError.
    """
    ways = set(settings.auth)
    if not ways or ("none" in ways and len(ways) > 1):
        raise ValueError('auth: write "none" alone, or some of jwt, signed, forward')
    keys = ("jwt_secret", "jwt_public_key_file", "jwt_jwks_url")
    given = [name for name in keys if getattr(settings, name)]
    if "jwt" in ways and len(given) != 1:
        raise ValueError(f"auth has jwt: set exactly one of {', '.join(keys)}")
    needs = {"jwt": given, "signed": ["url_secrets"], "forward": ["forward_auth_url"]}
    for way, names in needs.items():
        for name in names:
            if bool(getattr(settings, name)) != (way in ways):
                missing = f"set {name}" if way in ways else f"write {way} into auth, or take it out"
                raise ValueError(
                    f"auth is {','.join(settings.auth)}, {name} is "
                    f"{'not set' if way in ways else 'set'}: {missing}"
                )
    secrets = {"jwt_secret": [settings.jwt_secret or ""], "url_secrets": settings.url_secrets}
    for name, values in secrets.items():
        if any(value and len(value) < MIN_SECRET_LENGTH for value in values):
            raise ValueError(f"{name}: each secret needs at least {MIN_SECRET_LENGTH} characters")
