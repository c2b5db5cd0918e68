"""The session API over ASGI, with a real S3 engine and both databases behind it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engines import Engine
from tests.support.served import Served, served
from tests.support.state import Database
from tusd_py.app import TusdApp
from tusd_py.auth.signatures import UrlSigner
from tusd_py.clock import utc_now
from tusd_py.http.auth import Action, Unauthorized
from tusd_storage.partplan import MIN_PART_SIZE

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
BIG = bytes(range(251)) * 41_000  # two parts


@pytest.fixture
async def it(
    seaweed: Engine, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    async with served(seaweed, tmp_path, monkeypatch, database_url=database.url) as made:
        yield made


def send(presigned: dict[str, Any], data: bytes, **changes: str) -> httpx.Response:
    """What a browser does with a signed request."""
    headers = presigned["headers"] | changes
    with httpx.Client(trust_env=False) as straight:
        return straight.request(
            presigned["method"], presigned["url"], content=data, headers=headers
        )


async def created(client: httpx.AsyncClient, **wish: Any) -> dict[str, Any]:
    answer = await client.post("/sessions", json=wish)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/sessions/{made['session']['id']}"
    return made


async def stored(app: TusdApp, session_id: str) -> bytes:
    services = app.state.services
    row = await services.sessions.get(session_id)
    return b"".join([chunk async for chunk in services.objects.read(row.bucket, row.object_key)])


async def test_a_presigned_put_from_session_to_asset(it: Served) -> None:
    app, client = it
    made = await created(
        client,
        strategy="presigned_put",
        filename="Katze.png",
        content_type="image/png",
        size=len(PICTURE),
    )
    url = f"/sessions/{made['session']['id']}"
    assert made["session"]["state"] == "initialized"

    early = await client.post(f"{url}/complete")
    assert (early.status_code, early.json()["code"]) == (409, "invalid_transition")

    signed = (await client.post(f"{url}/sign", json={"expires_in_s": 60})).json()
    assert signed["session"]["state"] == "signed"
    missing = await client.post(f"{url}/complete")
    assert (missing.status_code, missing.json()["code"]) == (409, "storage_object_missing")
    assert missing.headers["content-type"] == "application/problem+json"

    presigned = signed["presigned"]
    assert send(presigned, PICTURE, **{"Content-Type": "text/html"}).status_code == 403
    assert send(presigned, PICTURE + b"more").status_code == 403
    assert send(presigned, PICTURE, **{"x-amz-meta-tusd-token": "other"}).status_code == 403
    without = {name: value for name, value in presigned["headers"].items() if name[:3] != "If-"}
    assert send(presigned | {"headers": without}, PICTURE).status_code == 403
    sent = send(presigned, PICTURE)
    assert sent.status_code == 200
    again = send(presigned, PICTURE[::-1])
    assert again.status_code == 412, "what was sent is not replaced"

    done = (await client.post(f"{url}/complete")).json()
    assert done["asset"]["etag"] == sent.headers["etag"]
    assert send(presigned, PICTURE[::-1]).status_code == 412
    assert done["session"]["state"] == "completed"
    assert (done["asset"]["state"], done["asset"]["size"]) == ("validating", len(PICTURE))
    assert done["asset"]["content_type"] == "image/png"
    assert await stored(app, made["session"]["id"]) == PICTURE
    repeated = (await client.post(f"{url}/complete")).json()
    assert repeated == done == (await client.get(url)).json()
    jobs = await app.state.services.sessions.jobs()
    assert [(job.kind, job.subject) for job in jobs] == [("promote_asset", done["asset"]["id"])]


async def test_a_multipart_upload_from_session_to_asset(it: Served) -> None:
    app, client = it
    made = await created(client, strategy="multipart", filename="b.bin", size=len(BIG))
    url = f"/sessions/{made['session']['id']}"
    assert made["multipart"]["part_size"] == MIN_PART_SIZE
    signed = (await client.post(f"{url}/parts", json={"part_numbers": [1, 2]})).json()
    etags = {}
    for part in signed["parts"]:
        start = (part["part_number"] - 1) * MIN_PART_SIZE
        answer = send(part, BIG[start : start + MIN_PART_SIZE])
        assert answer.status_code == 200
        etags[part["part_number"]] = answer.headers["etag"]
    listed = (await client.get(f"{url}/parts")).json()["parts"]
    assert {part["part_number"]: part["etag"] for part in listed} == etags

    parts = [{"part_number": number, "etag": etags[number]} for number in (2, 1)]
    for wrong in ([], parts[:1], [*parts, parts[0]], [parts[1], parts[0] | {"etag": '"x"'}]):
        answer = await client.post(f"{url}/complete", json={"parts": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_multipart_parts")
    done = await client.post(f"{url}/complete", json={"parts": parts})
    assert done.status_code == 200, done.text
    assert done.json()["asset"]["size"] == len(BIG)
    assert await stored(app, made["session"]["id"]) == BIG
    again = await client.post(f"{url}/complete", json={"parts": parts})
    assert again.json() == done.json()


async def test_a_resumable_session_is_uploaded_to_with_tus(it: Served) -> None:
    app, client = it
    made = await created(client, strategy="resumable", filename="c.png", size=len(PICTURE))
    uri = made["resumable"]["session_uri"]
    url = f"/sessions/{made['session']['id']}"
    assert uri == f"/files/{made['resumable']['upload_id']}"
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    half = await client.patch(uri, content=PICTURE[:99], headers=tus | {"Upload-Offset": "0"})
    assert half.status_code == 204
    status = (await client.get(f"{url}/status")).json()
    assert (status["committed_bytes"], status["state"]) == (99, "in_progress")
    rest = await client.patch(uri, content=PICTURE[99:], headers=tus | {"Upload-Offset": "99"})
    assert rest.status_code == 204
    status = (await client.get(f"{url}/status")).json()
    assert (status["committed_bytes"], status["state"]) == (len(PICTURE), "complete")
    assert (await client.post(f"{url}/complete")).json()["asset"]["state"] == "validating"
    assert await stored(app, made["session"]["id"]) == PICTURE


@pytest.mark.parametrize("strategy", ["presigned_put", "multipart", "resumable"])
async def test_cancelling_leaves_nothing_in_the_store(it: Served, strategy: str) -> None:
    app, client = it
    made = await created(client, strategy=strategy, size=len(BIG))
    url = f"/sessions/{made['session']['id']}"
    if strategy == "presigned_put":
        send((await client.post(f"{url}/sign")).json()["presigned"], BIG)
    elif strategy == "multipart":
        signed = await client.post(f"{url}/parts", json={"part_numbers": [1]})
        send(signed.json()["parts"][0], BIG[:MIN_PART_SIZE])
    else:
        await client.patch(
            made["resumable"]["session_uri"],
            content=BIG[: MIN_PART_SIZE + 5],
            headers={
                "Tus-Resumable": "1.0.0",
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": "0",
            },
        )
    gone = await client.delete(url)
    assert (gone.status_code, gone.json()["session"]["state"]) == (200, "aborted")
    services = app.state.services
    row = await services.sessions.get(made["session"]["id"])
    assert row.cleanup_reason is None
    assert await services.objects.head(row.bucket, row.object_key) is None
    left = [u async for u in services.objects.list_multipart(row.bucket, row.object_key)]
    assert left == []
    late = await client.post(f"{url}/complete")
    assert (late.status_code, late.json()["code"]) == (409, "invalid_transition")


async def test_wrong_strategies_have_their_codes(it: Served) -> None:
    _, client = it
    put = (await created(client, strategy="presigned_put"))["session"]["id"]
    many = (await created(client, strategy="multipart"))["session"]["id"]
    wanted = [
        ("POST", f"/sessions/{put}/parts", {"part_numbers": [1]}, 409),
        ("GET", f"/sessions/{put}/status", None, 409),
        ("POST", f"/sessions/{many}/sign", {}, 422),
        ("POST", f"/sessions/{many}/parts", {"part_numbers": [10_001]}, 422),
        ("POST", "/sessions", {"strategy": "presigned_put", "profile": "nope"}, 422),
        ("POST", "/sessions", {"strategy": "carrier pigeon"}, 400),
        ("GET", "/sessions/nobody", None, 404),
    ]
    codes = []
    for method, path, body, status in wanted:
        answer = await client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        codes.append(answer.json()["code"])
    assert codes == [
        "multipart_upload_not_initialized",
        "resumable_upload_not_initialized",
        "upload_unsupported",
        "invalid_multipart_parts",
        "unknown_profile",
        "invalid_body",
        "not_found",
    ]


async def test_urls_are_signed_for_the_public_endpoint(
    seaweed: Engine, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = "https://uploads.example.com"
    async with served(
        seaweed, tmp_path, monkeypatch, database_url=database.url, s3_public_endpoint=public
    ) as (_, client):
        made = await created(client, strategy="presigned_put")
        signed = await client.post(f"/sessions/{made['session']['id']}/sign")
        assert signed.json()["presigned"]["url"].startswith(f"{public}/{seaweed.bucket}/")
        form = await client.get("/s3/params", params={"filename": "a", "type": "image/png"})
        assert form.json()["url"].startswith(public)
        made = await created(client, strategy="multipart")
        parts = await client.post(
            f"/sessions/{made['session']['id']}/parts", json={"part_numbers": [1]}
        )
        assert parts.json()["parts"][0]["url"].startswith(public)


async def test_another_owners_session_is_not_found(
    seaweed: Engine, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Action] = []

    async def authorize(request: Any, action: Action, upload: object) -> str | None:
        asked.append(action)
        user = request.headers.get("x-user")
        if user is None:
            raise Unauthorized("who are you?")
        return str(user)

    async with served(
        seaweed, tmp_path, monkeypatch, database_url=database.url, making={"authorize": authorize}
    ) as (app, client):
        wish = {"strategy": "multipart"}
        assert (await client.post("/sessions", json=wish)).status_code == 401
        alice, bob = {"x-user": "alice"}, {"x-user": "bob"}
        made = (await client.post("/sessions", json=wish, headers=alice)).json()
        session_id, key = made["session"]["id"], made["multipart"]["upload_key"]
        assert (await app.state.services.sessions.get(session_id)).owner == "alice"
        calls = [
            ("GET", f"/sessions/{session_id}"),
            ("POST", f"/sessions/{session_id}/sign"),
            ("POST", f"/sessions/{session_id}/parts"),
            ("GET", f"/sessions/{session_id}/parts"),
            ("POST", f"/sessions/{session_id}/complete"),
            ("GET", f"/sessions/{session_id}/status"),
            ("DELETE", f"/sessions/{session_id}"),
            ("GET", f"/s3/multipart/{session_id}?key={key}"),
            ("GET", f"/s3/multipart/{session_id}/1?key={key}"),
            ("GET", f"/s3/multipart/{session_id}/batch?partNumbers=1&key={key}"),
            ("POST", f"/s3/multipart/{session_id}/complete?key={key}"),
            ("DELETE", f"/s3/multipart/{session_id}?key={key}"),
            ("POST", f"/s3/complete?key={key}"),
        ]
        for method, path in calls:
            json = {"part_numbers": [1], "parts": []} if method == "POST" else None
            answer = await client.request(method, path, json=json, headers=bob)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
            answer = await client.request(method, path, json=json)
            assert answer.status_code == 401, path
        assert (await client.get(f"/sessions/{session_id}", headers=alice)).status_code == 200
        assert set(asked) == {Action.CREATE, Action.READ, Action.WRITE, Action.TERMINATE}


async def test_a_creation_url_makes_sessions_that_can_be_used(
    seaweed: Engine, sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "a secret of at least 32 characters"
    query = UrlSigner([secret]).for_creation(
        expires_at=utc_now() + timedelta(minutes=5), owner="ann", max_size=len(PICTURE)
    )
    url = sqlite_database.url
    async with served(
        seaweed, tmp_path, monkeypatch, database_url=url, auth="signed", url_secrets=[secret]
    ) as (app, client):
        wish = {"strategy": "presigned_put", "size": len(PICTURE)}
        made = await client.post(f"/sessions?{query}", json=wish)
        assert made.status_code == 201, made.text
        path, _, own = made.headers["location"].partition("?")
        assert path == f"/sessions/{made.json()['session']['id']}"
        for wrong in ("", query, own[:-1]):
            refused = await client.get(f"{path}?{wrong}")
            assert (refused.status_code, refused.json()["code"]) == (403, "signature_refused")
        signed = (await client.post(f"{path}/sign?{own}")).json()
        assert send(signed["presigned"], PICTURE).status_code == 200
        done = await client.post(f"{path}/complete?{own}")
        assert done.json()["session"]["state"] == "completed"
        assert (await client.get(f"{path}?{own}")).json() == done.json()

        before = await app.state.services.sessions.list_sessions()
        for method, target in (("GET", "/s3/params?filename=a&"), ("POST", "/s3/multipart?")):
            refused = await client.request(method, target + query, json={"filename": "a"})
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert await app.state.services.sessions.list_sessions() == before


@pytest.mark.parametrize("mode", ["redirect", "stream"])
async def test_what_is_quarantined_is_not_given_out(
    seaweed: Engine,
    sqlite_database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    page = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
    url = sqlite_database.url
    async with served(seaweed, tmp_path, monkeypatch, database_url=url, download=mode) as it:
        app, client = it
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Length": str(len(page)),
            "Upload-Metadata": "filetype aW1hZ2UvcG5n",
            "Content-Type": "application/offset+octet-stream",
        }
        upload = (await client.post("/files/", headers=headers, content=page)).headers["location"]
        assert (await client.get(upload)).status_code in (200, 302), "it is still validating"
        await app.state.services.maintenance.worker.run_due()
        refused = await client.get(upload)
        assert (refused.status_code, refused.json()["code"]) == (403, "asset_quarantined")
        assert "location" not in refused.headers


async def test_uppys_endpoints_have_companions_shapes(it: Served) -> None:
    app, client = it
    query = {"filename": "Käse.png", "type": "image/png", "metadata[name]": "x"}
    form = (await client.get("/s3/params", params=query)).json()
    assert form["method"] == "POST"
    key = form["fields"]["key"]
    assert (await client.post("/s3/complete", params={"key": key})).status_code == 409
    with httpx.Client(trust_env=False) as straight:
        late = form["fields"] | {"Content-Type": "text/html"}
        refused = straight.post(form["url"], data=late, files={"file": PICTURE})
        assert refused.status_code == 403
        sent = straight.post(form["url"], data=form["fields"], files={"file": PICTURE})
        assert sent.status_code == 201, sent.text
    done = await client.post("/s3/complete", params={"key": key})
    assert done.json()["key"] == key
    assert done.json()["location"].endswith(f"/{key}")
    assert await stored(app, form["sessionId"]) == PICTURE

    wish = {"filename": "big.bin", "type": "application/x-thing", "metadata": {}}
    made = (await client.post("/s3/multipart", json=wish)).json()
    base, at = f"/s3/multipart/{made['uploadId']}", {"key": made["key"]}
    assert (await client.get(base, params={"key": "other"})).status_code == 404
    assert (await client.get(base)).status_code == 400
    assert (await client.get(f"{base}/0", params=at)).status_code == 422
    assert (await client.get(f"{base}/x", params=at)).status_code == 400
    first = (await client.get(f"{base}/1", params=at)).json()
    batch = (await client.get(f"{base}/batch", params=at | {"partNumbers": "1,2"})).json()
    urls = [first["url"], batch["presignedUrls"]["2"]]
    for number, part_url in enumerate(urls):
        chunk = BIG[number * MIN_PART_SIZE :][:MIN_PART_SIZE]
        put = send({"method": "PUT", "url": part_url, "headers": {}}, chunk)
        assert put.status_code == 200
    parts = (await client.get(base, params=at)).json()
    assert [part["PartNumber"] for part in parts] == [1, 2]
    # As the plugin sends them: without quotes.
    body = {"parts": [{"PartNumber": p["PartNumber"], "ETag": p["ETag"].strip('"')} for p in parts]}
    done = await client.post(f"{base}/complete", params=at, json=body)
    assert (done.status_code, done.json()["key"]) == (200, made["key"]), done.text
    assert await stored(app, made["uploadId"]) == BIG

    made = (await client.post("/s3/multipart", json=wish)).json()
    gone = await client.delete(f"/s3/multipart/{made['uploadId']}", params={"key": made["key"]})
    assert (gone.status_code, gone.json()) == (200, {})
    assert (await client.get("/s3/sts")).json()["code"] == "upload_unsupported"


async def test_pages_of_other_origins_may_use_it(it: Served) -> None:
    _, client = it
    origin = {"Origin": "https://app.example.com"}
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,uppy-versions",
    }
    preflight = await client.options("/s3/multipart", headers=origin | asked)
    assert preflight.status_code == 204
    assert "uppy-versions" in preflight.headers["access-control-allow-headers"]
    answer = await client.get("/s3/params", headers=origin)
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", b"{}", 415, "unsupported_media_type"),
        ("application/json", b"{", 400, "invalid_body"),
        ("application/json", b"[]", 400, "invalid_body"),
        ("application/json", b'{"strategy": "multipart", "extra": 1}', 400, "invalid_body"),
        ("application/json", b'{"strategy": "multipart", "size": "1"}', 400, "invalid_body"),
        ("application/json", b"x" * (2 * 1024 * 1024 + 1), 413, "body_too_large"),
    ],
)
async def test_bodies_that_say_nothing_are_refused(
    it: Served, content_type: str, body: bytes, status: int, code: str
) -> None:
    _, client = it
    answer = await client.post("/sessions", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_the_api_can_be_switched_off(
    seaweed: Engine, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(
        seaweed, tmp_path, monkeypatch, database_url=database.url, direct_uploads=False
    ) as (_, client):
        for path in ("/sessions", "/s3/params", "/openapi.json"):
            assert (await client.get(path)).status_code == 404
