"""What a check of a request ends with: a grant, or one of three refusals. Pure."""

from dataclasses import dataclass

MAX_OWNER_LENGTH = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a request may do."""

    owner: str | None = None
    """Recorded with what it creates; others' uploads are not found. None: nobody in particular."""
    max_size: int | None = None
    """Bytes an upload created by it may have at most."""
    profile: str | None = None
    """The one profile it may create in. None: any."""
    creation_key: str | None = None
    """Creating again with the same key gives the same upload."""


class Unauthorized(Exception):
    """Who is this? Answered with 401; `challenge` is its `WWW-Authenticate` (RFC 9110, 11.6.1)."""

    def __init__(self, detail: str = "credentials are needed", challenge: str = "Bearer") -> None:
        super().__init__(detail)
        self.challenge = challenge


class Forbidden(Exception):
    """This one may not. Answered with 403."""

    def __init__(self, detail: str = "this is not allowed", challenge: str | None = None) -> None:
        super().__init__(detail)
        self.challenge = challenge


class SignatureRefused(Forbidden):
    """The URL is not signed, was changed, or has expired. Answered with 403."""


class AuthUnavailable(Exception):
    """It cannot be told now who this is. Answered with 503; the reason is for the log alone."""


def is_owner(name: object) -> bool:
    """Whether it can stand in a row and in a header: 1 to 255 printable characters."""
    return isinstance(name, str) and 0 < len(name) <= MAX_OWNER_LENGTH and name.isprintable()
