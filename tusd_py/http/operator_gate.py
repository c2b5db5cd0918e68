"""Who may see the operator's page: the token, the cookie that stands for it, or nobody but this
machine's own browser.

Owns the whole decision, also against requests that other sites make a browser send.
"""

import time
from enum import StrEnum
from ipaddress import ip_address

from starlette.requests import Request

from tusd_py.http.auth import Forbidden, Unauthorized
from tusd_py.operator.access import COOKIE, Token

OWN_HEADER = "x-tusd-operator"
"""Sent by the page with what changes something. Another site's page cannot, without asking first
(CORS preflight), and is never allowed to."""

_PROXIED = ("forwarded", "via", "x-forwarded-", "x-real-ip")
"""How the headers begin that proxies add."""
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


class Proof(StrEnum):
    """By what a request may pass."""

    BEARER = "bearer"
    COOKIE = "cookie"
    OPEN = "open"


class Gate:
    """One for the process. `is_open` lets in what comes from this machine itself."""

    def __init__(self, token: str | None, *, is_open: bool) -> None:
        self.token = None if token is None else Token(token)
        self._is_open = is_open

    def proof(self, request: Request) -> Proof | None:
        """By what this request may pass; None: it may not."""
        if self.token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and self.token.matches(given.strip()):
                return Proof.BEARER
            if self.token.is_signed_in(_cookie(request), time.time()):
                return Proof.COOKIE
        if self._is_open and is_from_here(request):
            return Proof.OPEN
        return None

    def check(self, request: Request) -> None:
        """Raises: Unauthorized; Forbidden for what another site's page sent."""
        proof = self.proof(request)
        if proof is None:
            raise Unauthorized("sign in, or send the operator's token as Authorization: Bearer")
        if proof is Proof.BEARER:
            return  # no browser sends it by itself
        refuse_foreign(request)
        if request.method != "GET" and OWN_HEADER not in request.headers:
            raise Forbidden(f"what changes something needs the header {OWN_HEADER}")


def refuse_foreign(request: Request) -> None:
    """Raises: Forbidden, when the browser says that another site's page sent it (Fetch Metadata).

    Browsers say so over https and to loopback; elsewhere the cookie's SameSite has to do.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("this came from another site's page")


def is_from_here(request: Request) -> bool:
    """Whether a program of this machine sent it, to this machine by name, through no proxy.

    The name counts because a name of somebody else's may resolve to loopback (DNS rebinding).
    """
    if request.client is None or any(name.startswith(_PROXIED) for name in request.headers):
        return False
    try:
        here = ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    return here and _host_name(request) in _LOOPBACK_NAMES


def _host_name(request: Request) -> str:
    host = request.headers.get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _cookie(request: Request) -> str:
    """Read leniently: `SimpleCookie` gives up all cookies because of a neighbour's."""
    return request.cookies.get(COOKIE, "")
