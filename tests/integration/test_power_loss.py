"""What a 204 promises when the machine loses its power: only what was flushed is on the disk then.

The disk is played: of every file there is what it held when it was last flushed, and of every
folder the names it had when that was. The database is SQLite's own business (`PRAGMA synchronous`,
see `test_sql_executor`); here it is flushed with each commit.
"""

import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.harness import node
from tests.support.memory_store import MemoryStore
from tusd_storage.errors import TailMissing
from tusd_storage.partplan import MIB
from tusd_storage.records import SessionState
from tusd_storage.sql import SqlStore, migrate

PART = 5 * MIB


class Disk:
    """Remembers what has been flushed below a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._contents: dict[int, bytes] = {}
        self._names: dict[Path, int] = {}
        self._fdatasync, self._fsync = os.fdatasync, os.fsync
        monkeypatch.setattr(os, "fdatasync", self._flush)
        monkeypatch.setattr(os, "fsync", self._flush)

    def _flush(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_dir():
            self._names = {at: at.stat().st_ino for at in path.iterdir() if at.is_file()}
            return
        stat = os.fstat(fd)
        self._contents[stat.st_ino] = os.pread(fd, stat.st_size, 0)

    def lose_power(self) -> None:
        """What was not flushed is gone."""
        flushed = {at: self._contents.get(inode, b"") for at, inode in self._names.items()}
        shutil.rmtree(self._folder)
        self._contents.clear()
        self._names.clear()
        for path, content in flushed.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self._names[path] = path.stat().st_ino
            self._contents[path.stat().st_ino] = content


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate(url)
    store = SqlStore.connect(url)
    yield store
    await store.aclose()


@pytest.mark.parametrize("seed", range(8))
async def test_every_acknowledged_byte_outlives_a_power_loss(
    sessions: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    objects, tails = MemoryStore(), tmp_path / "tails"
    disk = Disk(tails, monkeypatch)
    data = rng.randbytes(3 * PART + rng.randrange(PART))
    offset, upload = 0, ""
    while offset < len(data):
        async with node(sessions, objects, tails, fsync=True) as here:
            if not upload:
                upload = (await here.create(len(data))).id
            for _ in range(rng.randrange(1, 4)):
                size = rng.choice([1, 1000, PART - 1, PART, PART + 1, 2 * PART])
                done = await here.patch(upload, offset, data[offset : offset + size])
                offset = done.offset
                if offset == len(data):
                    break
        disk.lose_power()
        assert (await sessions.get(upload)).offset == offset  # type: ignore[union-attr]
    async with node(sessions, objects, tails, fsync=True) as here:
        assert (await here.engine.find(upload)).state is SessionState.COMPLETED
        assert await here.content(upload) == data


async def test_without_flushing_the_loss_is_noticed(
    sessions: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, tails = MemoryStore(), tmp_path / "tails"
    disk = Disk(tails, monkeypatch)
    async with node(sessions, objects, tails, fsync=False) as here:
        upload = await here.create(1000)
        await here.patch(upload, 0, bytes(500))
    disk.lose_power()
    async with node(sessions, objects, tails, fsync=False) as here:
        with pytest.raises(TailMissing):
            await here.patch(upload, 500, bytes(500))
