"""Requests of one upload that follow at once share a lease, and none waits for itself."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.harness import Node, node
from tests.support.memory_store import MemoryStore
from tusd_storage.errors import TailMissing
from tusd_storage.partplan import MIB
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.tail import tail_path

PART = 5 * MIB


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Node]:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate(url)
    sessions = SqlStore.connect(url)
    async with node(
        sessions, MemoryStore(), tmp_path / "tails", keep_s=60, ttl=timedelta(hours=1)
    ) as it:
        yield it
    await sessions.aclose()


@pytest.mark.parametrize("chunk", [256 * 1024, MIB, PART // 2, PART - 1, PART, PART + 1, 2 * PART])
async def test_one_lease_serves_a_whole_upload(here: Node, chunk: int) -> None:
    data = os.urandom(2 * PART + 1)
    upload = await here.create(len(data))
    for offset in range(0, len(data), chunk):
        here.leases.known(upload.id)
        done = await here.patch(upload, offset, data[offset : offset + chunk])
        assert (done.lease_epoch, done.offset) == (1, min(offset + chunk, len(data)))
        known = await here.engine.find(upload.id)
        row = await here.sessions.get(upload.id)
        assert row is not None
        assert (known.offset, known.parts_count, known.tail_crc32, known.state) == (
            row.offset,
            row.parts_count,
            row.tail_crc32,
            row.state,
        )
    assert await here.content(upload) == data
    assert row.lease_holder is None


async def test_a_tail_that_somebody_changed_is_looked_at_again(here: Node, tmp_path: Path) -> None:
    data = os.urandom(3000)
    upload = await here.create(len(data))
    await here.patch(upload, 0, data[:1000])
    path = tail_path(upload.id, root=tmp_path / "tails")
    path.write_bytes(path.read_bytes() + b"residue")
    done = await here.patch(upload, 1000, data[1000:2000])
    assert (done.offset, done.lease_epoch) == (2000, 2)
    path.unlink()
    with pytest.raises(TailMissing):
        await here.patch(upload, 2000, data[2000:])
    path.write_bytes(data[:2000])
    await here.patch(upload, 2000, data[2000:])
    assert await here.content(upload) == data
