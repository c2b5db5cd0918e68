"""Requests of one upload that follow at once share a lease, and none waits for itself."""

import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Node, ScriptedBody, node
from tests.support.memory_store import MemoryStore
from tusd_py.protocol.requests import CreateRequest, parse_create
from tusd_py.uploads.creation import Place
from tusd_storage.errors import TailMissing
from tusd_storage.leases import manager
from tusd_storage.partplan import MIB
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.tail import store as tail_store
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


class Recorder:
    """Notes the statements of a store, without those of the task that keeps leases."""

    def __init__(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        for name in ("read", "write"):
            monkeypatch.setattr(store._executor, name, self._noting(store._executor, name))
        monkeypatch.setattr(manager, "POLL_S", 3600)

    def _noting(self, executor: Any, name: str) -> Callable[..., Any]:
        given = getattr(executor, name)

        async def call(work: Callable[[Any], Any], **options: Any) -> Any:
            return await given(lambda connection: work(_Noted(connection, self)), **options)

        return call

    def taken(self) -> list[str]:
        """The kinds of statements since the last time."""
        kinds = [sql.split(maxsplit=1)[0].lower() for sql in self.statements]
        self.statements.clear()
        return kinds


class _Noted:
    def __init__(self, connection: Any, recorder: Recorder) -> None:
        self._connection = connection
        self._recorder = recorder

    def execute(self, sql: str, *params: Any) -> Any:
        self._recorder.statements.append(sql)
        return self._connection.execute(sql, *params)


async def test_while_a_lease_stays_a_patch_is_one_statement_and_a_head_none(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(here.sessions, monkeypatch)  # type: ignore[arg-type]
    upload = await here.create(3000)
    assert set(recorder.taken()) == {"insert"}
    for offset in (0, 1000):
        await here.patch(upload, offset, bytes(1000))
        assert recorder.taken() == ["update"]
        assert await here.offset(upload) == offset + 1000
        assert recorder.taken() == []
    await here.patch(upload, 2000, bytes(1000))
    assert "update" in recorder.taken()
    assert await here.offset(upload) == 3000
    assert recorder.taken() == ["select"]


async def test_a_lease_that_did_not_stay_is_taken_and_given_back(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round: what the statements above would be without it."""
    monkeypatch.setattr(type(here.leases), "keeps", property(lambda _: False))
    recorder = Recorder(here.sessions, monkeypatch)  # type: ignore[arg-type]
    upload = await here.create(3000)
    recorder.taken()
    await here.patch(upload, 0, bytes(1000))
    assert recorder.taken() == ["update", "update"]  # the second one also gives the lease back
    assert await here.offset(upload) == 1000
    assert recorder.taken() == ["select"]


def creation(length: int, size: int) -> CreateRequest:
    """A POST with the first `size` bytes."""
    return parse_create(
        {
            "tus-resumable": "1.0.0",
            "upload-length": str(length),
            "content-length": str(size),
            "content-type": "application/offset+octet-stream",
        },
        base_path="/files/",
        max_size=None,
    )


async def test_where_a_chosen_id_had_a_tail_before_the_new_one_takes_its_place(
    here: Node, tmp_path: Path
) -> None:
    data = os.urandom(3000)
    path = tail_path("a~mine", root=tmp_path / "tails")
    path.write_bytes(b"of an upload that is no longer in the database")
    upload = await here.engine.creator.create(
        creation(3000, 1000), ScriptedBody([data[:1000]]), owner=None, place=Place(id="mine")
    )
    assert (upload.id, upload.offset) == ("a~mine", 1000)
    assert path.read_bytes() == data[:1000]
    await here.patch(upload, 1000, data[1000:])
    assert await here.content(upload) == data


async def test_an_id_made_now_has_no_tail_to_look_for(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    found_at = tail_store.found_at
    monkeypatch.setattr(tail_store, "found_at", lambda path: looked.append(path) or found_at(path))
    data = os.urandom(3000)
    upload = await here.engine.creator.create(
        creation(3000, 3000), ScriptedBody([data]), owner=None
    )
    assert not looked
    assert await here.content(upload) == data
    other = await here.create(3000)
    await here.patch(other, 0, data)
    assert len(looked) == 1
