"""What must be true of the settings under "Who may upload" together. Pure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

MIN_SECRET_LENGTH = 32


class AuthSettings(Protocol):
    """The part of `Settings` that is looked at."""

    @property
    def auth(self) -> Sequence[str]: ...
    @property
    def jwt_secret(self) -> str | None: ...
    @property
    def jwt_public_key_file(self) -> Path | None: ...
    @property
    def jwt_jwks_url(self) -> str | None: ...
    @property
    def url_secrets(self) -> Sequence[str]: ...
    @property
    def forward_auth_url(self) -> str | None: ...


def check_auth(settings: AuthSettings) -> None:
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
