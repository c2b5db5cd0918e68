"""Idempotent creation from outside: on one node, on two at once, over a restart."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.blackbox.conftest import Site, open_site
from tests.support.engines import Engine
from tests.support.node import NodeProgram, require_node
from tests.support.process import ServerProcess
from tests.support.state import Database
from tests.support.tus import Bucket, TusClient, metadata, poll
from tests.support.wire import Answer, Wire, request_head
from tusd_storage.partplan import MIB

DATA = random.Random(4).randbytes(6 * MIB + 3)
SENT = 5 * MIB + 99
MEDIA = {"Content-Type": "application/offset+octet-stream"}


def long(key: str) -> str:
    """A key that nobody guesses: there are no owners here."""
    return f"{key}-0f8fad5b-d9cb-469f"


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"TUSD_IDEMPOTENCY_METADATA": "fingerprint", "TUSD_EXPIRES_IN": "4s"}
    yield from open_site(seaweed, tmp_path_factory, settings)


def create(
    site: Site, key: str | None, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Answer:
    named = None if key is None else long(key)
    given = {"Upload-Length": str(len(DATA)), "Idempotency-Key": named} | dict(headers or {})
    return site.tus.post(given, body)


def code(answer: Answer) -> str:
    return str(json.loads(answer.body)["code"])


def test_the_same_key_gives_the_same_upload_where_it_is(site: Site) -> None:
    first = create(site, "k1")
    assert first.status == 201 and "Upload-Offset" not in first
    url = site.tus.location(first)
    assert site.tus.patch(url, 0, DATA[: 2 * MIB]).status == 204
    again = create(site, "k1")
    assert (again.status, again["Location"]) == (201, first["Location"])
    assert again["Upload-Offset"] == str(2 * MIB) and "Upload-Expires" in again
    assert site.tus.patch(url, 2 * MIB, DATA[2 * MIB :]).status == 204
    done = create(site, "k1")
    assert (done["Location"], done["Upload-Offset"]) == (first["Location"], str(len(DATA)))
    assert site.bucket.read(url) == DATA
    assert create(site, "k2")["Location"] != first["Location"]
    assert create(site, None)["Location"] != create(site, None)["Location"]


def test_a_key_is_for_one_request(site: Site) -> None:
    create(site, "k3")
    for headers in (
        {"Upload-Length": "7"},
        {"Upload-Metadata": metadata({"filename": "other"})},
    ):
        answer = create(site, "k3", headers)
        assert (answer.status, code(answer)) == (422, "idempotency_key_reused")
    deferred = site.tus.post({"Upload-Defer-Length": "1", "Idempotency-Key": long("k3")})
    assert deferred.status == 422


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "order-17", "x" * 15])
def test_keys_are_checked(site: Site, key: str) -> None:
    """A short one, too: without owners another client could choose or guess it."""
    answer = create(site, None, {"Idempotency-Key": key})
    assert (answer.status, code(answer)) == (400, "invalid_header")


def test_the_second_sender_of_a_body_goes_on_and_nothing_is_doubled(site: Site) -> None:
    head = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(DATA)),
        "Content-Length": str(len(DATA)),
        "Idempotency-Key": long("k4"),
    } | MEDIA
    with Wire(site.server.port) as wire:  # the first one's connection breaks in the middle
        wire.send(request_head("POST", site.path, head), DATA[:SENT])
        poll(site.bucket.multiparts)  # its first part is full
    again = poll(lambda: arrived(create(site, "k4", body=DATA)))
    url = site.tus.location(again)
    assert 0 < int(again["Upload-Offset"]) <= SENT
    offset = poll(lambda: site.tus.offset(url) == SENT and SENT)  # its tail is committed last
    assert site.tus.patch(url, offset, DATA[offset:]).status == 204
    assert site.bucket.read(url) == DATA
    last = create(site, "k4", body=DATA)
    assert (last["Location"], last["Upload-Offset"]) == (again["Location"], str(len(DATA)))


def arrived(answer: Answer) -> Answer | None:
    """The answer, once what the broken connection brought is committed."""
    return answer if answer.status == 201 and answer["Upload-Offset"] != "0" else None


def test_what_was_terminated_or_has_expired_is_made_anew(site: Site) -> None:
    first = create(site, "k5")
    assert site.tus.delete(site.tus.location(first)).status == 204
    second = create(site, "k5")
    assert second.status == 201 and second["Location"] != first["Location"]
    url = site.tus.location(second)
    poll(lambda: site.tus.head(url).status == 410, timeout_s=20)
    third = create(site, "k5")
    assert third.status == 201 and third["Location"] not in {second["Location"], first["Location"]}
    assert site.tus.offset(site.tus.location(third)) == 0


def test_a_fingerprint_is_no_key_where_nobody_owns_anything(site: Site) -> None:
    """Two people may have the same file."""
    same = {"Upload-Metadata": metadata({"fingerprint": "abc", "filename": "a"})}
    one, two = create(site, None, same), create(site, None, same)
    assert one["Location"] != two["Location"]


def test_parallel_parts_of_equal_length_stay_apart(site: Site, tmp_path: Path) -> None:
    """tus-js-client sends its headers with every part, and with the final upload."""
    require_node()
    file = tmp_path / "film.bin"
    file.write_bytes(DATA[: 6 * MIB])
    options = {
        "file": str(file),
        "endpoint": site.server.uploads_url,
        "parallelUploads": 3,
        "headers": {"Idempotency-Key": long("k6")},
    }
    with NodeProgram("upload.mjs", options) as program:
        url = program.wait_for("success")["url"]
        program.finish()
    assert site.bucket.read(url) == DATA[: 6 * MIB]


def test_tus_js_client_that_starts_again_goes_on(site: Site, tmp_path: Path) -> None:
    """It remembers nothing, and says only what file it is."""
    require_node()
    url = site.tus.location(create(site, "k7"))
    assert site.tus.patch(url, 0, DATA[: 5 * MIB]).status == 204
    file = tmp_path / "film.bin"
    file.write_bytes(DATA)
    options = {
        "file": str(file),
        "endpoint": site.server.uploads_url,
        "retryDelays": [50, 100],
        "headers": {"Idempotency-Key": long("k7")},
    }
    with NodeProgram("upload.mjs", options) as program:
        assert program.wait_for("success")["url"] == url
        program.finish()
        sent = [event["offset"] for event in program.requests("PATCH")]
    assert sent[-1] == 5 * MIB
    assert site.bucket.read(url) == DATA


# -- Two nodes


@pytest.fixture
def nodes(
    seaweed: Engine, database: Database, tmp_path: Path
) -> Iterator[tuple[list[ServerProcess], Bucket]]:
    """Two servers on one database, SQLite and PostgreSQL in turn."""
    prefix = seaweed.prefix()
    environment = {"TUSD_S3_PREFIX": prefix}
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                ServerProcess(
                    tmp_path / name, seaweed, database_url=database.url, extra_env=environment
                )
            )
            for name in ("a", "b")
        ]
        bucket = Bucket(seaweed, prefix)
        stack.callback(bucket.close)
        yield running, bucket


def at_once(count: int, work: Callable[[int], Answer]) -> list[Answer]:
    """Answers of as many threads that start together."""
    barrier = threading.Barrier(count)
    answers: list[Answer] = []

    def run(n: int) -> None:
        barrier.wait()
        answers.append(work(n))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == count
    return answers


def test_equal_creations_on_two_nodes_at_once_make_one_upload(
    nodes: tuple[list[ServerProcess], Bucket],
) -> None:
    servers, bucket = nodes
    clients = [TusClient(server.uploads_url) for server in servers]
    for attempt in range(8):
        headers = {"Upload-Length": "9", "Idempotency-Key": long(f"k{attempt}")}
        made = at_once(8, lambda n: clients[n % 2].post(headers))  # noqa: B023
        assert {answer.status for answer in made} == {201}, made
        assert len({answer["Location"] for answer in made}) == 1
    headers = {"Upload-Length": "9", "Idempotency-Key": long("body")}
    made = at_once(6, lambda n: clients[n % 2].post(headers, b"123456789"))
    locations = {answer["Location"] for answer in made if answer.status == 201}
    assert len(locations) == 1
    assert {answer.status for answer in made} <= {201, 423}
    assert {answer.get("Upload-Offset") for answer in made if answer.status == 201} <= {"0", "9"}
    url = clients[0].location(next(answer for answer in made if answer.status == 201))
    poll(lambda: clients[0].head(url).status == 200)
    assert bucket.read(url) == b"123456789"
    assert len(bucket.keys()) == 1


def test_a_key_outlives_the_server(nodes: tuple[list[ServerProcess], Bucket]) -> None:
    servers, _ = nodes
    headers = {"Upload-Length": "9", "Idempotency-Key": long("k")}
    first = TusClient(servers[0].uploads_url).post(headers)
    servers[0].restart()
    for server in servers:
        again = TusClient(server.uploads_url).post(headers)
        assert (again.status, again["Location"]) == (201, first["Location"])
