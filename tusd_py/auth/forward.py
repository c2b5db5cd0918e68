"""Forward-auth: another server is asked about each request, as nginx and Traefik do it.

Owns the question and what its answer means. Knows no ASGI.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from tusd_py.auth.client import ANSWER_SIZE, read_bounded
from tusd_py.auth.grants import AuthUnavailable, Forbidden, Grant, Unauthorized, is_owner

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)

MAX_SIZE_HEADER = "Upload-Max-Size"
PROFILE_HEADER = "Upload-Profile"
_MAX_CHALLENGE_LENGTH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The request that is asked about."""

    method: str
    uri: str
    """Path and query, as the client sent them."""
    proto: str
    host: str
    client: str
    """The `X-Forwarded-For` to send."""
    headers: Mapping[str, str]
    """The client's headers, by lower-case name."""


class ForwardAuth:
    """Asks a URL."""

    def __init__(
        self,
        url: str,
        client: "httpx.AsyncClient",
        *,
        passed: tuple[str, ...],
        owner_header: str | None,
        timeout_s: float,
    ) -> None:
        self._url = url
        self._client = client
        self._passed = tuple(name.lower() for name in passed)
        self._owner_header = owner_header
        self._timeout_s = timeout_s

    async def ask(self, question: Question) -> Grant:
        """2xx is yes. Raises: Unauthorized (401), Forbidden (403), AuthUnavailable (all else)."""
        import httpx

        headers = {
            "X-Forwarded-Method": question.method,
            "X-Forwarded-Uri": question.uri,
            "X-Forwarded-Proto": question.proto,
            "X-Forwarded-Host": question.host,
            "X-Forwarded-For": question.client,
            "Accept-Encoding": "identity",
        }
        for name in self._passed:
            if name in question.headers:
                headers[name] = question.headers[name]
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("GET", self._url, headers=raw) as answer,
            ):
                await read_bounded(answer, ANSWER_SIZE)
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("forward_auth_unavailable", reason=type(error).__name__)
            raise AuthUnavailable("forward-auth did not answer") from None
        return self._judged(answer.status_code, answer.headers)

    def _judged(self, status: int, headers: Mapping[str, str]) -> Grant:
        challenge = headers.get("www-authenticate", "")[:_MAX_CHALLENGE_LENGTH]
        if not challenge.isascii():  # as a header of ours it could not be sent
            challenge = ""
        if status == 401:
            raise Unauthorized("credentials are needed", challenge or "Bearer")
        if status == 403:
            raise Forbidden("this is not allowed", challenge or None)
        if not 200 <= status < 300:
            raise _misconfigured(f"answered {status}")
        return Grant(
            owner=self._owner(headers),
            max_size=_size(headers.get(MAX_SIZE_HEADER)),
            profile=headers.get(PROFILE_HEADER) or None,
        )

    def _owner(self, headers: Mapping[str, str]) -> str | None:
        """Without a name all that is uploaded would be everybody's: then nothing is."""
        if self._owner_header is None:
            return None
        owner = headers.get(self._owner_header)
        if not is_owner(owner):
            raise _misconfigured(f"named no owner in {self._owner_header}")
        return owner


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise _misconfigured(f"sent a {MAX_SIZE_HEADER} that is no number of bytes")
    return int(text)


def _misconfigured(reason: str) -> AuthUnavailable:
    log.warning("forward_auth_unavailable", reason=reason)
    return AuthUnavailable(f"forward-auth {reason}")
