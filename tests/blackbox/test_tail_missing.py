"""`tus_tail_missing`: two servers, one database, one bucket, two disks.

A PATCH that reaches the node without the tail is refused, changes nothing, and the upload goes on
where the tail is.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.pairs import DATA, LENGTH, Pair, create, offset, pair_of_servers, patch
from tests.support.process import ServerProcess
from tests.support.tus import Bucket
from tests.support.wire import Answer
from tusd_storage.partplan import MIB
from tusd_storage.tail import tail_path

# What the upload has when the wrong node is asked: before the first part, after one, at an exact
# part boundary, just before and behind it, after two.
OFFSETS = [1, 1 * MIB, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 6 * MIB, 10 * MIB, 11 * MIB]


@pytest.fixture(scope="module")
def pair(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    nodes = {"TUSD_NODE": "a"}, {"TUSD_NODE": "b"}
    with pair_of_servers(tmp_path_factory.mktemp("pair"), seaweed, *nodes) as made:
        yield made


def content(server: ServerProcess, path: str, engine: Engine) -> bytes | None:
    with closing(Bucket(engine, server.extra_env["TUSD_S3_PREFIX"])) as bucket:
        return bucket.read(path)


def tail_of(server: ServerProcess, path: str) -> Path:
    return tail_path(path.rpartition("/")[2], root=server.tmp_dir)


def assert_missing(answer: Answer, server: ServerProcess, reason: str) -> None:
    assert answer.status == 503
    assert json.loads(answer.body)["code"] == "tus_tail_missing"
    assert int(answer["Retry-After"]) > 0
    text = answer.body.decode() + str(answer.headers)
    assert str(server.tmp_dir) not in text
    assert '"a"' not in text
    assert '"b"' not in text
    server.wait_for_log("tus_tail_missing")
    assert reason in server.log()


@pytest.mark.parametrize("at", OFFSETS)
def test_the_other_node_refuses_and_home_goes_on(pair: Pair, seaweed: Engine, at: int) -> None:
    path = create(pair.a)
    assert patch(pair.a, path, 0, at).status == 204
    assert_missing(patch(pair.b, path, at, LENGTH), pair.b, "other_node")
    assert offset(pair.a, path) == offset(pair.b, path) == at
    assert patch(pair.a, path, at, LENGTH).status == 204
    assert content(pair.a, path, seaweed) == DATA


@pytest.mark.parametrize("first", ["a", "b"])
def test_the_first_patch_may_reach_any_node(pair: Pair, seaweed: Engine, first: str) -> None:
    path = create(pair.a)
    home = pair.a if first == "a" else pair.b
    assert patch(home, path, 0, 3 * MIB).status == 204
    assert patch(home, path, 3 * MIB, LENGTH).status == 204
    assert content(home, path, seaweed) == DATA


def test_a_copy_of_the_tail_on_another_node_is_never_appended_to(
    pair: Pair, seaweed: Engine
) -> None:
    path = create(pair.a)
    assert patch(pair.a, path, 0, 2 * MIB).status == 204
    shutil.copy(tail_of(pair.a, path), tail_of(pair.b, path))
    assert_missing(patch(pair.b, path, 2 * MIB, LENGTH), pair.b, "other_node")
    assert tail_of(pair.b, path).read_bytes() == DATA[: 2 * MIB]
    assert patch(pair.a, path, 2 * MIB, LENGTH).status == 204
    assert content(pair.a, path, seaweed) == DATA


@pytest.mark.parametrize("at", [1 * MIB, 5 * MIB, 6 * MIB])
def test_a_tail_that_is_gone(pair: Pair, seaweed: Engine, at: int) -> None:
    path = create(pair.a)
    assert patch(pair.a, path, 0, at).status == 204
    kept = tail_of(pair.a, path).rename(pair.a.tmp_dir / "kept")
    assert_missing(patch(pair.a, path, at, LENGTH), pair.a, "absent")
    assert offset(pair.a, path) == at
    kept.rename(tail_of(pair.a, path))
    assert patch(pair.a, path, at, LENGTH).status == 204
    assert content(pair.a, path, seaweed) == DATA


def test_an_older_tail_of_the_same_node(pair: Pair, seaweed: Engine) -> None:
    path = create(pair.a)
    tail = tail_of(pair.a, path)
    assert patch(pair.a, path, 0, 1 * MIB).status == 204
    stale = tail.read_bytes()
    assert patch(pair.a, path, 1 * MIB, 2 * MIB).status == 204
    fresh = tail.read_bytes()
    tail.write_bytes(stale)
    assert_missing(patch(pair.a, path, 2 * MIB, LENGTH), pair.a, "short")
    tail.write_bytes(fresh)
    assert patch(pair.a, path, 2 * MIB, LENGTH).status == 204
    assert content(pair.a, path, seaweed) == DATA


@pytest.mark.parametrize("position", [0, 1 * MIB, 2 * MIB - 1])
def test_a_damaged_tail(pair: Pair, seaweed: Engine, position: int) -> None:
    path = create(pair.a)
    tail = tail_of(pair.a, path)
    assert patch(pair.a, path, 0, 2 * MIB).status == 204
    good = tail.read_bytes()
    tail.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
    assert_missing(patch(pair.a, path, 2 * MIB, LENGTH), pair.a, "damaged")
    tail.write_bytes(good)
    assert patch(pair.a, path, 2 * MIB, LENGTH).status == 204
    assert content(pair.a, path, seaweed) == DATA


def test_the_residue_of_a_crash_is_cut_back(pair: Pair, seaweed: Engine) -> None:
    path = create(pair.a)
    assert patch(pair.a, path, 0, 2 * MIB).status == 204
    with tail_of(pair.a, path).open("ab") as file:
        file.write(b"written, but never acknowledged")
    assert patch(pair.a, path, 2 * MIB, 3 * MIB).status == 204
    assert tail_of(pair.a, path).read_bytes() == DATA[: 3 * MIB]
    assert patch(pair.a, path, 3 * MIB, LENGTH).status == 204
    assert content(pair.a, path, seaweed) == DATA


def test_nothing_is_left_on_disk_after_the_last_byte(pair: Pair) -> None:
    path = create(pair.a)
    assert patch(pair.a, path, 0, 6 * MIB).status == 204
    assert tail_of(pair.a, path).exists()
    assert patch(pair.a, path, 6 * MIB, LENGTH).status == 204
    assert not tail_of(pair.a, path).exists()
