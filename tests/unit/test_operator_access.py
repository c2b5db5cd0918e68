"""Who may see the operator's page, and what it never shows."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from tests.support.state import NOW, a_session
from tusd_py.http.auth import Forbidden, Unauthorized
from tusd_py.http.operator_gate import OWN_HEADER, Gate, Proof
from tusd_py.operator import views
from tusd_py.operator.access import COOKIE, LASTS_S, Token
from tusd_py.operator.refs import digest, ref, split
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import load
from tusd_py.uploads.creation import new_upload_id
from tusd_storage.records import Job, JobState

TOKEN = "correct horse battery staple"
HERE = ("127.0.0.1", 5000)


def request(method: str = "GET", client: tuple[str, int] | None = HERE, **headers: str) -> Request:
    given = {"host": "localhost:8080"} | {k.replace("_", "-"): v for k, v in headers.items()}
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": "/operator/api/snapshot",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items()],
        "client": client,
    }
    return Request(scope)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_the_token_and_nothing_else() -> None:
    token = Token(TOKEN)
    assert token.matches(TOKEN)
    for wrong in ("", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "ü", "\udcff"):
        assert not token.matches(wrong)


def test_a_sign_in_ends_by_itself_and_with_the_token() -> None:
    token = Token(TOKEN)
    cookie = token.sign_in(1000)
    assert TOKEN not in cookie
    assert token.is_signed_in(cookie, 1000 + LASTS_S - 1)
    assert not token.is_signed_in(cookie, 1000 + LASTS_S)
    assert not Token(TOKEN + "!").is_signed_in(cookie, 1000)


@given(st.text(max_size=100))
def test_no_other_cookie_is_good(cookie: str) -> None:
    assert not Token(TOKEN).is_signed_in(cookie, 0)


def test_a_later_end_cannot_be_written_into_a_cookie() -> None:
    token = Token(TOKEN)
    until, mac = token.sign_in(0).split(".")
    assert not token.is_signed_in(f"{int(until, 16) + 1:x}.{mac}", 0)


def test_proofs() -> None:
    gate = Gate(TOKEN, is_open=False)
    assert gate.proof(request(**bearer(TOKEN))) is Proof.BEARER
    assert gate.proof(request(cookie=f"a=b; {COOKIE}={Token(TOKEN).sign_in(1e12)}")) is Proof.COOKIE
    assert gate.proof(request()) is None, "this machine's own browsers need it, too"
    assert gate.proof(request(**bearer("wrong"))) is None
    assert gate.proof(request(authorization="Basic " + TOKEN)) is None
    assert gate.proof(request(cookie=f"{COOKIE}=; ;;=\\")) is None


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080"])
@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1"])
def test_open_to_this_machine(host: str, client: str) -> None:
    gate = Gate(None, is_open=True)
    assert gate.proof(request(client=(client, 1), host=host)) is Proof.OPEN


@pytest.mark.parametrize(
    "closed",
    [
        request(client=("192.0.2.1", 1)),
        request(client=("::ffff:192.0.2.1", 1)),
        request(client=("testclient", 1)),
        request(client=None),
        request(host="evil.example"),
        request(host="localhost.evil.example"),
        request(host=""),
        request(x_forwarded_for="127.0.0.1"),
        request(forwarded="for=127.0.0.1"),
        request(via="1.1 proxy"),
        request(x_real_ip="127.0.0.1"),
    ],
)
def test_open_is_closed_to_all_others(closed: Request) -> None:
    """Other machines, what came through a proxy, and names that resolve to loopback (rebinding)."""
    gate = Gate(None, is_open=True)
    assert gate.proof(closed) is None
    with pytest.raises(Unauthorized):
        gate.check(closed)


def test_what_other_sites_make_a_browser_send_is_refused() -> None:
    gate = Gate(None, is_open=True)
    for site in ("cross-site", "same-site"):
        with pytest.raises(Forbidden):
            gate.check(request(sec_fetch_site=site))
    with pytest.raises(Forbidden):
        gate.check(request("POST", sec_fetch_site="same-origin"))
    gate.check(request("POST", sec_fetch_site="same-origin", **{OWN_HEADER: "1"}))
    gate.check(request())


def test_a_program_with_the_token_needs_no_more() -> None:
    Gate(TOKEN, is_open=False).check(request("POST", **bearer(TOKEN)))


def settings(**values: object) -> Settings:
    return load({"s3_bucket": "b"} | values, environ={}).settings


def test_the_page_is_off_and_wants_a_token() -> None:
    assert not settings().operator_page
    with pytest.raises(SettingsError, match="operator_token"):
        settings(operator_page=True)
    with pytest.raises(SettingsError, match="at least 16") as refused:
        settings(operator_page=True, operator_token="too-short")
    assert "too-short" not in str(refused.value)
    with pytest.raises(SettingsError, match="base_path"):
        settings(operator_page=True, operator_token=TOKEN, base_path="/operator/")
    good = settings(operator_page=True, operator_token=TOKEN)
    assert TOKEN not in repr(good) + str(good.masked())


def test_a_ref_tells_uploads_apart_and_opens_none() -> None:
    session_id = new_upload_id("fra-1")
    shown = ref(session_id)
    assert shown.startswith("fra-1~")
    beginning, marked = split(shown)
    assert session_id.startswith(beginning) and marked == digest(session_id)
    assert len(session_id) - len(beginning) >= 14, "84 bits stay unknown"
    assert ref("short") != "short" and ref("user-1-a") != ref("user-1-b")


@given(st.from_regex(r"[A-Za-z0-9_~-]{1,120}", fullmatch=True))
def test_a_ref_is_never_an_id(session_id: str) -> None:
    assert split(ref(session_id))[0] != session_id or len(session_id.rpartition("~")[2]) <= 1


def test_views_hold_nothing_that_opens_anything() -> None:
    session_id = new_upload_id("n")
    session = a_session(
        session_id,
        token="object-token",
        object_key=f"prefix/{session_id.replace('~', '-')}",
        upload_id="multipart-id",
        owner="x" * 10_000,
        # filename a.bin, api_token hunter2, note see https://u:pw@host/?X-Amz-Signature=1
        metadata="filename YS5iaW4=,api_token aHVudGVyMg==,"
        "note c2VlIGh0dHBzOi8vdTpwd0Bob3N0Lz9YLUFtei1TaWduYXR1cmU9MQ==",
        cleanup_reason="see https://store/?X-Amz-Signature=abc",
    )
    job = Job(
        id="job",
        kind="promote_asset",
        subject=session_id,
        payload={"session_id": session_id},
        state=JobState.DEAD,
        attempts=1,
        run_at=NOW,
        locked_by=None,
        locked_until=None,
        error="https://hook/?signature=abc " + "e" * 10_000,
        created_at=NOW,
        updated_at=NOW,
    )
    told = json.dumps([views.detail(session), views.stuck(session, "idle"), views.job(job)])
    secret = session_id.rpartition("~")[2]
    for hidden in (secret, "object-token", "multipart-id", "prefix/", "hunter2", "pw@", "=abc"):
        assert hidden not in told
    assert len(told) < 10_000, "texts of strangers are cut"
    assert views.detail(session)["metadata"]["filename"] == "a.bin"
