"""The ways to authenticate together: which counts, and what is refused how."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

import tusd_py.auth
from tests.support.issuer import Answer, beside, token
from tests.support.state import a_session
from tusd_py.app import create_app
from tusd_py.auth.grants import (
    AuthUnavailable,
    Forbidden,
    Grant,
    SignatureRefused,
    Unauthorized,
)
from tusd_py.auth.signatures import UrlSigner
from tusd_py.http import auth
from tusd_py.http.auth import Action
from tusd_py.http.authorizers import Authorizers, make_authorizers, make_signer
from tusd_py.http.locations import Locations
from tusd_py.protocol.errors import UploadNotFound
from tusd_py.server import is_loopback
from tusd_py.settings import Settings, SettingsError

SECRET = "a secret of 32 characters or more"
NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
SIGNER = UrlSigner([SECRET])
UPLOAD = a_session(owner="ann")


def made(**settings: Any) -> Authorizers | None:
    given = Settings.model_validate(settings)
    locations = Locations("/files/", public_url=None, trusted_proxies=())
    return make_authorizers(given, locations, make_signer(given), lambda: NOW)


def by(**settings: Any) -> Authorizers:
    found = made(**settings)
    assert found is not None
    return found


def request(query: str = "", **headers: str | list[str]) -> Request:
    raw = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, given in headers.items()
        for value in ([given] if isinstance(given, str) else given)
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/files/",
        "raw_path": b"/files/",
        "query_string": query.encode(),
        "headers": raw,
        "client": ("10.0.0.1", 5),
        "scheme": "http",
        "root_path": "",
    }
    return Request(scope)


def bearer(owner: str = "ann", **claims: object) -> str:
    return f"Bearer {token(SECRET, 'HS256', sub=owner, **claims)}"


JWT = {"auth": "jwt", "jwt_secret": SECRET}
SIGNED = {"auth": "signed", "url_secrets": SECRET}
BOTH = {"auth": "jwt,signed", "jwt_secret": SECRET, "url_secrets": SECRET}


def test_no_authentication_is_none() -> None:
    assert made() is None


async def test_the_scheme_is_read_in_any_case_and_given_once() -> None:
    authorize = by(**JWT)
    good = bearer()
    for text in (good, good.replace("Bearer", "bEARER"), good.replace(" ", "   ", 1)):
        grant = await authorize(request(authorization=text), Action.CREATE, None)
        assert grant.owner == "ann"
    for wrong in ([good, good], "", "Bearer", "Bearer ", good.replace(" ", ""), f"Basic {good}"):
        with pytest.raises(Unauthorized):
            await authorize(request(authorization=wrong), Action.CREATE, None)


async def test_a_signed_url_counts_before_a_token() -> None:
    authorize = by(**BOTH)
    query = SIGNER.for_creation(expires_at=LATER, owner="url")
    both = request(query, authorization=bearer())
    assert (await authorize(both, Action.CREATE, None)).owner == "url"


async def test_a_good_token_makes_up_for_an_expired_url() -> None:
    authorize = by(**BOTH)
    old = SIGNER.for_upload(UPLOAD.id, expires_at=NOW)
    grant = await authorize(request(old, authorization=bearer()), Action.WRITE, UPLOAD)
    assert grant.owner == "ann"
    with pytest.raises(SignatureRefused):
        await authorize(request(old), Action.WRITE, UPLOAD)
    with pytest.raises(SignatureRefused):
        await authorize(request(old, authorization="Bearer x"), Action.WRITE, UPLOAD)


async def test_an_uploads_url_opens_it_whoever_owns_it() -> None:
    query = SIGNER.for_upload(UPLOAD.id, expires_at=LATER)
    for action in (Action.READ, Action.WRITE, Action.TERMINATE, Action.DOWNLOAD):
        assert await auth.check(by(**SIGNED), request(query), action, UPLOAD) == Grant(owner="ann")
        with pytest.raises(SignatureRefused):
            await auth.check(by(**SIGNED), request(query), action, a_session("node~two"))
    with pytest.raises(SignatureRefused):
        await auth.check(by(**SIGNED), request(query), Action.CREATE, None)


async def test_a_creation_url_opens_no_upload() -> None:
    query = SIGNER.for_creation(expires_at=LATER, owner="ann")
    with pytest.raises(SignatureRefused):
        await auth.check(by(**SIGNED), request(query), Action.WRITE, UPLOAD)


async def test_what_is_missing_is_said() -> None:
    with pytest.raises(SignatureRefused):
        await by(**SIGNED)(request(), Action.CREATE, None)
    with pytest.raises(Unauthorized) as caught:
        await by(**BOTH)(request(), Action.CREATE, None)
    assert caught.value.challenge == 'Bearer realm="uploads"'


async def test_what_is_no_token_of_ours_may_be_one_of_theirs() -> None:
    with beside() as judge:
        judge.answer = lambda asked: (
            Answer(200, {"Remote-User": "opaque"})
            if asked.headers.get("authorization") == "Bearer opaque"
            else Answer(401)
        )
        authorize = by(auth="jwt,forward", jwt_secret=SECRET, forward_auth_url=judge.url)
        grant = await authorize(request(authorization="Bearer opaque"), Action.CREATE, None)
        assert grant.owner == "opaque"
        grant = await authorize(request(authorization=bearer()), Action.CREATE, None)
        assert grant.owner == "ann" and len(judge.asked) == 1
        with pytest.raises(Unauthorized):
            await authorize(request(), Action.CREATE, None)
        await authorize.aclose()
    with pytest.raises(AuthUnavailable):
        await by(auth="forward", forward_auth_url=judge.url)(request(), Action.CREATE, None)


async def test_headers_that_a_proxy_might_read_otherwise_are_refused() -> None:
    with beside() as judge:
        judge.answer = lambda _: Answer(200, {"Remote-User": "ann"})
        authorize = by(auth="forward", forward_auth_url=judge.url)
        for headers in ({"cookie": ["a=1", "b=2"]}, {"authorization": ["Bearer a", "Bearer b"]}):
            with pytest.raises(Unauthorized):
                await authorize(request(**headers), Action.CREATE, None)
        spoofed = request(x_forwarded_for="6.6.6.6", x_forwarded_host="evil", host="up")
        await authorize(spoofed, Action.CREATE, None)
        (asked,) = judge.asked
        assert asked.headers["x-forwarded-for"] == "10.0.0.1"
        assert asked.headers["x-forwarded-host"] == "up"
        await authorize.aclose()


async def test_an_application_may_answer_with_a_name_or_a_grant() -> None:
    async def named(*_: object) -> str:
        return "ann"

    async def granted(*_: object) -> Grant:
        return Grant(owner="ann", max_size=5)

    assert await auth.check(named, request(), Action.CREATE, None) == Grant(owner="ann")
    assert (await auth.check(granted, request(), Action.READ, UPLOAD)).max_size == 5
    with pytest.raises(UploadNotFound):
        await auth.check(named, request(), Action.READ, a_session(owner="ben"))
    assert await auth.check(None, request(), Action.READ, UPLOAD) == Grant()
    assert issubclass(SignatureRefused, Forbidden)


def test_settings_and_an_application_do_not_both_decide(tmp_path: Path) -> None:
    async def authorize(*_: object) -> str:
        return "ann"

    settings = Settings.model_validate({"s3_bucket": "b", "data_dir": tmp_path, **JWT})
    with pytest.raises(SettingsError, match="one of them"):
        create_app(settings, authorize=authorize)


def test_a_key_file_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    with pytest.raises(SettingsError, match="No such file"):
        made(auth="jwt", jwt_public_key_file=file)
    file.write_text("no key")
    with pytest.raises(SettingsError, match="PEM"):
        made(auth="jwt", jwt_public_key_file=file)


@pytest.mark.parametrize(
    ("module", "settings", "extra"),
    [
        ("jwt", JWT, "jwt"),
        ("httpx", {"auth": "forward", "forward_auth_url": "http://a"}, "webhooks"),
    ],
)
def test_what_must_be_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, module: str, settings: dict[str, Any], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in ("tokens", "keys"):
        monkeypatch.delitem(sys.modules, f"tusd_py.auth.{name}", raising=False)
        monkeypatch.delattr(tusd_py.auth, name, raising=False)
    with pytest.raises(SettingsError, match=rf"tusd-py\[{extra}\]"):
        made(**settings)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
    ],
)
def test_addresses_that_others_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
