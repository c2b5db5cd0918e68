"""Micro-benchmarks of what every upload passes through, each alone: make bench-micro.

Absolute figures are this machine's; compare two trees on one machine, or one row with another.
"""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from isal import isal_zlib
from pytest_benchmark.fixture import BenchmarkFixture

from tests.support.harness import create_request
from tusd_py.protocol import metadata
from tusd_py.protocol.requests import parse_patch
from tusd_py.uploads.completion import combine_crc32
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import new_upload
from tusd_py.uploads.memory import SLAB_SIZE, MemoryBudget, PartBuffer
from tusd_py.uploads.slicer import Slicer
from tusd_storage.partplan import MIB, PartPlan
from tusd_storage.records import Append, Asset, Part, SessionState, UploadSession
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.sql.rows import SESSION

PART = 5 * MIB
CHUNK = os.urandom(64 * 1024)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def fresh(length: int | None) -> tuple[UploadSession, Asset | None]:
    """The rows of a creation."""
    config = UploadConfig(bucket="bucket", node="node")
    return new_upload(create_request(length), config, owner=None, length=length, now=NOW)


def test_slicer_one_part_in_64_kib(benchmark: BenchmarkFixture) -> None:
    plan = PartPlan(part_size=PART)

    def cut() -> int:
        slicer = Slicer(plan, number=1, filled=0, offset=0, length=None)
        return sum(len(cut.data) for _ in range(PART // len(CHUNK)) for cut in slicer.feed(CHUNK))

    assert benchmark(cut) == PART


def test_buffer_one_part_through_slabs(benchmark: BenchmarkFixture) -> None:
    budget = MemoryBudget(64 * MIB)

    def fill() -> int:
        buffer = PartBuffer(budget, prefix=None, crc32=0)
        while buffer.size < PART:
            room = buffer.room(0.0)
            buffer.fill(min(len(room), 256 * 1024))
        crc32 = buffer.crc32
        buffer.close()
        return crc32

    async def run() -> None:  # slabs are given back to a running loop
        benchmark(fill)

    asyncio.run(run())
    assert budget.used == 0


def test_crc32_of_a_slab(benchmark: BenchmarkFixture) -> None:
    slab = memoryview(bytearray(SLAB_SIZE))
    benchmark(isal_zlib.crc32, slab)


def test_crc32_of_10_000_parts_composed(benchmark: BenchmarkFixture) -> None:
    pieces = [(number, PART) for number in range(10_000)]
    benchmark(combine_crc32, pieces)


def test_metadata(benchmark: BenchmarkFixture) -> None:
    text = "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,filetype YXBwbGljYXRpb24vcGRm,draft"
    assert len(benchmark(metadata.parse, text)) == 3


def test_patch_headers(benchmark: BenchmarkFixture) -> None:
    headers = {
        "tus-resumable": "1.0.0",
        "upload-offset": "123456789",
        "content-length": "262144",
        "content-type": "application/offset+octet-stream",
    }
    assert benchmark(parse_patch, headers).offset == 123_456_789


def test_row_to_record(benchmark: BenchmarkFixture) -> None:
    session, _ = fresh(PART)
    row = list(SESSION.params(session).values())
    assert benchmark(SESSION.read, row).length == PART


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of its own: the store's calls are awaited from a function that is not."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_ledger_append(
    benchmark: BenchmarkFixture,
    loop: asyncio.AbstractEventLoop,
    tmp_path: Path,
    synchronous: str,
) -> None:
    """One commit point on SQLite: a part, and the offset behind it; flushed with FULL."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate(url)
    store = SqlStore.connect(url, synchronous=synchronous)  # type: ignore[arg-type]
    session, asset = fresh(None)
    loop.run_until_complete(store.create(session, asset))
    number = 0

    def append() -> None:
        nonlocal number
        number += 1
        commit = Append(
            id=session.id,
            epoch=0,
            from_offset=(number - 1) * PART,
            to_offset=number * PART,
            parts=(Part(number=number, size=PART, etag=f'"{number}"', crc32=number),),
            parts_crc32=number,
            tail_node="node",
            tail_crc32=0,
            length=None,
            state=SessionState.UPLOADING,
            expires_at=NOW + timedelta(days=1),
            now=NOW,
            release=False,
        )
        loop.run_until_complete(store.append(commit))

    benchmark(append)
    loop.run_until_complete(store.aclose())
