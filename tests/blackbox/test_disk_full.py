"""A full disk for tails: 507, nothing acknowledged is lost, and all goes on once there is room."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.machine import Disk, Impossible, mounted_disk
from tests.support.engines import Engine
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, TusClient
from tusd_storage.partplan import MIB

DATA = os.urandom(9 * MIB + 1)


@dataclass
class Small:
    """A server whose tails lie on a disk of 24 MiB."""

    server: ServerProcess
    disk: Disk
    tus: TusClient


@pytest.fixture
def small(seaweed: Engine, tmp_path: Path) -> Iterator[Small]:
    try:
        with (
            mounted_disk(tmp_path / "disk", 24 * MIB) as disk,
            ServerProcess(
                tmp_path / "server",
                seaweed,
                extra_env={
                    "TUSD_S3_PREFIX": seaweed.prefix(),
                    "TUSD_TMP_DIR": str(disk.folder / "tmp"),
                },
            ) as server,
        ):
            yield Small(server, disk, TusClient(server.uploads_url))
    except Impossible as why:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            raise
        pytest.skip(str(why))


def test_a_full_disk_is_507_and_no_acknowledged_byte_is_lost(small: Small, seaweed: Engine) -> None:
    url = small.tus.create(len(DATA))
    assert small.tus.patch(url, 0, DATA[: 2 * MIB]).status == 204
    small.disk.fill(64 * 1024)
    answer = small.tus.patch(url, 2 * MIB, DATA[2 * MIB : 4 * MIB])
    assert answer.status == 507
    assert json.loads(answer.body)["code"] == "disk_full"
    assert int(answer["Retry-After"]) > 0
    assert str(small.disk.folder) not in answer.body.decode()
    assert small.tus.offset(url) == 2 * MIB
    small.disk.free()
    assert small.tus.patch(url, 2 * MIB, DATA[2 * MIB :]).status == 204
    with closing(Bucket(seaweed, small.server.extra_env["TUSD_S3_PREFIX"])) as bucket:
        assert bucket.read(url) == DATA


def test_with_a_full_disk_whole_parts_still_go_to_the_store(small: Small, seaweed: Engine) -> None:
    """What needs no tail needs no disk: the rest is refused, the parts are acknowledged."""
    url = small.tus.create(len(DATA))
    assert small.tus.patch(url, 0, DATA[:1]).status == 204
    small.disk.fill(16 * 1024)
    answer = small.tus.patch(url, 1, DATA[1 : 8 * MIB])
    assert answer.status == 507
    assert small.tus.offset(url) == 5 * MIB
    small.disk.free()
    assert small.tus.patch(url, 5 * MIB, DATA[5 * MIB :]).status == 204
    with closing(Bucket(seaweed, small.server.extra_env["TUSD_S3_PREFIX"])) as bucket:
        assert bucket.read(url) == DATA
