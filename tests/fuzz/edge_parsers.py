"""Parsers at the edge of the server: URLs, tokens, forwarded headers, connections, JSON, forms."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlencode

import atheris
from httpx import Headers
from pydantic import ValidationError
from starlette.requests import Request
from uvicorn.config import Config
from uvicorn.server import ServerState

from tusd_py.auth import keys
from tusd_py.auth.forward import ForwardAuth
from tusd_py.auth.grants import AuthUnavailable, Forbidden, Unauthorized
from tusd_py.auth.keys import OneKey, shared_secret
from tusd_py.auth.signatures import UrlSigner
from tusd_py.auth.tokens import Claims, TokenVerifier
from tusd_py.http import companion, operator
from tusd_py.http import session_views as views
from tusd_py.http.connection import Connection
from tusd_py.http.cors import Cors
from tusd_py.http.json_errors import BodyTooLarge, InvalidBody, InvalidQuery
from tusd_py.http.locations import Locations
from tusd_py.operator import refs
from tusd_py.operator.access import Token
from tusd_py.protocol.headers import UPLOAD_ID, effective_method
from tusd_storage.records import JobState

SECRET = "a secret that is long enough for HMAC-SHA-256"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
SIGNED = ("exp", "owner", "max_size", "profile", "key")
FORWARDED = ("host", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
MODELS = [
    views.CreateSession,
    views.SignRequest,
    views.SignPartsRequest,
    views.CompleteRequest,
    companion._Create,
    companion._Complete,
]

_signer = UrlSigner([SECRET])
_verifier = TokenVerifier(OneKey(shared_secret(SECRET)), Claims(audience=("files",)))
_forward = ForwardAuth.__new__(ForwardAuth)
_forward._owner_header = "x-owner"
_locations = [
    Locations("/files/", public_url=None, trusted_proxies=[ip_network(network)])
    for network in ("0.0.0.0/0", "::/0")
]
_cors = [Cors(["*"]), Cors(["https://a.example"])]


def urls(data: bytes) -> None:
    """Paths of uploads, and what proxies say of them."""
    fed = atheris.FuzzedDataProvider(data)
    headers = {name: fed.ConsumeBytes(40).decode("latin-1") for name in FORWARDED}
    peer = fed.ConsumeUnicode(20)
    path = fed.ConsumeBytes(200).decode("utf-8", "replace")
    scope = {"type": "http", "path": path, "root_path": "", "client": (peer, 1), "scheme": "http"}
    for place in _locations:
        place.seen(scope, headers)
        upload_id = path.removeprefix(place.path(scope))
        if UPLOAD_ID.fullmatch(upload_id):
            place.location(scope, headers, upload_id).encode("ascii")


def signed(data: bytes) -> None:
    """Queries that anybody wrote, and those that somebody with the secret did."""
    fed = atheris.FuzzedDataProvider(data)
    given = {name: fed.ConsumeUnicodeNoSurrogates(12) for name in SIGNED if fed.ConsumeBool()}
    given["exp"] = given.get("exp") or "9999999999"
    good = _signer._signed("create", "", given, NOW.replace(year=2040))
    for query in (good, urlencode(given), data.decode("latin-1")):
        with contextlib.suppress(Forbidden):
            _signer.check_creation(query, now=NOW)
        with contextlib.suppress(Forbidden):
            _signer.check_upload(query, "n~a", now=NOW)


def token(data: bytes) -> None:
    """Tokens that anybody wrote; and with any header or claims, signed by somebody with the key."""
    fed = atheris.FuzzedDataProvider(data)
    head = fed.ConsumeBytes(60)
    rest = fed.ConsumeBytes(fed.remaining_bytes())
    usual = b'{"alg":"HS256","typ":"JWT"}'
    claims = b'{"exp":9999999999,"sub":"ann","aud":"files"}'
    candidates = [data.decode("latin-1"), _jwt(head, rest), _jwt(usual, rest), _jwt(head, claims)]
    for text in candidates:
        with contextlib.suppress(Unauthorized):
            _run(_verifier.verify(text))


def key_set(data: bytes) -> None:
    """A JSON Web Key Set."""
    with contextlib.suppress(AuthUnavailable):
        list(keys._parse(data))


def forward_auth(data: bytes) -> None:
    """What a forward-auth server answers."""
    fed = atheris.FuzzedDataProvider(data)
    names = ("www-authenticate", "x-owner", "x-tusd-max-size", "x-tusd-profile")
    headers = Headers([(name.encode(), fed.ConsumeBytes(30)) for name in names])
    with contextlib.suppress(Unauthorized, Forbidden, AuthUnavailable):
        _forward._judged(fed.ConsumeIntInRange(100, 599), headers)


def cors(data: bytes) -> None:
    """Preflights."""
    fed = atheris.FuzzedDataProvider(data)
    origin = fed.ConsumeBytes(30).decode("latin-1")
    requested = fed.ConsumeBytes(100).decode("latin-1")
    for rules in _cors:
        for value in rules.preflight(origin, requested).values():
            value.encode("latin-1")
    effective_method("POST", {"x-http-method-override": requested})


def documents(data: bytes) -> None:
    """JSON bodies of sessions and of Uppy's."""
    for model in MODELS:
        with contextlib.suppress(ValidationError):
            model.model_validate_json(data)


def page(data: bytes) -> None:
    """The operator's page: queries, cookies, forms, names of uploads."""
    fed = atheris.FuzzedDataProvider(data)
    scope = {
        "type": "http",
        "query_string": fed.ConsumeBytes(60),
        "headers": [(b"cookie", fed.ConsumeBytes(80))],
    }
    request = Request(scope, _receiving(fed.ConsumeBytes(fed.remaining_bytes())))
    for ask in (
        lambda: operator._choice(request, "state", JobState),
        lambda: operator._limit(request),
        lambda: companion._query(request, "key"),
        lambda: companion._number(request.query_params.get("n", "")),
        lambda: refs.split(request.query_params.get("ref", "")),
        lambda: Token(SECRET).is_signed_in(request.cookies.get(operator.COOKIE, ""), 0),
        lambda: _run(operator._form(request)),
    ):
        with contextlib.suppress(InvalidQuery, InvalidBody, BodyTooLarge):
            ask()


def connection(data: bytes) -> None:
    """Bytes of a connection, in two pieces, through the server's own HTTP."""
    fed = atheris.FuzzedDataProvider(data)
    cut = fed.ConsumeIntInRange(0, 200)
    rest = fed.ConsumeBytes(fed.remaining_bytes())
    _loop.run_until_complete(_connect([rest[:cut], rest[cut:]]))


class _Wire(asyncio.Transport):
    """A client's end that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Taken."""

    def writelines(self, list_of_data: Any) -> None:
        """Taken."""

    def pause_reading(self) -> None:
        """Pieces are small."""

    def resume_reading(self) -> None:
        """Pieces are small."""

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


_loop = asyncio.new_event_loop()
_config = Config(_echo, interface="asgi3", lifespan="off", log_config=None)


async def _connect(pieces: list[bytes]) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    wire = _Wire()
    server = ServerState()
    protocol = Connection(_config, server, {})
    protocol.connection_made(wire)
    for piece in pieces:
        view = memoryview(piece)
        while view and not wire.closed:
            room = protocol.get_buffer(-1)
            count = min(len(view), len(room))
            room[:count] = view[:count]
            view = view[count:]
            protocol.buffer_updated(count)
            for _ in range(3):
                await asyncio.sleep(0)
    protocol.connection_lost(None)
    while server.tasks:
        await asyncio.gather(*server.tasks, return_exceptions=False)
    if failures:
        raise RuntimeError(failures[0]) from failures[0].get("exception")


def _receiving(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _jwt(head: bytes, claims: bytes) -> str:
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, claims))
    mac = hmac.digest(SECRET.encode(), parts, hashlib.sha256)
    return f"{parts.decode()}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _run(work: Any) -> Any:
    """The end of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waited")
