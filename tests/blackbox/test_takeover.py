"""One writer for an upload, across requests and processes: the newest request wins, and a process
that was stopped and woke up again can harm nothing.
"""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.pairs import DATA, LENGTH, Pair, create, offset, pair_of_servers, patch
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, poll
from tusd_storage.partplan import MIB


@pytest.fixture
def siblings(seaweed: Engine, tmp_path: Path) -> Iterator[Pair]:
    """Two processes of one node: one database, one bucket, one disk."""
    shared = {"TUSD_NODE": "a", "TUSD_TMP_DIR": str(tmp_path / "tmp"), "TUSD_LEASE_TTL": "2s"}
    with pair_of_servers(tmp_path, seaweed, shared, shared) as made:
        yield made


def begin(server: ServerProcess, path: str, start: int, sent: int) -> socket.socket:
    """A PATCH for all the rest, of which only `sent` bytes go out; the connection stays open."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: {start}\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {LENGTH - start}\r\n\r\n"
    )
    connection.sendall(head.encode() + DATA[start : start + sent])
    return connection


def content(path: str, server: ServerProcess, engine: Engine) -> bytes | None:
    with closing(Bucket(engine, server.extra_env["TUSD_S3_PREFIX"])) as bucket:
        return bucket.read(path)


def status_of(connection: socket.socket) -> int:
    with connection:
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status


@pytest.mark.parametrize("where", ["the same process", "another process"])
def test_a_newer_request_takes_over_from_a_stalled_one(
    siblings: Pair, seaweed: Engine, where: str
) -> None:
    one, two = siblings
    taker = one if where == "the same process" else two
    path = create(one)
    stalled = begin(one, path, 0, 6 * MIB)
    poll(lambda: offset(one, path) == 5 * MIB)  # its first part has landed
    answer = patch(taker, path, 5 * MIB, 7 * MIB)
    # What the stalled request had received beyond the part was kept, and the client is told.
    assert answer.status == 409
    assert int(answer["Upload-Offset"]) == 6 * MIB
    assert status_of(stalled) == 423
    assert patch(taker, path, 6 * MIB, LENGTH).status == 204
    assert content(path, one, seaweed) == DATA


def test_a_process_that_hung_past_its_lease_cannot_write(siblings: Pair, seaweed: Engine) -> None:
    one, two = siblings
    path = create(one)
    assert patch(one, path, 0, 1 * MIB).status == 204
    connection = begin(one, path, 1 * MIB, 2 * MIB)
    one.suspend()
    try:
        # The lease runs out; the other process takes the upload and its tail.
        poll(lambda: patch(two, path, 1 * MIB, 3 * MIB + 11).status == 204, timeout_s=40)
    finally:
        one.resume()
    connection.sendall(DATA[3 * MIB : 8 * MIB])  # the sleeper goes on as if nothing had happened
    connection.shutdown(socket.SHUT_WR)
    with connection:
        while connection.recv(65536):
            pass
    assert offset(two, path) == 3 * MIB + 11
    assert patch(two, path, 3 * MIB + 11, LENGTH).status == 204
    assert content(path, one, seaweed) == DATA


def test_a_killed_process_gives_way_at_once(siblings: Pair, seaweed: Engine) -> None:
    one, two = siblings
    path = create(one)
    assert patch(one, path, 0, 6 * MIB).status == 204
    with begin(one, path, 6 * MIB, 1 * MIB):
        poll(lambda: offset(two, path) == 6 * MIB)
        one.kill()
    started = time.monotonic()
    assert patch(two, path, 6 * MIB, LENGTH).status == 204
    assert time.monotonic() - started < 10
    assert content(path, two, seaweed) == DATA
