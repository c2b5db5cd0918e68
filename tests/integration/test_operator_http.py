"""The operator's page and JSON over ASGI: refusals, the picture, what may be done."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engines import Engine
from tests.support.served import Served, served
from tests.support.state import Database, a_session
from tusd_py.http.operator_gate import OWN_HEADER
from tusd_py.operator.errors import TooManyViewers
from tusd_py.operator.refs import digest, ref
from tusd_py.operator.watcher import MAX_VIEWERS, Watcher
from tusd_storage.errors import StateUnavailable
from tusd_storage.records import SessionState

TOKEN = "a token that nobody guesses"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TUS = {"Tus-Resumable": "1.0.0"}
MIB = 1024 * 1024


def serving(
    engine: Engine,
    database: Database,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    **settings: Any,
) -> AbstractAsyncContextManager[Served]:
    """The application with an operator's page, and a client that is not on this machine."""
    given = {"database_url": database.url, "operator_page": True, "operator_token": TOKEN}
    return served(engine, folder, monkeypatch, peer="192.0.2.7", **(given | settings))


@pytest.fixture
async def it(
    seaweed: Engine, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    async with serving(seaweed, database, tmp_path, monkeypatch) as made:
        yield made


async def upload(client: httpx.AsyncClient, length: int, body: bytes = b"") -> str:
    """The id of an upload with these first bytes."""
    headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": "filename aG9saWRheS5tb3Y="}
    if body:
        headers["Content-Type"] = "application/offset+octet-stream"
    made = await client.post("/files/", headers=headers, content=body)
    assert made.status_code == 201, made.text
    return str(made.headers["location"]).rpartition("/")[2]


async def snapshot(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/operator/api/snapshot", headers=BEARER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


PATHS = (
    ("GET", "/operator/api/snapshot"),
    ("GET", "/operator/api/events"),
    ("GET", "/operator/api/uploads"),
    ("GET", "/operator/api/uploads/x"),
    ("POST", "/operator/api/uploads/x/cancel"),
    ("POST", "/operator/api/uploads/x/retry"),
    ("GET", "/operator/api/jobs"),
    ("GET", "/operator/api/jobs/x"),
    ("POST", "/operator/api/jobs/x/retry"),
)


async def test_nothing_without_the_token(
    seaweed: Engine, sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(seaweed, sqlite_database, tmp_path, monkeypatch) as (_, client):
        for method, path in PATHS:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "tusd_operator=x.y"}):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert answer.json()["code"] == "unauthorized"
                assert "access-control-allow-origin" not in answer.headers
        entered = await client.get("/operator/")
        assert (entered.status_code, entered.headers["location"]) == (303, "login")
        assert (await client.get("/operator")).headers["location"] == "operator/"


async def test_it_is_off_by_default(
    seaweed: Engine, sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = serving(seaweed, sqlite_database, tmp_path, monkeypatch, operator_page=False)
    async with made as (_, client):
        for method, path in (*PATHS, ("GET", "/operator/"), ("GET", "/operator/login")):
            assert (await client.request(method, path, headers=BEARER)).status_code == 404


async def test_open_is_open_to_this_machine_only(
    seaweed: Engine, sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = serving(
        seaweed,
        sqlite_database,
        tmp_path,
        monkeypatch,
        operator_token=None,
        operator_open=True,
    )
    async with made as (app, far):
        assert (await far.get("/operator/api/snapshot")).status_code == 401
        here = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=here, base_url="http://localhost:8080") as near:
            assert (await near.get("/operator/api/snapshot")).status_code == 200
            assert (await near.post("/operator/api/jobs/x/retry")).status_code == 403
            own = await near.post("/operator/api/jobs/x/retry", headers={OWN_HEADER: "1"})
            assert own.json()["code"] == "job_not_found"


async def test_signing_in_and_out(
    seaweed: Engine, sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(seaweed, sqlite_database, tmp_path, monkeypatch) as (_, client):
        wrong = await client.post("/operator/login", data={"token": "guess"})
        assert wrong.status_code == 401 and "That is not the token" in wrong.text
        foreign = {"Sec-Fetch-Site": "cross-site"}
        refused = await client.post("/operator/login", data={"token": TOKEN}, headers=foreign)
        assert refused.status_code == 403
        done = await client.post("/operator/login", data={"token": TOKEN})
        cookie = done.headers["set-cookie"]
        assert (done.status_code, done.headers["location"]) == (303, "./")
        assert {"HttpOnly", "SameSite=Strict", "Path=/operator"} <= set(cookie.split("; "))
        assert "Secure" not in cookie and TOKEN not in cookie

        page = await client.get("/operator/")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert (await client.get("/operator/api/snapshot")).status_code == 200
        assert (await client.post("/operator/api/jobs/x/retry")).status_code == 403, "CSRF"
        own = {OWN_HEADER: "1"}
        assert (await client.post("/operator/api/jobs/x/retry", headers=own)).status_code == 404

        await client.post("/operator/logout")
        assert (await client.get("/operator/api/snapshot")).status_code == 401
        behind = await client.post(
            "/operator/login", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"}
        )
        assert "Secure" in behind.headers["set-cookie"]
        long = await client.post("/operator/login", data={"token": "x" * 5000})
        assert long.status_code == 413
        many = await client.post("/operator/login", data={str(n): "x" for n in range(11)})
        assert (many.status_code, many.json()["code"]) == (400, "invalid_body")


async def test_the_picture(it: Served) -> None:
    _, client = it
    unfinished = await upload(client, 12 * MIB, bytes(6 * MIB))
    finished = await upload(client, 5, b"hello")
    seen = await snapshot(client)
    [running] = seen["running"]
    assert running["status"] == "receiving"  # its next PATCH may be on its way
    async with asyncio.timeout(20):
        while running["status"] == "receiving":
            await asyncio.sleep(0.1)
            seen = await snapshot(client)
            [running] = seen["running"]
    assert running["ref"] == ref(unfinished)
    assert (running["filename"], running["status"]) == ("holiday.mov", "waiting")
    assert (running["offset"], running["length"]) == (6 * MIB, 12 * MIB)
    assert [one["ref"] for one in seen["completed"]] == [ref(finished)]
    assert [job["kind"] for job in seen["jobs"]["queued"]].count("promote_asset") == 1
    assert seen["tails"] == [{"node": running["node"], "uploads": 1, "size": MIB, "gone": False}]
    told = json.dumps(seen)
    for session_id in (unfinished, finished):
        assert session_id not in told and session_id.replace("~", "-") not in told


async def test_finding_and_cancelling(it: Served) -> None:
    _, client = it
    session_id = await upload(client, 12 * MIB, bytes(6 * MIB))
    page = (await client.get("/operator/api/uploads?state=uploading", headers=BEARER)).json()
    [found] = page["uploads"]
    assert (found["ref"], page["next"], found["actions"]) == (ref(session_id), None, ["cancel"])
    one = (await client.get(f"/operator/api/uploads/{found['ref']}", headers=BEARER)).json()
    assert one["metadata"] == {"filename": "holiday.mov"}
    address = f"/operator/api/uploads/{found['ref']}"
    done = await client.post(f"{address}/cancel", headers=BEARER)
    assert (done.status_code, done.json()["state"]) == (200, "aborted")
    assert (await client.head(f"/files/{session_id}", headers=TUS)).status_code == 410
    again = await client.post(f"{address}/retry", headers=BEARER)
    assert (again.status_code, again.json()["code"]) == (409, "not_retriable")
    nobody = await client.post("/operator/api/uploads/nobody/cancel", headers=BEARER)
    assert (nobody.status_code, nobody.json()["code"]) == (404, "upload_not_found")


async def test_a_beginning_finds_but_changes_nothing(it: Served) -> None:
    """The upload that was meant may be gone, and another one's id begin so."""
    app, client = it
    rows = app.state.services.sessions
    ids = ["other~order-1", "other~order-12", "other~x"]
    for session_id in ids:
        await rows.create(a_session(session_id, object_key=session_id), None)
    api = "/operator/api/uploads"
    unsure = [
        *("o", "other~", "other~order", "other~order-", f"other~:{digest(ids[0])}"),
        f"other~order-1:{digest(ids[0])}",
    ]
    for wanted in unsure:
        for action in ("cancel", "retry"):
            refused = await client.post(f"{api}/{wanted}/{action}", headers=BEARER)
            assert (refused.status_code, refused.json()["code"]) == (409, "ambiguous_ref"), wanted
    lone = await client.post(f"{api}/other~x:/cancel", headers=BEARER)
    assert lone.status_code == 409
    assert {(await rows.get(one)).state for one in ids} == {SessionState.SIGNED}
    shown = await client.get(f"{api}/other~x", headers=BEARER)
    assert (shown.status_code, shown.json()["ref"]) == (200, ref(ids[2]))
    for wanted, session_id in ((ids[0], ids[0]), (ref(ids[1]), ids[1])):
        done = await client.post(f"{api}/{wanted}/cancel", headers=BEARER)
        assert (done.status_code, done.json()["ref"]) == (200, ref(session_id))
    states = [(await rows.get(one)).state for one in ids]
    assert states == [SessionState.ABORTED, SessionState.ABORTED, SessionState.SIGNED]


async def test_a_ref_is_found_beside_an_id_that_is_its_beginning(it: Served) -> None:
    app, client = it
    for session_id in ("other~ab", "other~abcd"):
        session = a_session(session_id, object_key=session_id)
        await app.state.services.sessions.create(session, None)
    long = ref("other~abcd")
    assert long.startswith("other~ab:")
    found = await client.get(f"/operator/api/uploads/{long}", headers=BEARER)
    assert (found.status_code, found.json()["ref"]) == (200, long)


async def test_a_finished_upload_cannot_be_cancelled(it: Served) -> None:
    _, client = it
    session_id = await upload(client, 5, b"hello")
    answer = await client.post(f"/operator/api/uploads/{ref(session_id)}/cancel", headers=BEARER)
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")
    assert session_id not in answer.text and ref(session_id) in answer.text
    assert (await client.head(f"/files/{session_id}", headers=TUS)).status_code == 200


async def test_pages_follow_each_other(it: Served) -> None:
    _, client = it
    made = {ref(await upload(client, MIB)) for _ in range(5)}
    seen: list[str] = []
    query = "limit=2"
    while query:
        page = (await client.get(f"/operator/api/uploads?{query}", headers=BEARER)).json()
        seen += [one["ref"] for one in page["uploads"]]
        query = f"limit=2&after={page['next']}" if page["next"] else ""
    assert sorted(seen) == sorted(made)


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "limit=201", "limit=1e2", "limit=٣"])
async def test_queries_that_make_no_sense(it: Served, query: str) -> None:
    answer = await it[1].get(f"/operator/api/uploads?{query}", headers=BEARER)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_query")


async def test_a_dead_job_is_tried_again(it: Served) -> None:
    app, client = it
    await upload(client, 5, b"hello")
    state = app.state.services.sessions
    [job] = [one for one in await state.jobs() if one.kind == "promote_asset"]
    now = app.state.services.maintenance._now()
    await state.claim(worker="w", kinds=[job.kind], now=now, until=now, limit=1)
    await state.retry(job.id, worker="w", error="no", run_at=None, now=now)
    assert [one["error"] for one in (await snapshot(client))["jobs"]["dead"]] == ["no"]
    answer = await client.post(f"/operator/api/jobs/{job.id}/retry", headers=BEARER)
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    assert (await snapshot(client))["jobs"]["dead"] == []


async def test_viewers_share_pictures_and_are_bounded() -> None:
    taken = 0

    async def take() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"number": taken}

    watcher = Watcher(take, every_s=0.01)
    with watcher.viewing() as first, watcher.viewing() as second:
        assert await first.next() == await second.next()
        await first.next()
    assert watcher.viewers == 0
    while watcher._task is not None:  # it ends by itself when nobody looks
        await asyncio.sleep(0.001)
    before = taken
    await asyncio.sleep(0.05)
    assert taken == before
    many = [watcher.viewing() for _ in range(MAX_VIEWERS)]
    viewers = [one.__enter__() for one in many]
    with pytest.raises(TooManyViewers), watcher.viewing():
        pass
    watcher.begin_shutdown()
    assert [await viewer.next() for viewer in viewers] == [None] * MAX_VIEWERS
    with pytest.raises(TooManyViewers), watcher.viewing():
        pass
    await watcher.aclose()


async def test_a_database_that_is_away_is_told_and_comes_back() -> None:
    away = True

    async def take() -> dict[str, Any]:
        if away:
            raise StateUnavailable("gone")
        return {"trouble": None}

    watcher = Watcher(take, every_s=0.01)
    with watcher.viewing() as viewer:
        assert json.loads(await viewer.next() or b"")["trouble"]
        away = False
        while json.loads(await viewer.next() or b"")["trouble"]:
            pass
    await watcher.aclose()


async def test_what_is_quarantined_is_shown_with_the_reason(it: Served) -> None:
    app, client = it
    page = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
    headers = TUS | {
        "Upload-Length": str(len(page)),
        "Upload-Metadata": "filetype aW1hZ2UvcG5n",
        "Content-Type": "application/offset+octet-stream",
    }
    made = await client.post("/files/", headers=headers, content=page)
    upload_id = str(made.headers["location"]).rpartition("/")[2]
    for state, reason in (("validating", None), ("quarantined", "content_type_mismatch")):
        shown = await client.get(f"/operator/api/uploads/{ref(upload_id)}", headers=BEARER)
        assert shown.json()["asset"] == {"state": state, "reason": reason}
        await app.state.services.maintenance.worker.run_due()
