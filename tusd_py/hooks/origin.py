"""The client's request behind what happens now, wherever in the program it happens.

Set once, where requests come in; read where an event is written. Work that no client asked for
(the reaper's, a job's) has none.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote_to_bytes

from tusd_py.hooks.events import HttpRequest

Scope = MutableMapping[str, Any]

_scope: ContextVar[Scope | None] = ContextVar("hooks_origin", default=None)

_SIGNATURE = b"sig"
"""The parameter that makes a URL a capability, see `tusd_py.auth.signatures`."""
CREDENTIALS = frozenset({"Authorization", "Cookie", "Proxy-Authorization"})
"""Not stored with events unless the operator wants them forwarded."""


@contextmanager
def serving(scope: Scope | None) -> Iterator[None]:
    """What happens in this block, and in tasks begun in it, is this request's doing."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def current() -> Scope | None:
    """The ASGI scope of the request, if there is one."""
    return _scope.get()


def described(scope: Scope | None, *, without: Iterable[str] = ()) -> HttpRequest:
    """The request as hooks are told of it, `without` some headers (canonical names).

    A signed URL is told without its signature: who reads it could use it.
    """
    if scope is None:
        return HttpRequest()
    header: dict[str, tuple[str, ...]] = {}
    for raw_name, raw_value in scope["headers"]:
        name = canonical(raw_name.decode("latin-1"))
        header[name] = (*header.get(name, ()), raw_value.decode("latin-1"))
    for name in without:
        header.pop(name, None)
    return HttpRequest(
        method=scope["method"],
        uri=_uri(scope),
        remote_addr=_address(scope.get("client")),
        header=header,
    )


def canonical(name: str) -> str:
    """Go's CanonicalHeaderKey: `upload-length` is `Upload-Length`."""
    return "-".join(piece[:1].upper() + piece[1:].lower() for piece in name.split("-"))


def _uri(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or str(scope["path"]).encode()
    query: bytes = scope.get("query_string") or b""
    query = b"&".join(map(_masked, query.split(b"&")))
    return (raw + b"?" + query if query else raw).decode("latin-1")


def _masked(pair: bytes) -> bytes:
    name, equals, _ = pair.partition(b"=")
    return name + equals + b"***" if equals and unquote_to_bytes(name) == _SIGNATURE else pair


def _address(client: Any) -> str:
    if not client:
        return ""
    host, port = client
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
