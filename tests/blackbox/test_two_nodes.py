"""Two nodes on one PostgreSQL and one bucket, behind the load balancers that `deploy/` configures.

What is shown: every request comes home, bodies stream and are not capped, a node that is down takes
nobody with it, `tail_loss` keeps its two promises, leases hold across nodes.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.balancers import BALANCERS, Balancer, HAProxy, without_affinity
from tests.support.cluster import Cluster
from tests.support.engines import Engine
from tests.support.node import NodeProgram
from tests.support.persistent import PersistentClient
from tests.support.tus import OFFSET_MEDIA_TYPE, VERSION, TusClient, poll
from tests.support.wire import Wire, request_head
from tusd_storage.partplan import MIB
from tusd_storage.tail import tail_path

LENGTH = 12 * MIB + 7
DATA = os.urandom(LENGTH)


@pytest.fixture(scope="module")
def cluster(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("two"), seaweed) as running:
        yield running


@pytest.fixture(scope="module", params=sorted(BALANCERS))
def balancer(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Balancer]:
    with BALANCERS[request.param](tmp_path_factory.mktemp("lb"), cluster.ports) as running:
        yield running


@pytest.fixture(scope="module")
def forgiving(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with `tail_loss = rewind`, and leases that run out soon."""
    with Cluster(
        tmp_path_factory.mktemp("rewind"),
        seaweed,
        tail_loss="rewind",
        extra_env={"TUSD_LEASE_TTL": "2s"},
    ) as running:
        yield running


def test_what_is_for_those_inside_is_not_passed_on(cluster: Cluster, balancer: Balancer) -> None:
    for path in ("/ready", "/metrics", "/%72eady", "/metrics/", "/ready?x=1"):
        with Wire(balancer.port, timeout_s=20) as wire:
            wire.send(request_head("GET", path))
            assert wire.answer().status == 404, path
    for port in cluster.ports.values():
        with Wire(port, timeout_s=20) as wire:
            wire.send(request_head("GET", "/ready"))
            assert wire.answer().status == 200


def home_of(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2].partition("~")[0]


def begin(port: int, url: str, start: int, sent: int, *, data: bytes = DATA) -> Wire:
    """A PATCH for all the rest, of which only `sent` bytes go out; the connection stays open."""
    wire = Wire(port, timeout_s=60)
    headers = {
        "Tus-Resumable": VERSION,
        "Upload-Offset": str(start),
        "Content-Type": OFFSET_MEDIA_TYPE,
        "Content-Length": str(len(data) - start),
    }
    wire.send(request_head("PATCH", urlsplit(url).path, headers), data[start : start + sent])
    return wire


def finish(client: TusClient, url: str, offset: int) -> None:
    """Sends the rest as soon as a byte is taken."""
    first = DATA[offset : offset + 1]
    poll(lambda: client.patch(url, offset, first).status == 204, timeout_s=20)
    assert client.patch(url, offset + 1, DATA[offset + 1 :]).status == 204


# -- Through each balancer


def test_every_patch_comes_home(cluster: Cluster, balancer: Balancer) -> None:
    client = TusClient(balancer.uploads_url)
    homes: set[str] = set()
    for number in range(40):  # a balancer may choose by chance, and find a node well only later
        if number >= 6 and len(homes) == 2:
            break
        data = DATA[number : number + 6 * MIB]
        url = client.upload(data, chunk=1 * MIB)  # asserts a 204 for each
        homes.add(home_of(url))
        assert cluster.bucket.read(url) == data
    assert homes == {"n1", "n2"}
    assert not any(cluster.events(name, "tus_tail_missing") for name in cluster.nodes)


def test_the_tilde_may_come_escaped(cluster: Cluster, balancer: Balancer) -> None:
    client = TusClient(balancer.uploads_url)
    for _ in range(4):
        url = client.create(LENGTH)
        assert client.patch(url, 0, DATA[: 1 * MIB]).status == 204
        escaped = urlsplit(url).path.replace("~", "%7E")
        with Wire(balancer.port) as wire:
            headers = {
                "Tus-Resumable": VERSION,
                "Upload-Offset": str(1 * MIB),
                "Content-Type": OFFSET_MEDIA_TYPE,
                "Content-Length": "1",
            }
            wire.send(request_head("PATCH", escaped, headers), DATA[1 * MIB : 1 * MIB + 1])
            assert wire.answer().status == 204
        assert client.delete(url).status == 204


def test_bodies_are_not_buffered(cluster: Cluster, balancer: Balancer) -> None:
    """A part is in the ledger while the body that carries it has not ended."""
    client = TusClient(balancer.uploads_url)
    url = client.create(LENGTH)
    with begin(balancer.port, url, 0, 6 * MIB) as wire:
        poll(lambda: client.offset(url) == 5 * MIB, timeout_s=20)
        wire.send(DATA[6 * MIB :])
        assert wire.answer().status == 204
    assert cluster.bucket.read(url) == DATA


def test_bodies_are_not_capped(cluster: Cluster, balancer: Balancer) -> None:
    client = TusClient(balancer.uploads_url)
    url = client.create(LENGTH)
    assert client.patch(url, 0, DATA).status == 204
    assert cluster.bucket.read(url) == DATA
    answer = client.post({"Upload-Length": str(LENGTH)}, DATA)  # Creation With Upload
    assert answer.status == 201
    assert int(answer["Upload-Offset"]) == LENGTH
    chunked = client.create(LENGTH)
    pieces = (DATA[i : i + MIB] for i in range(0, LENGTH, MIB))
    assert client.patch(chunked, 0, pieces).status == 204
    assert cluster.bucket.read(chunked) == DATA


def test_what_arrived_is_kept_when_the_client_vanishes(
    cluster: Cluster, balancer: Balancer
) -> None:
    client = TusClient(balancer.uploads_url)
    url = client.create(LENGTH)
    with begin(balancer.port, url, 0, 7 * MIB) as wire:
        poll(lambda: client.offset(url) == 5 * MIB, timeout_s=20)
        wire.close()
    poll(lambda: client.offset(url) == 7 * MIB, timeout_s=20)
    assert client.patch(url, 7 * MIB, DATA[7 * MIB :]).status == 204
    assert cluster.bucket.read(url) == DATA


def test_a_node_nobody_knows_is_answered_by_another(balancer: Balancer) -> None:
    client = TusClient(balancer.uploads_url)
    for method in ("HEAD", "PATCH", "GET", "DELETE"):
        headers = {"Upload-Offset": "0", "Content-Type": OFFSET_MEDIA_TYPE}
        assert client.request(method, "/files/n9~AAAAAAAAAAAAAAAAAAAAAAAA", headers).status == 404


def test_a_node_that_is_down(cluster: Cluster, balancer: Balancer) -> None:
    client = TusClient(balancer.uploads_url)
    url = client.create(LENGTH)
    home = home_of(url)
    assert client.patch(url, 0, DATA[: 6 * MIB]).status == 204
    cluster[home].kill()
    try:
        assert client.offset(url) == 6 * MIB  # HEAD: from the other node, at once
        answer = client.patch(url, 6 * MIB, DATA[6 * MIB : 6 * MIB + 1])
        assert answer.status in {502, 503}  # its bytes wait for their home
        born = [home_of(client.create(1)) for _ in range(4)]
        assert home not in born
        assert client.offset(url) == 6 * MIB
    finally:
        cluster[home].start()
    finish(client, url, 6 * MIB)
    assert cluster.bucket.read(url) == DATA


def test_no_node_at_all_is_not_now_rather_than_never(cluster: Cluster, balancer: Balancer) -> None:
    """A HEAD that fails with 5xx makes tus-js-client begin again at zero."""
    client = TusClient(balancer.uploads_url)
    url = client.create(LENGTH)
    for node in cluster.nodes.values():
        node.kill()
    try:
        for _ in range(3):
            head = client.head(url)
            assert head.status == 423
            assert int(head["Retry-After"]) > 0
        answer = client.patch(url, 0, DATA[:1])
        assert answer.status in {502, 503}
        assert int(answer["Retry-After"]) > 0
    finally:
        for node in cluster.nodes.values():
            node.start(wait=False)
        for node in cluster.nodes.values():
            node.wait_ready()
    poll(lambda: client.head(url).status == 200, timeout_s=20)
    finish(client, url, 0)
    assert cluster.bucket.read(url) == DATA


# -- tail_loss, without affinity, with tus-js-client


def js_upload(
    folder: Path, endpoint: str, data: bytes, *, chunk: int, retries: int = 30
) -> NodeProgram:
    """tus-js-client under Node."""
    file = folder / "file"
    file.write_bytes(data)
    return NodeProgram(
        "upload.mjs",
        {
            "file": str(file),
            "endpoint": endpoint,
            "chunkSize": chunk,
            "retryDelays": [300] * retries,
        },
    )


def test_rewind_costs_less_than_a_part_and_no_error(forgiving: Cluster, tmp_path: Path) -> None:
    """tus-js-client, a balancer that knows no homes, and the node with the tail lost with its disk.

    Chunks go to both nodes in turn: there are misrouted ones, too.
    """
    cluster, data = forgiving, os.urandom(40 * MIB + 7)
    with (
        HAProxy(
            tmp_path / "lb", cluster.ports, tail_loss="rewind", change=without_affinity
        ) as balancer,
        js_upload(tmp_path, balancer.uploads_url, data, chunk=8 * MIB) as upload,
    ):
        url = str(upload.wait_for("url")["url"])
        upload.wait_for("chunk")
        owner = tail_owner(cluster, url)
        cluster[owner].kill()
        cluster.lose_disk(owner)
        cluster[owner].start()
        upload.wait_for("success")
    assert len(upload.requests("POST")) == 1, "the client began again"
    assert cluster.bucket.read(url) == data
    rewound = [event for name in cluster.nodes for event in cluster.events(name, "upload_rewound")]
    assert rewound, cluster.logs()
    assert all(event["lost"] < 5 * MIB for event in rewound), rewound


def test_fail_is_loud_and_corrupts_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """The same accident under `tail_loss = fail`: 503 until the client gives up, and no change."""
    with HAProxy(tmp_path / "lb", cluster.ports, change=without_affinity) as balancer:
        client = TusClient(balancer.uploads_url)
        with js_upload(tmp_path, balancer.uploads_url, DATA, chunk=7 * MIB, retries=6) as upload:
            url = str(upload.wait_for("url")["url"])
            upload.wait_for("chunk")
            owner = tail_owner(cluster, url)
            cluster[owner].kill()
            cluster.lose_disk(owner)
            cluster[owner].start()
            assert upload.wait_for("error")["status"] == 503
        assert any(cluster.events(name, "tus_tail_missing") for name in cluster.nodes)
        again = client.patch(url, 7 * MIB, DATA[7 * MIB : 7 * MIB + 1])
        assert again.status == 503
        assert json.loads(again.body)["code"] == "tus_tail_missing"
        assert int(again["Retry-After"]) > 0
        assert client.offset(url) == 7 * MIB
        assert cluster.bucket.read(url) is None
        for node in cluster.nodes.values():
            assert not tail_path(url.rpartition("/")[2], root=node.tmp_dir).exists()
        assert client.delete(url).status == 204
    with HAProxy(tmp_path / "homes", cluster.ports) as balancer:  # nobody else is harmed
        other = TusClient(balancer.uploads_url).upload(DATA, chunk=5 * MIB + 1)
        assert cluster.bucket.read(other) == DATA


def tail_owner(cluster: Cluster, url: str) -> str:
    """The node with the acknowledged bytes that are not yet a part."""
    rows = cluster.rows(
        "SELECT tail_node FROM upload_sessions WHERE id = %s", url.rpartition("/")[2]
    )
    return str(rows[0][0] or "")


# -- Leases across nodes


def test_the_newest_request_wins_within_about_a_second(cluster: Cluster) -> None:
    a, b = TusClient(cluster["n1"].uploads_url), TusClient(cluster["n2"].uploads_url)
    waits = []
    for _ in range(3):
        path = urlsplit(a.create(LENGTH)).path
        with begin(cluster["n1"].port, path, 0, 0) as stalled:
            poll(lambda path=path: holder(cluster, path).startswith("n1/"))
            started = time.monotonic()
            assert b.patch(path, 0, DATA[: 1 * MIB]).status == 204
            waits.append(time.monotonic() - started)
            assert stalled.answer().status == 423
        assert b.patch(path, 1 * MIB, DATA[1 * MIB :]).status == 204
        assert cluster.bucket.read(path) == DATA
    assert min(waits) < 1.5, waits


def test_what_the_older_request_had_is_kept(cluster: Cluster) -> None:
    a, b = TusClient(cluster["n1"].uploads_url), TusClient(cluster["n2"].uploads_url)
    path = urlsplit(a.create(LENGTH)).path
    with begin(cluster["n1"].port, path, 0, 6 * MIB) as stalled:
        poll(lambda: a.offset(path) == 5 * MIB)
        # The other node gets the lease, but not the tail: nothing is lost or changed by that.
        refused = b.patch(path, 5 * MIB, DATA[5 * MIB : 5 * MIB + 1])
        assert refused.status in {409, 503}
        assert stalled.answer().status == 423
    assert a.offset(path) == b.offset(path) == 6 * MIB
    assert a.patch(path, 6 * MIB, DATA[6 * MIB :]).status == 204
    assert cluster.bucket.read(path) == DATA


@pytest.mark.parametrize("awakes_with", ["part of the rest", "all of the rest"])
def test_a_node_that_slept_past_its_lease_cannot_write(
    forgiving: Cluster, awakes_with: str
) -> None:
    """SIGSTOP in the middle of a body, SIGCONT after another node has taken the upload."""
    cluster = forgiving
    sleeper, taker = cluster["n1"], TusClient(cluster["n2"].uploads_url)
    path = urlsplit(taker.create(LENGTH)).path
    assert TusClient(sleeper.uploads_url).patch(path, 0, DATA[: 1 * MIB]).status == 204
    with begin(sleeper.port, path, 1 * MIB, 2 * MIB) as wire:
        poll(lambda: holder(cluster, path).startswith("n1/"))
        sleeper.suspend()
        try:
            # The lease runs out; without the tail the taker rewinds, then goes on.
            poll(lambda: taker.patch(path, 1 * MIB, DATA[1 * MIB : 2 * MIB]).status == 409)
            assert taker.patch(path, 0, DATA[: 7 * MIB + 11]).status == 204
            before = state_of(cluster, path)
        finally:
            sleeper.resume()
        end = 8 * MIB if awakes_with == "part of the rest" else LENGTH
        wire.send_until_refused([DATA[3 * MIB : end]])
        wire.rest()
    poll(lambda: holder(cluster, path) == "")
    assert state_of(cluster, path) == before
    assert before[1] == "n2"
    tail = tail_path(path.rpartition("/")[2], root=cluster["n2"].tmp_dir)
    assert tail.read_bytes() == DATA[5 * MIB : 7 * MIB + 11]
    assert taker.patch(path, 7 * MIB + 11, DATA[7 * MIB + 11 :]).status == 204
    assert cluster.bucket.read(path) == DATA


def holder(cluster: Cluster, path: str) -> str:
    """Who holds the upload's lease."""
    rows = cluster.rows(
        "SELECT lease_holder FROM upload_sessions WHERE id = %s", path.rpartition("/")[2]
    )
    return str(rows[0][0]) if rows and rows[0][0] else ""


def state_of(cluster: Cluster, path: str) -> tuple[object, ...]:
    """Offset, tail and ledger of an upload, as rows."""
    session_id = path.rpartition("/")[2]
    (row,) = cluster.rows(
        'SELECT "offset", tail_node, tail_crc32, parts_count, parts_crc32, state '
        "FROM upload_sessions WHERE id = %s",
        session_id,
    )
    parts = cluster.rows(
        "SELECT number, size, etag, crc32 FROM upload_parts WHERE session_id = %s ORDER BY number",
        session_id,
    )
    return (*row, *parts)


# -- Connections to the database

CROWD = 500
SMALL = 40_000
POOL = 10


async def test_five_hundred_slow_uploads_share_a_pool_of_ten(cluster: Cluster) -> None:
    """No connection and no transaction is held while a body is read."""
    node = cluster["n1"]
    client = PersistentClient(node.uploads_url)
    halves = [asyncio.Event() for _ in range(CROWD)]
    go_on = asyncio.Event()
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        trickles = [tasks.create_task(trickle(client, node.port, half, go_on)) for half in halves]
        for half in halves:
            await half.wait()
        await asyncio.to_thread(poll, lambda: leased(cluster) == CROWD, timeout_s=20)
        most, longest = await asyncio.to_thread(watch_connections, cluster)
        started = time.monotonic()
        answer = await client.request("HEAD", f"{node.uploads_url}n1~{'A' * 24}")
        assert answer is not None and answer.status == 404  # the database has room for others
        assert time.monotonic() - started < 5
        assert leased(cluster) == CROWD
        go_on.set()
    assert most <= 2 * POOL  # of both nodes
    assert longest < 1
    assert {task.result() for task in trickles} == {204}


async def trickle(
    client: PersistentClient, port: int, half: asyncio.Event, go_on: asyncio.Event
) -> int:
    """One upload that stands still in the middle of its body until it may go on."""
    created = await client.request(
        "POST", client.endpoint, {"Upload-Length": str(SMALL), "Content-Length": "0"}
    )
    assert created is not None and created.status == 201, created
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        headers = {
            "Tus-Resumable": VERSION,
            "Upload-Offset": "0",
            "Content-Type": OFFSET_MEDIA_TYPE,
            "Content-Length": str(SMALL),
        }
        path = urlsplit(created["Location"]).path
        writer.write(request_head("PATCH", path, headers) + DATA[: SMALL // 2])
        await writer.drain()
        half.set()
        await go_on.wait()
        writer.write(DATA[SMALL // 2 : SMALL])
        status = await reader.readline()
        return int(status.split(b" ")[1])
    finally:
        writer.transport.abort()


def leased(cluster: Cluster) -> int:
    """Uploads that somebody writes now; what a dead node had does not count."""
    now = time.time_ns() // 1000
    (row,) = cluster.rows("SELECT count(*) FROM upload_sessions WHERE lease_until > %s", now)
    return int(row[0])


def watch_connections(cluster: Cluster) -> tuple[int, int]:
    """The most connections the nodes had within two seconds, and the longest transaction in s."""
    most, longest = 0, 0.0
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        (row,) = cluster.rows(
            "SELECT count(*), coalesce(max(extract(epoch FROM now() - xact_start)), 0) "
            "FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
        most, longest = max(most, row[0]), max(longest, float(row[1]))
    return most, longest
