"""Broken networks and killed servers: what was acknowledged stays, what arrived is kept, and the
object in the bucket is always what the client sent, byte for byte.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.engines import Engine
from tests.support.process import ServerProcess
from tests.support.proxy import Proxy
from tests.support.tus import Bucket, TusClient, poll
from tests.support.wire import Answer, ConnectionEnded, Wire, request_head
from tusd_storage.partplan import MIB

SIZES = [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 12 * MIB + 7]
LAST_READ = 512 * 1024
"""Of a connection that breaks, the bytes of the last read from the socket may be gone."""
STOP_S = 8.0
"""Of these a client that goes on sending gets two, to see its answer."""
PIECE = 64 * 1024
BIG = int(os.environ.get("TUSD_TEST_BIG_MIB", "64")) * MIB


@dataclass(frozen=True, slots=True)
class Site:
    """One server, and the bucket behind it."""

    server: ServerProcess
    bucket: Bucket
    client: TusClient


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    prefix = seaweed.prefix()
    bucket = Bucket(seaweed, prefix)
    folder = tmp_path_factory.mktemp("recovery")
    with ServerProcess(folder, seaweed, extra_env={"TUSD_S3_PREFIX": prefix}) as server:
        yield Site(server, bucket, TusClient(server.uploads_url))
    bucket.close()


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def start_patch(port: int, url: str, offset: int, data: bytes, timeout_s: float = 20.0) -> Wire:
    """Announces `data`, and sends the headers."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": str(offset),
        "Content-Length": str(len(data)),
    }
    wire = Wire(port, timeout_s=timeout_s)
    wire.send(request_head("PATCH", urlsplit(url).path, headers))
    return wire


def head_size(url: str, offset: int, data: bytes) -> int:
    """Bytes that `start_patch` sends before the body."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": str(offset),
        "Content-Length": str(len(data)),
    }
    return len(request_head("PATCH", urlsplit(url).path, headers))


def send_all(port: int, url: str, offset: int, data: bytes) -> Answer | None:
    """A whole PATCH over a network that may break; None when no answer came."""
    with start_patch(port, url, offset, data) as wire, suppress(OSError, ConnectionEnded):
        wire.send_until_refused(data[at : at + PIECE] for at in range(0, len(data), PIECE))
        return wire.answer()
    return None


# -- Content --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_one_patch_gives_the_object(site: Site, size: int) -> None:
    data = content(size)
    url = site.client.upload(data)
    assert site.client.offset(url) == size
    assert site.bucket.read(url) == data


@pytest.mark.parametrize("step", [333_667, 4 * MIB - 1, 5 * MIB + 3, 7 * MIB + 1])
@pytest.mark.parametrize("size", [5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 12 * MIB + 7])
def test_patches_that_never_align_give_the_object(site: Site, size: int, step: int) -> None:
    data = content(size, step)
    url = site.client.upload(data, chunk=step)
    assert site.bucket.read(url) == data


@pytest.mark.parametrize("seed", range(3))
def test_patches_of_random_sizes_give_the_object(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(12 * MIB + 7)
    url = site.client.create(len(data))
    offset = 0
    while offset < len(data):
        size = chance.choice([0, 1, 17, 65_537, chance.randrange(MIB), chance.randrange(6 * MIB)])
        piece = data[offset : offset + size]
        answer = site.client.patch(url, offset, piece)
        assert answer.status == 204, answer
        offset += len(piece)
        assert answer["Upload-Offset"] == str(offset)
        assert site.client.offset(url) == offset
    assert site.bucket.read(url) == data


# -- Cuts -----------------------------------------------------------------------------------------


def settled_offset(client: TusClient, url: str, *, floor: int, sent: int) -> int:
    """The offset once a broken request has been dealt with: all that was `sent`.

    Whenever it is asked, it is at most what was sent, and never goes back. An empty PATCH at the
    end waits for the request before it: its answer is the last word.
    """
    seen = floor

    def look() -> bool:
        nonlocal seen
        offset = client.offset(url)
        assert seen <= offset <= sent
        seen = offset
        return offset == sent

    poll(look)
    answer = client.patch(url, sent)
    assert answer.status == 204, answer
    return sent


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("seed", range(2))
def test_cuts_at_odd_bytes_keep_what_arrived(site: Site, seed: int, reset: bool) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(24 * MIB + 7)
    url = site.client.create(len(data))
    offset, cuts = 0, 0
    with Proxy(site.server.url) as proxy:
        while offset < len(data):
            rest = data[offset:]
            at = chance.choice([1, 4097, chance.randrange(MIB), chance.randrange(5 * MIB)])
            if at >= len(rest):
                break
            proxy.cut_after(head_size(url, offset, rest) + at, reset=reset)
            assert send_all(proxy.port, url, offset, rest) is None
            cuts += 1
            proxy.wait_for_faults(cuts)
            offset = settled_offset(site.client, url, floor=offset, sent=offset + at)
        answer = send_all(proxy.port, url, offset, data[offset:])
    assert answer is not None and answer.status == 204
    assert cuts > 5
    assert site.bucket.read(url) == data


def test_a_trickle_that_ends_keeps_every_byte(site: Site) -> None:
    data = content(300_000)
    url = site.client.create(len(data))
    sent = 0
    with start_patch(site.server.port, url, 0, data) as wire:
        for at in range(0, 200_000, 20_000):
            wire.send(data[at : at + 20_000])
            sent += 20_000
            time.sleep(0.02)  # a slow line: each piece is read by itself
        wire.close()
    assert settled_offset(site.client, url, floor=0, sent=sent) == sent
    assert site.client.patch(url, sent, data[sent:]).status == 204
    assert site.bucket.read(url) == data


@pytest.mark.parametrize("size", [1000, 5 * MIB, 12 * MIB + 7])
def test_a_lost_answer_loses_nothing(site: Site, size: int) -> None:
    data = content(size, 5)
    url = site.client.create(size)
    with Proxy(site.server.url) as proxy:
        proxy.cut_answer_after(0)
        assert send_all(proxy.port, url, 0, data) is None
        proxy.wait_for_faults(1)
    poll(lambda: site.client.offset(url) == size)
    assert site.bucket.read(url) == data
    assert site.client.patch(url, 0, data).status == 409


def test_a_new_request_takes_over_from_one_that_stalls(site: Site) -> None:
    """The network hangs without a word; the client comes back on another connection."""
    data = content(12 * MIB + 7, 6)
    url = site.client.create(len(data))
    sent = 6 * MIB + 11
    with Proxy(site.server.url) as proxy:
        proxy.stall_after(head_size(url, 0, data) + sent)
        sender = threading.Thread(target=send_all, args=(proxy.port, url, 0, data))
        sender.start()
        proxy.wait_for_faults(1)
        started = time.monotonic()
        offset = site.client.offset(url)
        answer = site.client.patch(url, offset, data[offset:])
        while answer.status in {409, 423}:  # what the first request had is kept: go on from there
            assert time.monotonic() < started + 10
            kept = site.client.offset(url)
            assert offset <= kept <= sent
            offset = kept
            answer = site.client.patch(url, offset, data[offset:])
        assert answer.status == 204, answer
        proxy.cut_now()
        sender.join(20)
    assert site.bucket.read(url) == data


# -- Kills ----------------------------------------------------------------------------------------


def offset_now(client: TusClient, url: str) -> int:
    """Upload-Offset, once HEAD tells it: 423 is "not now"; anything else loses the upload."""

    def look() -> Answer | None:
        answer = client.head(url)
        assert answer.status in {200, 423}, answer
        return answer if answer.status == 200 else None

    answer = poll(look, timeout_s=30)
    assert answer is not None
    return int(answer["Upload-Offset"])


def kill_after(server: ServerProcess, proxy: Proxy, faults: int) -> threading.Thread:
    """A thread that kills the server at the fault with this number."""

    def run() -> None:
        proxy.wait_for_faults(faults)
        server.kill()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_at_random_points(seaweed: Engine, tmp_path: Path, seed: int) -> None:
    """While bytes flow, and three times with the last byte, when the object is being made."""
    chance = random.Random(seed)
    data = chance.randbytes(24 * MIB + 7)
    prefix = seaweed.prefix()
    bucket = Bucket(seaweed, prefix)
    with (
        ServerProcess(tmp_path, seaweed, extra_env={"TUSD_S3_PREFIX": prefix}) as server,
        Proxy(server.url) as proxy,
    ):
        client = TusClient(server.uploads_url)
        url = client.create(len(data))
        offset = 0
        for kill in range(6):
            rest = data[offset:]
            at = chance.randrange(1, max(2, len(rest) // 2)) if kill < 3 else len(rest)
            proxy.mark_after(head_size(url, offset, rest) + at)
            killer = kill_after(server, proxy, kill + 1)
            answer = send_all(proxy.port, url, offset, rest)
            killer.join()
            server.start()
            before, offset = offset, offset_now(client, url)
            assert before <= offset <= len(data)
            if answer is not None:
                assert answer.status == 204 and offset == len(data)
            if offset == len(data):
                break
        if offset < len(data):
            assert client.patch(url, offset, data[offset:]).status == 204
        assert bucket.read(url) == data
        assert bucket.multiparts() == []
    bucket.close()


def unread(port: int) -> int:
    """Bytes that came for the server on this port and wait in the system (Linux tells)."""
    size = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, _, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port:
            size += int(queues.rpartition(":")[2], 16)
    return size


@pytest.mark.parametrize("sent", [3 * MIB + 5, 11 * MIB + 13])
def test_sigterm_in_mid_patch_ends_at_once_and_keeps_what_arrived(
    seaweed: Engine, tmp_path: Path, sent: int
) -> None:
    data = content(24 * MIB, 8)
    prefix = seaweed.prefix()
    bucket = Bucket(seaweed, prefix)
    with ServerProcess(tmp_path, seaweed, extra_env={"TUSD_S3_PREFIX": prefix}) as server:
        client = TusClient(server.uploads_url)
        url = client.create(len(data))
        with start_patch(server.port, url, 0, data) as wire:
            wire.send(data[:sent])
            # Parts are in the ledger while the body is read; the rest is in memory.
            whole_parts = sent // (5 * MIB) * 5 * MIB
            poll(lambda: client.offset(url) >= whole_parts and not unread(server.port))
            started = time.monotonic()
            assert server.terminate() == 0
            assert time.monotonic() - started < STOP_S
            answer = wire.answer()
            assert answer.status == 503 and "Retry-After" in answer
        server.start()
        offset = client.offset(url)
        assert max(whole_parts, sent - LAST_READ) <= offset <= sent
        assert client.patch(url, offset, data[offset:]).status == 204
        assert bucket.read(url) == data
    bucket.close()


def test_sigterm_is_not_held_up_by_a_slow_line(seaweed: Engine, tmp_path: Path) -> None:
    """Requests that trickle or stand still must not make a deployment wait."""
    data = content(2 * MIB, 9)
    with ServerProcess(tmp_path, seaweed, extra_env={"TUSD_S3_PREFIX": seaweed.prefix()}) as server:
        client = TusClient(server.uploads_url)
        urls = [client.create(len(data)) for _ in range(5)]
        wires = [start_patch(server.port, url, 0, data) for url in urls]
        for wire in wires:
            wire.send(data[:100_000])
        poll(lambda: not unread(server.port))
        started = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - started < STOP_S
        for wire in wires:
            wire.close()
        server.start()
        for url in urls:
            assert client.offset(url) <= 100_000


# -- Big ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_big_upload_with_everything_that_can_happen(seaweed: Engine, tmp_path: Path) -> None:
    """TUSD_TEST_BIG_MIB: its size. Killed at a quarter, cut at a half, answer lost at the end."""
    data = content(BIG, 10)
    prefix = seaweed.prefix()
    bucket = Bucket(seaweed, prefix)
    with (
        ServerProcess(tmp_path, seaweed, extra_env={"TUSD_S3_PREFIX": prefix}) as server,
        Proxy(server.url) as proxy,
    ):
        client = TusClient(server.uploads_url)
        url = client.create(BIG)
        proxy.mark_after(BIG // 4)
        killer = kill_after(server, proxy, 1)
        assert send_all(proxy.port, url, 0, data) is None
        killer.join()
        server.start()
        offset = offset_now(client, url)
        proxy.cut_after(BIG // 4, reset=True)
        assert send_all(proxy.port, url, offset, data[offset:]) is None
        kept = offset_now(client, url)
        assert offset <= kept < BIG
        proxy.cut_answer_after(0)
        while kept < BIG:
            send_all(proxy.port, url, kept, data[kept:])
            kept = offset_now(client, url)
        assert bucket.read(url) == data
    bucket.close()
