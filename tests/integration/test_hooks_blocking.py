"""Hooks that are asked: what they refuse, what they change, what the client is told at the end."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.hook_server import Call, HookServer, Reply
from tests.support.hooked import PATCH, TUS, Serve, serve, server, upload
from tests.support.tus import metadata
from tusd_py.hooks import (
    FileInfoChanges,
    Hook,
    HookRequest,
    HookResponse,
    HookType,
    HttpResponse,
)

__all__ = ["serve", "server"]

ALL = ",".join(HookType)


def length(size: int, **pairs: str) -> dict[str, str]:
    return TUS | {"Upload-Length": str(size), "Upload-Metadata": metadata(pairs)}


async def test_pre_create_refuses_with_its_own_answer(serve: Serve, server: HookServer) -> None:
    server.answers["pre-create"] = {
        "RejectUpload": True,
        "HTTPResponse": {"StatusCode": 418, "Body": '{"no":"ü"}', "Header": {"X-Why": "because"}},
    }
    async with serve(hooks_http=server.url) as (app, client):
        answer = await client.post("/files/", headers=length(3, filename="a") | {"Origin": "x"})
        rows = await app.state.services.sessions.list_sessions()
    assert (answer.status_code, answer.text) == (418, '{"no":"ü"}')
    assert answer.headers["x-why"] == "because"
    assert "X-Why" in answer.headers["access-control-expose-headers"]
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert rows == []
    [asked] = server.calls
    assert asked.upload["MetaData"] == {"filename": "a"}
    assert (asked.upload["ID"], asked.upload["Storage"]) == ("", None)


async def test_pre_create_refuses_without_words(serve: Serve, server: HookServer) -> None:
    server.answers["pre-create"] = {"RejectUpload": True}
    async with serve(hooks_http=server.url) as (_, client):
        answer = await client.post("/files/", headers=length(3))
        direct = await client.post("/sessions", json={"strategy": "presigned_put"})
        form = await client.get("/s3/params?filename=a")
    for refused in (answer, direct, form):
        assert (refused.status_code, refused.json()["code"]) == (400, "upload_rejected")


async def test_pre_create_changes_everything_it_may(serve: Serve, server: HookServer) -> None:
    server.answers["pre-create"] = {
        "HTTPResponse": {"Header": {"X-Seen": "yes", "Upload-Offset": "77"}},
        "ChangeFileInfo": {
            "ID": "prefix-1",
            "MetaData": {"filename": "b.png", "who": "Jürgen", "empty": ""},
            "Storage": {"Path": "users/7/b.png"},
            "Profile": "pictures",
        },
    }
    profiles = {"pictures": {"prefix": "pictures/", "max_size": 10}}
    async with serve(hooks_http=server.url, profiles=profiles) as (app, client):
        path = await upload(client)
        head = await client.head(path, headers=TUS)
        row = await app.state.services.engine.find(path.rpartition("/")[2])
        again = await client.post("/files/", headers=length(3))
    node = app.state.services.config.node
    assert path == f"/files/{node}~prefix-1"
    assert head.headers["upload-metadata"] == metadata(
        {"filename": "b.png", "who": "Jürgen", "empty": ""}
    )
    assert (row.profile, row.object_key) == ("pictures", "pictures/users/7/b.png")
    assert row.filename == "b.png"
    # Another one of this id and key is refused, and told why.
    assert (again.status_code, again.json()["code"]) == (409, "upload_exists")


async def test_a_profile_that_was_chosen_holds(serve: Serve, server: HookServer) -> None:
    server.answers["pre-create"] = {"ChangeFileInfo": {"Profile": "pictures"}}
    profiles = {"pictures": {"max_size": 10, "content_types": "image/*"}}
    async with serve(hooks_http=server.url, profiles=profiles) as (_, client):
        long = await client.post("/files/", headers=length(11, filetype="image/png"))
        text = await client.post("/files/", headers=length(3, filetype="text/plain"))
        good = await client.post("/files/", headers=length(3, filetype="image/png"))
    assert (long.status_code, text.status_code, good.status_code) == (413, 422, 201)


async def test_headers_of_pre_create_are_added(serve: Serve, server: HookServer) -> None:
    server.answers["pre-create"] = {"HTTPResponse": {"Header": {"X-Seen": "yes", "Location": "/"}}}
    async with serve(hooks_http=server.url) as (_, client):
        made = await client.post("/files/", headers=length(3))
    assert (made.status_code, made.headers["x-seen"]) == (201, "yes")
    assert made.headers["location"].startswith("/files/")


@pytest.mark.parametrize(
    "changes",
    [
        {"ID": "a/b"},
        {"ID": "../x"},
        {"ID": "other~x"},
        {"ID": "x" * 101},
        {"ID": "a b"},
        {"Storage": {"Path": "../x"}},
        {"Storage": {"Path": "/x"}},
        {"Storage": {"Path": "a//b"}},
        {"Storage": {"Path": "a/./b"}},
        {"Storage": {"Path": "a\\b"}},
        {"Storage": {"Path": "a\nb"}},
        {"Storage": {"Path": "x" * 513}},
        {"Storage": {"Bucket": "other"}},
        {"Profile": "nowhere"},
        {"MetaData": {"a b": "c"}},
        {"MetaData": {"a,b": "c"}},
        {"MetaData": {"": "c"}},
        {"MetaData": {"a": "x" * 4000, "b": "x" * 16000}},
    ],
)
async def test_what_no_upload_can_have_is_a_failure(serve: Serve, changes: dict[str, Any]) -> None:
    given = {
        "id": changes.get("ID", ""),
        "storage": changes.get("Storage"),
        "profile": changes.get("Profile", ""),
        "metadata": changes.get("MetaData"),
    }

    async def ask(_: HookRequest) -> HookResponse:
        return HookResponse(change_file_info=FileInfoChanges(**given))

    async with serve([Hook("ask", ask)]) as (app, client):
        answer = await client.post("/files/", headers=length(3))
        assert await app.state.services.sessions.list_sessions() == []
    assert (answer.status_code, answer.json()["code"]) == (502, "hook_failed")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=404),
        Reply(status=302),
        Reply(body=b"[]"),
        Reply(body=b"no json"),
        Reply(body=b"{}", content_type="text/html"),
        Reply(body=b"{}", content_type=None),
        Reply(body=b'{"a":"' + b"x" * 6000 + b'"}'),
        Reply(body=b'{"HTTPResponse": {"StatusCode": 99}}'),
        Reply(body=b'{"HTTPResponse": {"Header": {"X": "a\\r\\nb: c"}}}'),
    ],
)
async def test_an_answer_that_is_none_refuses_clearly(
    serve: Serve, server: HookServer, reply: Reply
) -> None:
    server.answers["pre-create"] = reply
    async with serve(hooks_http=server.url) as (app, client):
        answer = await client.post("/files/", headers=length(3))
        assert await app.state.services.sessions.list_sessions() == []
    assert (answer.status_code, answer.json()["code"]) == (502, "hook_failed")
    assert "127.0.0.1" not in answer.text
    assert len(server.calls) == 1


async def test_a_500_is_tried_again(serve: Serve, server: HookServer) -> None:
    left = [500, 503]

    def answer(_: Call) -> dict[str, Any] | Reply:
        return Reply(status=left.pop(0)) if left else {}

    server.answers["pre-create"] = answer
    async with serve(hooks_http=server.url) as (_, client):
        assert (await client.post("/files/", headers=length(3))).status_code == 201
        left.extend([500] * 4)
        assert (await client.post("/files/", headers=length(3))).status_code == 502
    calls = server.of("pre-create")
    assert len(calls) == 3 + 4
    assert len({call.id for call in calls[:3]}) == 1
    assert calls[0].id != calls[3].id


async def test_a_hook_that_hangs_or_is_away_is_bounded(serve: Serve, server: HookServer) -> None:
    server.hold.clear()
    began = time.monotonic()
    async with serve(hooks_http=server.url, hooks_http_timeout="300ms") as (_, client):
        slow = await client.post("/files/", headers=length(3))
        server.stop()
        away = await client.post("/files/", headers=length(3))
    assert time.monotonic() - began < 15
    for answer in (slow, away):
        assert (answer.status_code, answer.json()["code"]) == (502, "hook_failed")


async def test_several_hooks_are_asked_until_one_refuses(serve: Serve, server: HookServer) -> None:
    server.answers["pre-create"] = {"HTTPResponse": {"Header": {"X-B": "http"}}}
    asked: list[str] = []

    def says(name: str, response: HookResponse) -> Hook:
        async def call(_: HookRequest) -> HookResponse:
            asked.append(name)
            return response

        return Hook(name, call, types=["pre-create"])  # type: ignore[list-item]

    headers = HttpResponse(header={"X-A": "one", "X-B": "one"})
    one = says("one", HookResponse(http_response=headers))
    no = says("no", HookResponse(reject_upload=True, http_response=HttpResponse(status_code=403)))
    async with serve([one], hooks_http=server.url) as (_, client):
        made = await client.post("/files/", headers=length(3))
        assert (made.headers["x-a"], made.headers["x-b"]) == ("one", "http")
    server.calls.clear()
    async with serve([no, one], hooks_http=server.url) as (_, client):
        assert (await client.post("/files/", headers=length(3))).status_code == 403
    assert asked == ["one", "no"]
    assert server.calls == []


async def test_a_callable_that_raises_refuses(serve: Serve) -> None:
    async def broken(_: HookRequest) -> HookResponse:
        raise RuntimeError("secret")

    async with serve([Hook("broken", broken)]) as (_, client):
        answer = await client.post("/files/", headers=length(3))
    assert (answer.status_code, answer.json()["code"]) == (502, "hook_failed")
    assert "secret" not in answer.text


async def test_pre_terminate_may_keep_it(serve: Serve, server: HookServer) -> None:
    server.answers["pre-terminate"] = {"RejectTermination": True}
    async with serve(hooks_http=server.url, hooks_enabled_events=ALL) as (_, client):
        path = await upload(client)
        kept = await client.delete(path, headers=TUS)
        assert (kept.status_code, kept.json()["code"]) == (400, "termination_rejected")
        assert (await client.head(path, headers=TUS)).status_code == 200
        server.answers["pre-terminate"] = {"HTTPResponse": {"Header": {"X-Bye": "1"}}}
        gone = await client.delete(path, headers=TUS)
        assert (gone.status_code, gone.headers["x-bye"]) == (204, "1")
        assert (await client.delete(path, headers=TUS)).status_code == 410
    first, second = server.of("pre-terminate")
    assert first.upload["Offset"] == 3
    assert first.id != second.id, "another DELETE asks anew"


async def test_tries_of_one_question_share_its_id(serve: Serve, server: HookServer) -> None:
    left = [500, 503]

    def answer(_: Call) -> dict[str, Any] | Reply:
        return Reply(status=left.pop(0)) if left else {}

    server.answers["pre-terminate"] = answer
    async with serve(hooks_http=server.url, hooks_enabled_events=ALL) as (_, client):
        path = await upload(client)
        assert (await client.delete(path, headers=TUS)).status_code == 204
    asked = server.of("pre-terminate")
    assert [call.headers["webhook-attempt"] for call in asked] == ["1", "2", "3"]
    assert len({call.id for call in asked}) == 1


async def test_pre_terminate_is_asked_by_the_session_api_too(
    serve: Serve, server: HookServer
) -> None:
    server.answers["pre-terminate"] = {"RejectTermination": True}
    async with serve(hooks_http=server.url, hooks_enabled_events=ALL) as (_, client):
        path = (await client.post("/files/", headers=length(3))).headers["location"]
        kept = await client.delete("/sessions/" + path.rsplit("/", 1)[1])
        assert (kept.status_code, kept.json()["code"]) == (400, "termination_rejected")
        assert (await client.head(path, headers=TUS)).status_code == 200


async def test_the_last_answer_is_the_hooks_and_stays_so(serve: Serve, server: HookServer) -> None:
    server.answers["pre-finish"] = {
        "HTTPResponse": {"Body": "done", "Header": {"Link": "<https://example.com/1>"}}
    }
    async with serve(hooks_http=server.url, hooks_enabled_events=ALL) as (app, client):
        made = await client.post("/files/", headers=length(3))
        path = made.headers["location"]
        sent = await client.patch(path, headers=PATCH | {"Upload-Offset": "0"}, content=b"abc")
        assert (sent.status_code, sent.text) == (200, "done")
        server.answers["pre-finish"] = {"HTTPResponse": {"Body": "something else"}}
        again = await client.patch(path, headers=PATCH | {"Upload-Offset": "3"})
        head = await client.head(path, headers=TUS)
        await app.state.services.maintenance.worker.run_due()
    assert (again.status_code, again.text) == (200, "done")
    for answer in (sent, again, head):
        assert answer.headers["link"] == "<https://example.com/1>"
        assert answer.headers["upload-offset"] == "3"
    assert head.status_code == 200
    [asked], [told] = server.of("pre-finish"), server.of("post-finish")
    assert server.calls.index(asked) < server.calls.index(told)
    assert asked.upload["Offset"] == 3


async def test_until_pre_finish_answered_the_client_is_not_told(
    serve: Serve, server: HookServer
) -> None:
    server.answers["pre-finish"] = Reply(status=404)
    async with serve(hooks_http=server.url, hooks_enabled_events="pre-finish,post-finish") as (
        app,
        client,
    ):
        made = await client.post("/files/", headers=length(3))
        path = made.headers["location"]
        sent = await client.patch(path, headers=PATCH | {"Upload-Offset": "0"}, content=b"abc")
        assert (sent.status_code, sent.json()["code"]) == (502, "hook_failed")
        assert (await client.head(path, headers=TUS)).status_code == 423
        # The file is there, whatever the hook does; only post-finish waits a little for it.
        row = await app.state.services.engine.find(path.rpartition("/")[2])
        assert row.completed_at is not None
        await app.state.services.maintenance.worker.run_due()
        assert server.of("post-finish") == []
        server.answers["pre-finish"] = {"HTTPResponse": {"Header": {"X-A": "b"}}}
        head = await client.head(path, headers=TUS)
        assert (head.status_code, head.headers["x-a"]) == (200, "b")
        await app.state.services.maintenance.worker.run_due()
    assert len(server.of("post-finish")) == 1
    assert len({call.id for call in server.of("pre-finish")}) == 1


@pytest.mark.parametrize("size", [0, 3])
async def test_an_upload_that_ends_with_its_creation(
    serve: Serve, server: HookServer, size: int
) -> None:
    server.answers["pre-finish"] = {"HTTPResponse": {"Header": {"X-End": "1"}}}
    server.answers["pre-create"] = {"HTTPResponse": {"Header": {"X-Begin": "1"}}}
    async with serve(hooks_http=server.url, hooks_enabled_events=ALL) as (_, client):
        kind = {"Content-Type": PATCH["Content-Type"]} if size else {}
        made = await client.post("/files/", headers=length(size) | kind, content=b"abc"[:size])
    assert made.status_code == 201, made.text
    assert (made.headers["x-begin"], made.headers["x-end"]) == ("1", "1")


async def test_a_final_upload_is_asked_about_with_its_length(
    serve: Serve, server: HookServer
) -> None:
    async with serve(hooks_http=server.url) as (_, client):
        parts = [await upload(client, **{"Upload-Concat": "partial"}) for _ in range(2)]
        wanted = TUS | {"Upload-Concat": f"final;{' '.join(parts)}"}
        made = await client.post("/files/", headers=wanted)
        assert made.status_code == 201, made.text
    first, _, final = server.of("pre-create")
    assert (first.upload["IsPartial"], first.upload["IsFinal"]) == (True, False)
    assert (final.upload["IsFinal"], final.upload["Size"]) == (True, 6)
    assert final.upload["PartialUploads"] == [part.rpartition("/")[2] for part in parts]


async def slowly(pieces: int, gap_s: float = 0.05) -> AsyncIterator[bytes]:
    for _ in range(pieces):
        yield b"x" * 1000
        await asyncio.sleep(gap_s)


async def test_progress_is_told_and_may_stop_the_upload(serve: Serve, server: HookServer) -> None:
    server.answers["post-receive"] = lambda call: (
        {}
        if call.upload["Offset"] < 5000
        else {"StopUpload": True, "HTTPResponse": {"StatusCode": 403, "Body": "enough"}}
    )
    async with serve(hooks_http=server.url, progress_hooks_interval="100ms") as (_, client):
        made = await client.post("/files/", headers=length(1_000_000, filename="a"))
        path = made.headers["location"]
        sent = await client.patch(
            path, headers=PATCH | {"Upload-Offset": "0"}, content=slowly(1000)
        )
        assert (sent.status_code, sent.text) == (403, "enough")
        assert (await client.head(path, headers=TUS)).status_code == 410
    told = server.of("post-receive")
    offsets = [call.upload["Offset"] for call in told]
    assert offsets == sorted(set(offsets))
    assert len(offsets) > 1
    assert told[0].upload["MetaData"] == {"filename": "a"}


async def test_progress_of_short_requests_and_failing_hooks(
    serve: Serve, server: HookServer
) -> None:
    server.answers["post-receive"] = Reply(status=500)
    async with serve(hooks_http=server.url, progress_hooks_interval="50ms") as (_, client):
        made = await client.post("/files/", headers=length(1_000_000))
        path, offset = made.headers["location"], 0
        async with asyncio.timeout(30):
            while len(server.of("post-receive")) < 2:
                sent: httpx.Response = await client.patch(
                    path, headers=PATCH | {"Upload-Offset": str(offset)}, content=b"x" * 100
                )
                assert sent.status_code == 204
                offset += 100
                await asyncio.sleep(0.02)
    offsets = [call.upload["Offset"] for call in server.of("post-receive")]
    assert offsets == sorted(set(offsets))
