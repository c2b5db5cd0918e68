"""What stands between the last byte and the object: nothing becomes one that is not the upload."""

import os
import sqlite3
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.faulty_store import FaultyStore
from tests.support.harness import Node, node
from tests.support.memory_store import MemoryStore
from tusd_py.clock import utc_now
from tusd_py.protocol.errors import UploadGone
from tusd_py.uploads.completion import Finisher
from tusd_py.uploads.ledger import Ledger
from tusd_storage.errors import InvalidPart, StoreUnavailable
from tusd_storage.partplan import MIB
from tusd_storage.records import Body, SessionState, UploadSession
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.termination import Terminator


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate(url)
    store = SqlStore.connect(url)
    yield store
    await store.aclose()


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(opaque_etags=True))


@pytest.fixture
async def here(sessions: SqlStore, store: FaultyStore, tmp_path: Path) -> AsyncIterator[Node]:
    async with node(sessions, store, tmp_path / "tails") as it:
        yield it


async def received(here: Node, store: FaultyStore, data: bytes) -> UploadSession:
    """An upload that has all its parts and no object."""
    upload = await here.create(len(data))
    store.fail("complete_multipart", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await here.patch(upload, 0, data)
    left = await here.engine.find(upload.id)
    assert left.state is SessionState.VERIFYING
    return left


async def check_failed(here: Node, upload: UploadSession, failure: str) -> None:
    row = await here.engine.find(upload.id)
    assert (row.state, row.failure, row.cleanup_reason) == (SessionState.FAILED, failure, failure)


async def test_parts_that_are_not_the_whole_become_no_object(
    here: Node, store: FaultyStore, tmp_path: Path
) -> None:
    left = await received(here, store, os.urandom(12 * MIB))
    with sqlite3.connect(tmp_path / "state.db") as database:
        database.execute("UPDATE upload_parts SET size = size - 1 WHERE number = 3")
    completions = store.calls["complete_multipart"]
    with pytest.raises(UploadGone):
        await here.engine.status(left)
    await check_failed(here, left, "wrong_length")
    assert store.calls["complete_multipart"] == completions
    assert await store.head(left.bucket, left.object_key) is None


async def test_a_body_that_is_not_the_whole_becomes_no_object(
    here: Node, sessions: SqlStore, store: FaultyStore
) -> None:
    upload = await here.create(7)
    finisher = Finisher(sessions, store, Terminator(sessions, store, here.tails, utc_now), utc_now)
    short = Body(segments=(b"abc",), size=3, crc32=0x352441C2)
    async with here.leases.hold(upload.id, interrupt=lambda _: None, patience_s=0) as lease:
        ledger = Ledger(sessions, lease, here.config, utc_now, length=upload.length)
        with pytest.raises(UploadGone):
            await finisher.finish(ledger, short)
    await check_failed(here, upload, "wrong_length")
    assert await store.head(upload.bucket, upload.object_key) is None


async def land_again(store: FaultyStore, upload: UploadSession, number: int, data: bytes) -> None:
    """A try at the part whose answer was lost arrives after the one that counted."""
    assert upload.upload_id is not None
    body = Body(segments=(data,), size=len(data), crc32=zlib.crc32(data))
    await store.inner.upload_part(upload.bucket, upload.object_key, upload.upload_id, number, body)


async def test_parts_that_landed_again_lose_nothing(here: Node, store: FaultyStore) -> None:
    """The store refused their old ETags, and every acknowledged byte was given up."""
    data = os.urandom(12 * MIB)
    left = await received(here, store, data)
    await land_again(store, left, 1, data[: 5 * MIB])
    await land_again(store, left, 3, data[10 * MIB :])
    done = await here.engine.status(left)
    assert done.state is SessionState.COMPLETED
    assert await here.content(done) == data


async def test_other_bytes_under_a_part_number_are_not_taken(
    here: Node, store: FaultyStore
) -> None:
    left = await received(here, store, os.urandom(12 * MIB))
    await land_again(store, left, 2, os.urandom(5 * MIB))
    with pytest.raises(InvalidPart):
        await here.engine.status(left)
    await check_failed(here, left, "invalid_part")
    assert await store.head(left.bucket, left.object_key) is None


async def test_a_store_that_cannot_be_asked_for_its_parts_is_asked_later(
    here: Node, store: FaultyStore
) -> None:
    data = os.urandom(12 * MIB)
    left = await received(here, store, data)
    await land_again(store, left, 1, data[: 5 * MIB])
    store.fail("list_parts", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await here.engine.status(left)
    done = await here.engine.status(left)
    assert await here.content(done) == data
