"""What once let a request in, kept it out, or gave a secret away: each stays mended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from tusd_py.app import create_app
from tusd_py.auth.forward import ForwardAuth, Question
from tusd_py.auth.grants import Grant, SignatureRefused, Unauthorized
from tusd_py.auth.signatures import UrlSigner, _signature
from tusd_py.hooks import origin
from tusd_py.http import auth
from tusd_py.http.auth import Action
from tusd_py.http.authorizers import Forwarded
from tusd_py.http.cors import Cors
from tusd_py.http.locations import Locations
from tusd_py.http.operator_gate import Gate, Proof, is_from_here
from tusd_py.http.resource import Resource
from tusd_py.operator.access import COOKIE
from tusd_py.protocol.headers import MAX_INTEGER
from tusd_py.protocol.idempotency import creation_key
from tusd_py.protocol.requests import parse_create
from tusd_py.services import Services
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import load
from tusd_py.uploads.creation import new_upload
from tusd_storage.errors import CreationRepeated

QUESTION = Question(
    method="PATCH", uri="/files/a", proto="http", host="h", client="10.0.0.1", headers={}
)


class _Body(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""


def forward(judge: Callable[[httpx.Request], tuple[int, list[tuple[bytes, bytes]]]]) -> ForwardAuth:
    def answer(request: httpx.Request) -> httpx.Response:
        status, headers = judge(request)
        return httpx.Response(status, headers=headers, stream=_Body())

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return ForwardAuth(
        "http://auth/", client, passed=("Cookie",), owner_header="Remote-User", timeout_s=5
    )


async def test_the_method_that_is_asked_about_is_the_one_that_is_served() -> None:
    way = Forwarded(
        forward(
            lambda r: (
                200 if r.headers["x-forwarded-method"] == "GET" else 403,
                [(b"remote-user", b"ann")],
            )
        ),
        Locations("/files/", public_url=None, trusted_proxies=()),
    )

    async def cancel(request: Request) -> Response:
        await auth.check(way, request, Action.TERMINATE, None)
        return Response("cancelled")

    app = httpx.ASGITransport(app=Resource({"DELETE": cancel}, Cors(())))
    async with httpx.AsyncClient(transport=app, base_url="http://s") as client:
        for headers in ({}, {"X-HTTP-Method-Override": "GET"}):
            assert (await client.delete("/sessions/x", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "change", [{"headers": {"cookie": "n=Jos\xc3\xa9"}}, {"uri": "/files/?x=\xe9"}]
)
async def test_what_is_not_ascii_is_passed_on_as_it_came(change: dict[str, Any]) -> None:
    asked: list[httpx.Request] = []

    def judge(request: httpx.Request) -> tuple[int, list[tuple[bytes, bytes]]]:
        asked.append(request)
        return 200, [(b"remote-user", b"ann")]

    assert await forward(judge).ask(replace(QUESTION, **change)) == Grant(owner="ann")
    raw = dict(asked[0].headers.raw)
    for name, text in change.get("headers", {}).items():
        assert raw[name.encode()] == text.encode("latin-1")


async def test_a_challenge_that_cannot_be_sent_on_is_not() -> None:
    realm = 'Basic realm="Łódź"'.encode()
    with pytest.raises(Unauthorized) as refused:
        await forward(lambda _: (401, [(b"www-authenticate", realm)])).ask(QUESTION)
    assert refused.value.challenge == "Bearer"


async def test_a_sign_in_that_never_ends_is_ended(tmp_path: Path) -> None:
    app = create_app(
        Settings(
            s3_bucket="abc",
            data_dir=tmp_path,
            s3_endpoint="http://127.0.0.1:9",
            work=False,
            reap=False,
            operator_page=True,
            operator_token="t" * 20,
            body_idle_timeout="1s",
        )
    )
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/operator/login", "raw_path": b"/operator/login",
        "query_string": b"", "headers": [(b"content-length", b"9")], "client": ("192.0.2.1", 1),
        "scheme": "http", "root_path": "", "http_version": "1.1", "server": ("s", 80),
    }  # fmt: skip
    try:
        await asyncio.wait_for(app(scope, receive, send), 5)
    finally:
        await app.state.services.stop()
    assert sent[0]["status"] == 503


@pytest.mark.parametrize("neighbour", ['prefs={"a":1}', "n=Jos\xc3\xa9"])
def test_other_cookies_do_not_sign_anybody_out(neighbour: str) -> None:
    gate = Gate("t" * 20, is_open=False)
    assert gate.token is not None
    given = f"{neighbour}; {COOKIE}={gate.token.sign_in(4e9)}".encode("latin-1")
    request = Request({"type": "http", "method": "GET", "headers": [(b"cookie", given)]})
    assert gate.proof(request) is Proof.COOKIE


@pytest.mark.parametrize("name", ["x-forwarded-proto", "x-forwarded-port", "x-forwarded-server"])
def test_whatever_a_proxy_says_of_itself_closes_the_page(name: str) -> None:
    headers = [(b"host", b"localhost:8080"), (name.encode(), b"x")]
    assert not is_from_here(
        Request({"type": "http", "method": "GET", "headers": headers, "client": ("127.0.0.1", 1)})
    )


async def test_a_limit_beyond_all_sizes_is_the_largest() -> None:
    async def authorize(*_: object) -> Grant:
        return Grant(owner="ann", max_size=10**30)

    request = Request({"type": "http", "method": "POST", "headers": []})
    grant = await auth.check(authorize, request, Action.CREATE, None)  # type: ignore[arg-type]
    assert grant.max_size == MAX_INTEGER


@pytest.mark.parametrize("wrong", [{"max_size": "2GiB"}, {"max_size": "-5"}, {"owner": "a\nb"}])
def test_a_backend_that_signs_nonsense_is_told(wrong: dict[str, str]) -> None:
    from urllib.parse import urlencode

    given = {"exp": "4000000000"} | wrong
    sig = _signature(b"x" * 32, "create", "", given)
    with pytest.raises(SignatureRefused):
        UrlSigner(["x" * 32]).check_creation(f"{urlencode(given)}&sig={sig}", now=datetime.now(UTC))


async def test_the_second_of_two_equal_requests_is_no_upload_too_many(tmp_path: Path) -> None:
    services = Services(
        Settings(s3_bucket="abc", data_dir=tmp_path, s3_endpoint="http://127.0.0.1:9",
                 work=False, reap=False, owner_max_uploads=1)
    )  # fmt: skip
    await services.start()
    try:
        headers = {"tus-resumable": "1.0.0", "upload-length": "5", "idempotency-key": "k"}
        request = parse_create(headers, base_path="/files/", max_size=None)
        key = creation_key(headers, request, owner="ann")
        now = datetime.now(UTC)
        first, second = (
            new_upload(request, services.config, owner="ann", length=5, now=now, creation=key)
            for _ in range(2)
        )
        await services.sessions.create(*first)
        with pytest.raises(CreationRepeated):
            await services.sessions.create(*second)
    finally:
        await services.stop()


@pytest.mark.parametrize(
    "variable",
    ["TUSD_HOOKS_HTTP", "TUSD_FORWARD_AUTH_URL", "TUSD_JWT_JWKS_URL", "TUSD_S3_ENDPOINT"],
)
def test_a_refused_address_does_not_show_its_password(variable: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(environ={variable: "ftp://user:hunter2@host/"})
    assert "hunter2" not in str(refused.value)
    assert "'h', 'u', 'n'" not in str(refused.value)
    assert "ftp://user:***@host/" in str(refused.value)


def test_hooks_are_not_told_a_signature() -> None:
    scope = {"headers": [], "method": "POST", "path": "/files/", "raw_path": b"/files/",
             "query_string": b"exp=1&owner=ann&sig=abc", "client": None}  # fmt: skip
    assert origin.described(scope).uri == "/files/?exp=1&owner=ann&sig=***"


async def test_known_keys_do_not_wait_for_an_issuer_that_hangs() -> None:
    import base64
    import json

    from cryptography.hazmat.primitives.asymmetric import ed25519

    from tusd_py.auth.keys import RemoteKeys

    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    text = json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "a"}]}).encode()
    now, hangs = [0.0], asyncio.Event()
    asked = 0

    async def fetch() -> bytes:
        nonlocal asked
        asked += 1
        if asked > 1:
            await hangs.wait()
        return text

    keys = RemoteKeys(fetch, lifetime_s=300, monotonic=lambda: now[0])
    await keys.find("a")
    now[0] = 301.0
    refreshing = asyncio.create_task(keys.find("a"))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await keys.find("a")
    hangs.set()
    await refreshing
