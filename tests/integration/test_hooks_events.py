"""Events of the whole application: written with the change, delivered until they are taken."""

import asyncio
import base64
import hashlib
import hmac
import time
from typing import Any

import httpx

from tests.support.hook_server import Call, HookServer, Reply
from tests.support.hooked import TUS, Serve, serve, server, upload
from tusd_py.app import TusdApp
from tusd_py.hooks import Hook, HookRequest, HookType
from tusd_storage.records import Job, JobState

__all__ = ["serve", "server"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVERYTHING = ",".join(kind for kind in HookType if not kind.startswith("pre-"))


async def work(app: TusdApp) -> None:
    await app.state.services.maintenance.worker.run_due()


async def hook_jobs(app: TusdApp) -> list[Job]:
    jobs: list[Job] = await app.state.services.sessions.jobs()
    return [job for job in jobs if job.kind.startswith("hook:")]


def verified(call: Call) -> bool:
    content = b".".join(
        [call.headers["webhook-id"].encode(), call.headers["webhook-timestamp"].encode(), call.raw]
    )
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return call.headers["webhook-signature"] == f"v1,{mac}"


async def test_an_upload_is_told_from_beginning_to_end(serve: Serve, server: HookServer) -> None:
    async with serve(hooks_http=server.url, webhook_secret=SECRET) as (app, client):
        path = await upload(client, Authorization="Bearer secret")
        await client.delete(path, headers=TUS)
        assert [job.state for job in await hook_jobs(app)] == [JobState.QUEUED] * 3
        await work(app)
    kinds = {call.type: call for call in server.calls if not call.type.startswith("pre-")}
    assert set(kinds) == {"post-create", "post-finish", "post-terminate"}
    finished = kinds["post-finish"]
    assert finished.upload["ID"] == path.rpartition("/")[2]
    assert (finished.upload["Size"], finished.upload["Offset"]) == (3, 3)
    assert finished.upload["MetaData"] == {"filename": "a.txt"}
    assert finished.upload["Storage"]["Type"] == "s3store"
    sent = finished.body["Event"]["HTTPRequest"]
    assert (sent["Method"], sent["URI"]) == ("PATCH", path)
    assert sent["Header"]["Upload-Offset"] == ["0"]
    assert all(verified(call) for call in server.calls)
    assert len({call.id for call in kinds.values()}) == 3
    created = kinds["post-create"]
    # What is stored tells no credentials.
    assert "Authorization" not in created.body["Event"]["HTTPRequest"]["Header"]


async def test_credentials_are_kept_where_they_are_to_be_forwarded(
    serve: Serve, server: HookServer
) -> None:
    async with serve(hooks_http=server.url, hooks_http_forward_headers="authorization,X-None") as (
        app,
        client,
    ):
        await upload(client, Authorization="Bearer sécret".encode("latin-1"), Cookie="a=b")
        await work(app)
    [created] = server.of("post-create")
    assert created.headers["authorization"] == "Bearer sécret"
    assert "cookie" not in created.headers
    header = created.body["Event"]["HTTPRequest"]["Header"]
    assert header["Authorization"] == ["Bearer sécret"]
    assert "Cookie" not in header


async def test_each_sink_has_its_own_job(serve: Serve, server: HookServer) -> None:
    told: list[HookRequest] = []

    async def audit(request: HookRequest) -> None:
        told.append(request)

    server.answers["post-finish"] = Reply(status=503)
    with HookServer() as second:
        async with serve(
            [Hook("audit", audit)],
            hooks_http=f"{server.url},{second.url}",
            hooks_enabled_events="post-finish",
        ) as (app, client):
            await upload(client)
            await work(app)
            states = {job.kind: job.state for job in await hook_jobs(app)}
            assert states == {
                "hook:audit": JobState.DONE,
                "hook:http": JobState.QUEUED,
                "hook:http-2": JobState.DONE,
            }
        [request] = told
        assert (request.type, request.attempt) == (HookType.POST_FINISH, 1)
        assert request.event.upload.metadata == {"filename": "a.txt"}
        [failed], [taken] = server.calls, second.calls
        assert failed.id == taken.id == request.id


async def test_an_event_is_tried_again_with_the_same_id(serve: Serve, server: HookServer) -> None:
    left = [500, 404]

    def answer(_: Call) -> dict[str, Any] | Reply:
        return Reply(status=left.pop(0)) if left else {}

    server.answers["post-finish"] = answer
    async with serve(hooks_http=server.url, hooks_enabled_events="post-finish") as (app, client):
        await upload(client)
        for tries in (1, 2, 3):
            await work(app)
            [job] = await hook_jobs(app)
            assert job.attempts == tries
            if job.state is JobState.QUEUED:
                await _make_due(app, job)
        assert job.state is JobState.DONE
    assert [call.headers["webhook-attempt"] for call in server.calls] == ["1", "2", "3"]
    assert len({call.id for call in server.calls}) == 1
    assert server.calls[0].raw == server.calls[2].raw


async def _make_due(app: TusdApp, job: Job) -> None:
    """As if its time had come."""
    engine = app.state.services.sessions._executor
    await engine.write(
        lambda connection: connection.execute(
            f"UPDATE jobs SET run_at = 1, due_at = 1 WHERE id = '{job.id}'"
        )
    )


async def test_an_event_nobody_takes_is_dead_and_can_be_replayed(
    serve: Serve, server: HookServer
) -> None:
    server.answers["post-finish"] = Reply(status=500)
    async with serve(hooks_http=server.url, hooks_enabled_events="post-finish", job_attempts=1) as (
        app,
        client,
    ):
        await upload(client)
        await work(app)
        [job] = await hook_jobs(app)
        assert job.state is JobState.DEAD
        assert job.error == "HookFailed: http: it answered 500"
        server.answers.clear()
        await work(app)
        assert len(server.calls) == 1
        sessions = app.state.services.sessions
        assert await sessions.revive(job.id, now=app.state.services.leases._now())
        await work(app)
        [job] = await hook_jobs(app)
        assert job.state is JobState.DONE
    assert len({call.id for call in server.calls}) == 1


async def test_a_sink_that_hangs_is_given_up(serve: Serve, server: HookServer) -> None:
    server.hold.clear()
    async with serve(
        hooks_http=server.url, hooks_enabled_events="post-finish", hooks_http_timeout="300ms"
    ) as (app, client):
        began = time.monotonic()
        await upload(client)
        await work(app)
        assert time.monotonic() - began < 10
        [job] = await hook_jobs(app)
        assert (job.state, job.error) == (JobState.QUEUED, "HookFailed: http: no answer in 0.3 s")


async def test_sessions_straight_to_the_store_are_told_too(
    serve: Serve, server: HookServer
) -> None:
    async with serve(hooks_http=server.url, hooks_enabled_events=EVERYTHING) as (app, client):
        made = (
            await client.post(
                "/sessions", json={"strategy": "presigned_put", "filename": "a", "size": 3}
            )
        ).json()
        session_id = made["session"]["id"]
        signed = (await client.post(f"/sessions/{session_id}/sign")).json()["presigned"]
        with httpx.Client(trust_env=False) as straight:
            sent = straight.put(signed["url"], content=b"abc", headers=signed["headers"])
        done = await client.post(f"/sessions/{session_id}/complete")
        assert done.status_code == 200, done.text
        await work(app)
    assert {call.type for call in server.calls} == {"post-create", "post-finish", "asset-available"}
    for call in server.calls:
        assert call.upload["ID"] == session_id
    [available] = server.of("asset-available")
    assert available.body["Event"]["Asset"]["State"] == "available"
    assert available.body["Event"]["Asset"]["ETag"] == sent.headers["etag"]
    assert available.body["Event"]["HTTPRequest"]["Method"] == ""
    [finished] = server.of("post-finish")
    assert (finished.upload["Size"], finished.upload["MetaData"]) == (3, {"filename": "a"})


async def test_what_the_reaper_ends_is_told(serve: Serve, server: HookServer) -> None:
    async with serve(hooks_http=server.url, hooks_enabled_events=EVERYTHING, expires_in="1s") as (
        app,
        client,
    ):
        made = await client.post("/files/", headers=TUS | {"Upload-Length": "3"})
        assert made.status_code == 201
        async with asyncio.timeout(20):
            while not server.of("post-expire"):
                await app.state.services.maintenance.reaper.run(apply=True)
                await work(app)
                await asyncio.sleep(0.1)
    [expired] = server.of("post-expire")
    assert expired.upload["ID"] == made.headers["location"].rpartition("/")[2]
    assert expired.body["Event"]["HTTPRequest"] == {
        "Method": "",
        "URI": "",
        "RemoteAddr": "",
        "Header": {},
    }


async def test_without_hooks_nothing_is_written(serve: Serve) -> None:
    async with serve() as (app, client):
        await upload(client)
        assert await hook_jobs(app) == []
        assert app.state.services.sessions.announcements is None
