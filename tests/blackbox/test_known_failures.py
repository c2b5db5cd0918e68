"""How resumable-upload servers with S3 storage lose or corrupt files under a single fault.

Each was reproduced on a widely used server; each is a test here, against the real server process, a
real S3 engine, and a proxy between them that makes the store fail. `docs/durability.md` tells how
each fails when its protection is taken out of the server.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.support.engines import Engine
from tests.support.fake_s3 import Answer, Call, FakeS3, Hang, fake_s3
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, TusClient, poll
from tests.support.wire import Wire, request_head

MIB = 1024 * 1024
PART = 5 * MIB

DOWN = Answer(500, "InternalError")


@dataclass
class Proxied:
    """The engine as the server sees it: through a proxy that can fail."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str


@dataclass
class Setup:
    server: ServerProcess
    client: TusClient
    bucket: Bucket
    store: FakeS3

    def multiparts(self) -> list[str]:
        return self.bucket.multiparts()


@pytest.fixture(scope="module")
def started(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with fake_s3(seaweed.endpoint) as store:
        proxied = Proxied(store.endpoint, seaweed.access_key, seaweed.secret_key, seaweed.bucket)
        prefix = seaweed.prefix()
        extra = {
            "TUSD_S3_PREFIX": prefix,
            "TUSD_S3_DEADLINE_S": "1",
            "TUSD_MAX_PARTS": "100",
        }
        folder = tmp_path_factory.mktemp("server")
        with ServerProcess(folder, proxied, extra_env=extra) as server:
            bucket = Bucket(seaweed, prefix)
            yield Setup(server, TusClient(server.uploads_url), bucket, store)
            bucket.close()


@pytest.fixture
def it(started: Setup) -> Iterator[Setup]:
    yield started
    started.store.heal()
    if not started.server.alive():
        started.server.start()


def resume(it: Setup, url: str, data: bytes) -> None:
    """What a client does after an error: HEAD until it answers, then the rest."""
    offset = poll(lambda: _offset(it, url), timeout_s=30) - 1
    if offset < len(data):
        answer = it.client.patch(url, offset, data[offset:])
        assert answer.status == 204, answer
    assert it.client.offset(url) == len(data)
    assert it.bucket.read(url) == data


def _offset(it: Setup, url: str) -> int:
    """Offset + 1, or 0 while the server says "not now"."""
    answer = it.client.head(url)
    assert answer.status in {200, 423}, answer
    return int(answer["Upload-Offset"]) + 1 if answer.status == 200 else 0


def test_01_a_failed_part_in_the_middle_does_not_shift_what_follows(it: Setup) -> None:
    data = os.urandom(5 * PART + 17)
    url = it.client.create(len(data))
    seen = it.store.seen["UploadPart"]
    it.store.fail("UploadPart 2", *[DOWN] * 500)
    assert it.client.patch(url, 0, data).status >= 500
    it.store.heal()
    assert it.store.seen["UploadPart"] >= seen + 4  # others behind it did land
    assert it.client.offset(url) <= 2 * PART  # one part, and what the tail can hold behind it
    resume(it, url, data)


@pytest.mark.parametrize("fault", ["500", "kill -9"])
def test_02_the_remainder_is_kept_until_its_bytes_are_stored_again(it: Setup, fault: str) -> None:
    data = os.urandom(2 * PART + 17)
    url = it.client.create(len(data))
    assert it.client.patch(url, 0, data[: PART - 1]).status == 204
    if fault == "500":
        it.store.fail("UploadPart", *[DOWN] * 10)
        assert it.client.patch(url, PART - 1, data[PART - 1 : PART + 1]).status >= 500
        it.store.heal()
    else:
        it.store.fail("UploadPart", Hang())
        seen = it.store.seen["UploadPart"]
        thread = _patch_in_background(it, url, PART - 1, data[PART - 1 : PART + 1])
        poll(lambda: it.store.seen["UploadPart"] > seen)
        it.server.kill()
        thread.join()
        it.store.heal()
        it.server.start()
    assert it.client.offset(url) >= PART - 1
    resume(it, url, data)


def test_03_killed_before_complete_is_not_100_percent(it: Setup) -> None:
    data = os.urandom(PART + 17)
    url = it.client.create(len(data))
    it.store.fail("CompleteMultipartUpload", Hang())
    seen = it.store.seen["CompleteMultipartUpload"]
    thread = _patch_in_background(it, url, 0, data)
    poll(lambda: it.store.seen["CompleteMultipartUpload"] > seen)
    it.server.kill()
    thread.join()
    assert it.bucket.read(url) is None
    it.store.heal()
    it.store.fail("CompleteMultipartUpload", *[DOWN] * 3)
    it.server.start()
    assert it.client.head(url).status == 423  # every byte is here, but the object is not
    it.store.heal()
    resume(it, url, data)


def test_04_clients_that_trickle_hold_no_slots(it: Setup) -> None:
    connections = []
    for _ in range(40):
        url = it.client.create(2 * PART)
        wire = Wire(it.server.port)
        wire.send(_head_of_patch(url, 2 * PART), os.urandom(1000))
        connections.append(wire)
    data = os.urandom(4 * PART)
    assert it.bucket.read(it.client.upload(data)) == data
    for wire in connections:
        wire.close()


@pytest.mark.parametrize(
    "crafted", ["other", "../other", "..%2Fother", "other+upload", "x/../other", "."]
)
def test_05_a_crafted_id_removes_nothing(it: Setup, crafted: str) -> None:
    it.bucket.put("other", b"not an upload")
    answer = it.client.request("DELETE", urlsplit(it.client.endpoint).path + crafted)
    assert "other" in list(it.bucket.keys())
    assert answer.status in {400, 404, 405}, answer


def test_06_small_chunks_never_reach_the_last_part_number(it: Setup) -> None:
    # A store with 100 parts, as with 10,000: the size of the parts follows from the length, not
    # from the chunks, so that chunks of any size fill whole parts.
    length = 110 * PART
    url = it.client.create(length)
    with sqlite3.connect(it.server.data_dir / "tusd.sqlite3") as state:
        (part_size,) = state.execute(
            "SELECT part_size FROM upload_sessions WHERE id = ?", (url.rpartition("/")[2],)
        ).fetchone()
    state.close()
    assert part_size * 100 >= length
    data = os.urandom(3 * part_size)
    step = 4 * MIB + 11
    for start in range(0, len(data), step):
        assert it.client.patch(url, start, data[start : start + step]).status == 204
    with sqlite3.connect(it.server.data_dir / "tusd.sqlite3") as state:
        sizes = state.execute(
            "SELECT size FROM upload_parts WHERE session_id = ?", (url.rpartition("/")[2],)
        ).fetchall()
    state.close()
    assert {size for (size,) in sizes} == {part_size}
    it.client.delete(url)


def test_07_a_multipart_upload_that_is_gone_is_not_complete(it: Setup, seaweed: Engine) -> None:
    data = os.urandom(2 * PART + 17)
    url = it.client.create(len(data))
    assert it.client.patch(url, 0, data[: PART + 1]).status == 204
    abort_behind_its_back(it, seaweed, url)
    assert it.client.patch(url, PART + 1, data[PART + 1 :]).status == 410
    assert it.client.head(url).status == 410
    terminated = it.client.create(len(data))
    assert it.client.patch(terminated, 0, data[: PART + 1]).status == 204
    assert it.client.delete(terminated).status == 204
    assert it.client.head(terminated).status == 410


def test_07_nor_is_one_that_goes_before_complete(it: Setup, seaweed: Engine) -> None:
    data = os.urandom(PART + 17)
    url = it.client.create(len(data))
    abort = Call(lambda: abort_behind_its_back(it, seaweed, url))
    it.store.fail("CompleteMultipartUpload", abort)
    assert it.client.patch(url, 0, data).status >= 500  # the answer was lost: it may be there
    assert it.client.head(url).status == 410
    assert it.bucket.read(url) is None


def abort_behind_its_back(it: Setup, seaweed: Engine, url: str) -> None:
    client = seaweed.session().client("s3", endpoint_url=seaweed.endpoint)
    for entry in client.list_multipart_uploads(Bucket=seaweed.bucket)["Uploads"]:
        if entry["Key"] == it.bucket.key(url):
            client.abort_multipart_upload(
                Bucket=seaweed.bucket, Key=entry["Key"], UploadId=entry["UploadId"]
            )
    client.close()


def test_08_an_empty_upload_creates_its_object(it: Setup) -> None:
    assert it.bucket.read(it.client.create(0)) == b""


def test_09_a_dropped_connection_keeps_what_arrived(it: Setup) -> None:
    data = os.urandom(2 * PART)
    url = it.client.create(len(data))
    sent = PART + 300_001
    with Wire(it.server.port) as wire:
        wire.send_cut(_head_of_patch(url, len(data)) + data, _head_size(url, len(data)) + sent)
    assert poll(lambda: it.client.offset(url) == sent)
    resume(it, url, data)


def test_10_two_writers_never_interleave(it: Setup) -> None:
    ours, theirs = os.urandom(2 * PART), os.urandom(2 * PART)
    url = it.client.create(2 * PART)
    slow = Wire(it.server.port)
    slow.send(_head_of_patch(url, 2 * PART), ours[: PART + 1000])
    poll(lambda: it.client.offset(url) >= PART)
    it.client.patch(url, it.client.offset(url), b"")  # the newest request wins
    offset = it.client.offset(url)
    answers: list[int] = []

    def body() -> Iterator[bytes]:
        yield theirs[offset : offset + 1000]
        with suppress(OSError):
            slow.send(ours[PART + 1000 :])
        with suppress(OSError, EOFError):
            answers.append(slow.answer(to="PATCH").status)
        yield theirs[offset + 1000 :]

    answer = it.client.patch(url, offset, body())
    slow.close()
    assert it.bucket.read(url) == ours[:offset] + theirs[offset:]
    assert answer.status == 204
    assert 204 not in answers


@pytest.mark.parametrize("when", ["after the answer", "before the commit"])
def test_11_what_the_application_is_told_survives_the_process(it: Setup, when: str) -> None:
    # Whatever is to be told is in the database, once, with the completion.
    data = os.urandom(PART + 17)
    if when == "after the answer":
        url = it.client.upload(data)
        it.server.kill()
        assert len(promotions(it, url)) == 1
        it.server.start()
    else:
        url = it.client.create(len(data))
        killed = threading.Event()

        def kill() -> None:
            it.server.kill()
            killed.set()

        it.store.fail("CompleteMultipartUpload", Call(kill, executed=True))
        _patch_in_background(it, url, 0, data).join()
        assert killed.wait(20)
        assert promotions(it, url) == []
        it.server.start()
    assert it.client.offset(url) == len(data)
    jobs = promotions(it, url)
    assert len(jobs) == 1
    it.server.restart()
    assert it.client.offset(url) == len(data)
    assert promotions(it, url) == jobs


def promotions(it: Setup, url: str) -> list[tuple[str]]:
    with sqlite3.connect(it.server.data_dir / "tusd.sqlite3") as state:
        rows: list[tuple[str]] = state.execute(
            "SELECT j.id FROM jobs j JOIN upload_sessions s ON s.asset_id = j.subject"
            " WHERE s.id = ? AND j.kind = 'promote_asset'",
            (url.rpartition("/")[2],),
        ).fetchall()
    state.close()
    return rows


@pytest.mark.parametrize("bad", [{"Tus-Resumable": "0.2.2"}, {"Content-Type": "text/plain"}])
def test_12_a_refused_request_has_stored_nothing(it: Setup, bad: dict[str, str]) -> None:
    data = os.urandom(2 * PART)
    url = it.client.create(len(data))
    before = it.store.seen.copy()
    assert it.client.patch(url, 0, data, bad).status in {412, 415}
    assert it.client.offset(url) == 0
    assert it.store.seen == before
    assert it.bucket.key(url).removeprefix(it.bucket.prefix) not in it.multiparts()


def _head_of_patch(url: str, length: int) -> bytes:
    return request_head(
        "PATCH",
        urlsplit(url).path,
        [
            ("Host", "x"),
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Offset", "0"),
            ("Content-Type", "application/offset+octet-stream"),
            ("Content-Length", str(length)),
        ],
    )


def _head_size(url: str, length: int) -> int:
    return len(_head_of_patch(url, length))


def _patch_in_background(it: Setup, url: str, offset: int, data: bytes) -> threading.Thread:
    def patch() -> None:
        try:
            it.client.patch(url, offset, data)
        except OSError:
            return  # the server was killed

    thread = threading.Thread(target=patch)
    thread.start()
    return thread
