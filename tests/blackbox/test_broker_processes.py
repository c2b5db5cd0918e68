"""Real server processes on one database and one bucket: racing calls, kill -9, jobs that follow."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engines import Engine
from tests.support.process import ServerProcess
from tests.support.state import Database
from tusd_storage.partplan import MIN_PART_SIZE

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(50_000)
WAIT_S = 60.0
QUICK = {"TUSD_REAP_INTERVAL": "1s", "TUSD_REAP_GRACE": "0s"}


@pytest.fixture
def servers(seaweed: Engine, database: Database, tmp_path: Path) -> Iterator[list[ServerProcess]]:
    """Two nodes."""
    prefix = {"TUSD_S3_PREFIX": seaweed.prefix()}

    def node(name: str) -> ServerProcess:
        return ServerProcess(
            tmp_path / name,
            seaweed,
            database_url=database.url,
            extra_env=prefix | QUICK | {"TUSD_NODE": name},
        )

    with node("one") as one, node("two") as two:
        yield [one, two]


def client() -> httpx.Client:
    return httpx.Client(trust_env=False, timeout=WAIT_S)


def delivered(server: ServerProcess, **wish: Any) -> str:
    """A presigned session whose file is there."""
    with client() as http:
        given = {"strategy": "presigned_put", "content_type": "image/png"} | wish
        made = http.post(f"{server.url}/sessions", json=given).json()
        url = f"{server.url}/sessions/{made['session']['id']}"
        signed = http.post(f"{url}/sign").json()["presigned"]
        sent = http.put(signed["url"], content=PICTURE, headers=signed["headers"])
        assert sent.status_code == 200
        session_id: str = made["session"]["id"]
        return session_id


def shown(server: ServerProcess, session_id: str) -> dict[str, Any]:
    with client() as http:
        answer: dict[str, Any] = http.get(f"{server.url}/sessions/{session_id}").json()
        return answer


def wait_until(server: ServerProcess, session_id: str, asset_state: str) -> dict[str, Any]:
    """Polls until the asset is there."""
    deadline = time.monotonic() + WAIT_S
    while (found := shown(server, session_id))["asset"]["state"] != asset_state:
        assert time.monotonic() < deadline, (found, server.log())
        time.sleep(0.1)  # between two looks at a condition with a deadline
    return found


async def complete_at_once(urls: list[str], body: dict[str, Any]) -> list[int]:
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as http:
        answers = await asyncio.gather(*(http.post(url, json=body) for url in urls))
        return [answer.status_code for answer in answers]


@pytest.mark.slow
async def test_two_servers_promote_once_and_the_asset_becomes_available(
    servers: list[ServerProcess], database: Database
) -> None:
    ids = [await asyncio.to_thread(delivered, servers[0]) for _ in range(4)]
    for session_id in ids:
        urls = [f"{server.url}/sessions/{session_id}/complete" for server in servers * 2]
        statuses = await complete_at_once(urls, {})
        assert set(statuses) <= {200, 423} and 200 in statuses
    for session_id in ids:
        await asyncio.to_thread(wait_until, servers[1], session_id, "available")
    async with database.open() as store:
        subjects = [job.subject for job in await store.jobs() if job.kind == "promote_asset"]
    assert len(subjects) == len(set(subjects)) == len(ids)


@pytest.mark.slow
def test_a_silent_client_is_finished_by_a_sweep(servers: list[ServerProcess]) -> None:
    """The file arrived, nobody said so, the session's time is over: it is not thrown away."""
    session_id = delivered(servers[0], expires_in_s=5)
    found = wait_until(servers[1], session_id, "available")
    assert found["session"]["state"] == "completed"
    assert found["asset"]["size"] == len(PICTURE)


@pytest.mark.slow
def test_a_killed_server_leaves_what_another_finishes(servers: list[ServerProcess]) -> None:
    one, two = servers
    with client() as http:
        wish = {"strategy": "multipart", "size": MIN_PART_SIZE + 10}
        made = http.post(f"{one.url}/sessions", json=wish).json()
        path = f"/sessions/{made['session']['id']}"
        signed = http.post(f"{one.url}{path}/parts", json={"part_numbers": [1, 2]}).json()
        one.kill()
        etags = [
            http.put(part["url"], content=bytes(size)).headers["etag"]
            for part, size in zip(signed["parts"], (MIN_PART_SIZE, 10), strict=True)
        ]
        parts = [{"part_number": n, "etag": etag} for n, etag in enumerate(etags, start=1)]
        done = http.post(f"{two.url}{path}/complete", json={"parts": parts})
        assert done.status_code == 200, done.text
    wait_until(two, made["session"]["id"], "available")
    one.start()
    assert shown(one, made["session"]["id"])["asset"]["state"] == "available"


@pytest.mark.slow
def test_html_that_was_promised_as_a_picture_is_quarantined(servers: list[ServerProcess]) -> None:
    with client() as http:
        wish = {"strategy": "presigned_put", "content_type": "image/png"}
        made = http.post(f"{servers[0].url}/sessions", json=wish).json()
        url = f"{servers[0].url}/sessions/{made['session']['id']}"
        signed = http.post(f"{url}/sign").json()["presigned"]
        page = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
        http.put(signed["url"], content=page, headers=signed["headers"])
        assert http.post(f"{url}/complete").status_code == 200
    found = wait_until(servers[0], made["session"]["id"], "quarantined")
    assert found["asset"]["reason"] == "content_type_mismatch"
