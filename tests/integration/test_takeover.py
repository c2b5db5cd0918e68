"""Taking over an upload of tusd under faults: a run may end anywhere, and the next one goes on."""

import json
import os
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.faults import (
    Death,
    Faults,
    FaultyObjects,
    FaultySessions,
    FaultyTails,
    Trouble,
    end_leases,
)
from tests.support.faulty_store import FaultyStore
from tests.support.harness import Node, node
from tests.support.memory_store import MemoryStore
from tusd_py.clock import utc_now
from tusd_py.importing.takeover import Outcome, Takeover, Tools
from tusd_py.uploads.config import UploadConfig
from tusd_storage.errors import StorageError, StoreUnavailable
from tusd_storage.leases import LeaseManager
from tusd_storage.partplan import MIB
from tusd_storage.records import FOREIGN, Body, ObjectSpec, SessionState
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.tail import NodeTails

DATA = os.urandom(17 * MIB)
OFFSET = 11 * MIB + 5
KEY = "up/0123"


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[SqlStore]:
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder / 'state.db'}"
    migrate(url)
    store = SqlStore.connect(url)
    yield store
    await store.aclose()


def body(data: bytes) -> Body:
    return Body(segments=(data,), size=len(data), crc32=zlib.crc32(data))


async def begun_by_tusd(store: MemoryStore) -> str:
    """An upload with two parts and a rest; its id."""
    spec = ObjectSpec(bucket="bucket", key=KEY, token=FOREIGN)
    multipart_id = await store.create_multipart(spec)
    for number, piece in ((1, DATA[: 6 * MIB]), (2, DATA[6 * MIB : 11 * MIB])):
        await store.upload_part("bucket", KEY, multipart_id, number, body(piece))
    upload_id = f"0123+{multipart_id}"
    info = {"ID": upload_id, "Size": len(DATA), "MetaData": {}}
    for suffix, data in ((".info", json.dumps(info).encode()), (".part", DATA[11 * MIB : OFFSET])):
        await store.put(ObjectSpec(bucket="bucket", key=KEY + suffix, token="t"), body(data))
    return upload_id


class Listing:
    """The keys of a memory store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def list_keys(self, bucket: str, prefix: str) -> AsyncGenerator[str, None]:
        for found, key in sorted(self._store.objects):
            if found == bucket and key.startswith(prefix):
                yield key


async def one_run(
    sessions: SqlStore, store: MemoryStore, folder: Path, plan: list[Trouble], instance: str
) -> tuple[list[Outcome], int]:
    """A process that imports, under a plan; what it reported, and the number of its calls."""
    faults = Faults()
    faults.plan = plan
    tails = NodeTails(folder, fsync=False)
    faulty = FaultySessions(sessions, faults)
    leases = LeaseManager(
        faulty,  # type: ignore[arg-type]
        node="a",
        instance=instance,
        ttl=timedelta(seconds=15),
        now=utc_now,
        is_dead=lambda other: other != instance,
    )
    tools = Tools(
        config=UploadConfig(bucket="bucket", node="a"),
        sessions=faulty,  # type: ignore[arg-type]
        objects=FaultyObjects(store, faults),  # type: ignore[arg-type]
        listing=Listing(store),
        tails=FaultyTails(tails, faults),  # type: ignore[arg-type]
        leases=leases,
        now=utc_now,
    )
    takeover = Takeover(tools, prefix="up/", owner_key=None, checksums=None)
    outcomes: list[Outcome] = []
    try:
        async for outcome in takeover.run(apply=True):
            outcomes.append(outcome)
    except (Death, StorageError):
        pass
    finally:
        await end_leases(leases)
        await tails.aclose()
    return outcomes, faults.calls


async def calls_of_a_run(folder: Path) -> int:
    store = MemoryStore()
    await begun_by_tusd(store)
    async with database(folder) as sessions:
        return (await one_run(sessions, store, folder, [], "1"))[1]


# Robbed of its parts, an upload has nothing left to take over.
ENDS = [one for one in Trouble if one not in (Trouble.NONE, Trouble.ROB)]


@pytest.mark.parametrize("trouble", ENDS)
async def test_a_run_may_end_at_any_call_and_the_next_one_completes_it(
    tmp_path: Path, trouble: Trouble
) -> None:
    calls = await calls_of_a_run(tmp_path / "clean")
    assert calls > 8
    for step in range(calls):
        store, folder = MemoryStore(), tmp_path / f"{step}"
        upload_id = await begun_by_tusd(store)
        async with database(folder) as sessions:
            await one_run(sessions, store, folder, [Trouble.NONE] * step + [trouble], "1")
            await one_run(sessions, store, folder, [], "2")
            (last,), _ = await one_run(sessions, store, folder, [], "3")
            assert last.code == "already"
            async with node(sessions, store, folder) as here:
                assert await here.offset(upload_id) == OFFSET
                done = await here.patch(upload_id, OFFSET, DATA[OFFSET:])
                assert done.state is SessionState.COMPLETED
                assert await here.content(upload_id) == DATA


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_at_the_end_is_resolved_without_a_token(
    tmp_path: Path, when: str
) -> None:
    store = MemoryStore()
    upload_id = await begun_by_tusd(store)
    faulty = FaultyStore(store)
    async with database(tmp_path) as sessions, node(sessions, faulty, tmp_path) as here:
        await one_run(sessions, store, tmp_path, [], "1")
        down = StoreUnavailable("down")
        faulty.fail("complete_multipart", down, when=when)  # type: ignore[arg-type]
        await finish(here, upload_id)
        assert await here.content(upload_id) == DATA
        row = await here.engine.find(upload_id)
        assert (row.state, row.crc32) == (SessionState.COMPLETED, None)


async def finish(here: Node, upload_id: str) -> None:
    try:
        await here.patch(upload_id, OFFSET, DATA[OFFSET:])
    except StoreUnavailable:
        await here.engine.status(await here.engine.find(upload_id))
