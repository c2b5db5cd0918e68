"""Two processes on one session, and processes that die between any two steps.

Each broker here has its own leases and its own connections: what another process would have.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.direct import BrokerNode, DirectMemoryStore, broker_node, upload_parts
from tests.support.faults import Death, Faults, FaultyObjects, FaultySessions, Trouble
from tests.support.state import Database
from tusd_py.broker.errors import BrokerError, InvalidTransition, ObjectMissing, SessionBusy
from tusd_py.broker.parts import PartName
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.records import AssetState, SessionState
from tusd_storage.sql import SqlStore

BIG = b"y" * (MIN_PART_SIZE + 3)
SHORT = timedelta(seconds=1)
MAX_STEPS = 25
"""More calls of ports than any use case makes."""


class World:
    """One database and one bucket, and processes on demand."""

    def __init__(self, database: Database, folder: Path, stack: AsyncExitStack) -> None:
        self.objects = DirectMemoryStore()
        self._database = database
        self._folder = folder
        self._stack = stack
        self._count = 0

    async def process(self, faults: Faults | None = None) -> BrokerNode:
        """Another process; with faults, one that dies as planned. It loses its leases at once."""
        self._count += 1
        name = f"n{self._count}"
        store = await self._stack.enter_async_context(self._database.open())
        sessions: Any = store if faults is None else FaultySessions(store, faults)
        objects: Any = self.objects if faults is None else FaultyObjects(self.objects, faults)
        return await self._stack.enter_async_context(
            broker_node(sessions, objects, self._folder / name, name=name, bare=store, ttl=SHORT)
        )


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(database, tmp_path, stack)


async def delivered(it: BrokerNode, objects: DirectMemoryStore) -> tuple[str, list[PartName]]:
    """A multipart session whose parts are all there."""
    made = await it.broker.initiate_multipart_session("default", size=len(BIG))
    return made.session.id, await upload_parts(it.broker, objects, made.session.id, BIG)


async def promotions(store: SqlStore) -> int:
    return len([job for job in await store.jobs() if job.kind == "promote_asset"])


async def settle(call: Callable[[], Awaitable[Any]]) -> Any:
    """Calls until nobody is in the way: a dead holder's lease runs out."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except SessionBusy:
                continue


async def test_two_processes_promote_once(world: World) -> None:
    one, two = await world.process(), await world.process()
    for _ in range(5):
        session_id, names = await delivered(one, world.objects)
        before = await promotions(one.sessions)
        results = await asyncio.gather(
            settle(lambda s=session_id, n=names: one.broker.complete_multipart_upload(s, n)),
            settle(lambda s=session_id, n=names: two.broker.complete_multipart_upload(s, n)),
            settle(lambda s=session_id: two.broker.verify_completion(s)),
            return_exceptions=True,
        )
        done = [result for result in results if not isinstance(result, BaseException)]
        assert len(done) >= 2
        assert len({(result.session.etag, result.session.completed_at) for result in done}) == 1
        assert all(isinstance(r, ObjectMissing) for r in results if isinstance(r, BaseException))
        assert await promotions(one.sessions) == before + 1
    told = [*one.told(), *two.told()]
    assert told.count("upload.stop") == 5


async def test_completing_and_cancelling_never_both_win(world: World) -> None:
    one, two = await world.process(), await world.process()
    for turn in range(6):
        session_id, names = await delivered(one, world.objects)
        calls = [
            settle(lambda s=session_id, n=names: one.broker.complete_multipart_upload(s, n)),
            settle(lambda s=session_id: two.broker.cancel_session(s)),
        ]
        results = await asyncio.gather(*calls[:: 1 if turn % 2 else -1], return_exceptions=True)
        lost = [result for result in results if isinstance(result, BaseException)]
        assert len(lost) == 1 and isinstance(lost[0], InvalidTransition)
        row = await one.sessions.get(session_id)
        there = (row.bucket, row.object_key) in world.objects.objects
        assert there is (row.state is SessionState.COMPLETED)
    assert world.objects.uploads == {}


@pytest.mark.parametrize("when", [Trouble.DIE_BEFORE, Trouble.DIE_AFTER])
async def test_a_process_that_dies_while_completing_leaves_what_the_next_finishes(
    world: World, when: Trouble
) -> None:
    """One death at every call to the store and the database in turn."""
    survivor = await world.process()
    for step in range(MAX_STEPS):
        session_id, names = await delivered(survivor, world.objects)
        before = await promotions(survivor.sessions)
        faults = Faults()
        dying = await world.process(faults)
        faults.plan = [Trouble.NONE] * step + [when]
        with suppress(Death):
            await dying.broker.complete_multipart_upload(session_id, names)
        done = await settle(
            lambda s=session_id, n=names: survivor.broker.complete_multipart_upload(s, n)
        )
        assert done.session.state is SessionState.COMPLETED
        assert done.asset.state is AssetState.VALIDATING
        assert world.objects.objects["bucket", done.session.object_key].data == BIG
        assert await promotions(survivor.sessions) == before + 1
        if not faults.dead:
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("when", [Trouble.DIE_BEFORE, Trouble.DIE_AFTER])
async def test_a_process_that_dies_while_cancelling_leaves_what_the_next_finishes(
    world: World, when: Trouble
) -> None:
    survivor = await world.process()
    for step in range(MAX_STEPS):
        session_id, _ = await delivered(survivor, world.objects)
        faults = Faults()
        dying = await world.process(faults)
        faults.plan = [Trouble.NONE] * step + [when]
        with suppress(Death):
            await dying.broker.cancel_session(session_id)
        row = await settle(lambda s=session_id: survivor.broker.cancel_session(s))
        assert (row.state, row.cleanup_reason) == (SessionState.ABORTED, None)
        assert world.objects.uploads == {} and world.objects.objects == {}
        if not faults.dead:
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("when", [Trouble.DIE_BEFORE, Trouble.DIE_AFTER])
async def test_a_sweep_finishes_what_a_dead_process_and_a_silent_client_left(
    world: World, when: Trouble
) -> None:
    """Nobody calls again: from `verifying` on, the reaper's way through `finish` ends it."""
    survivor = await world.process()
    for step in range(MAX_STEPS):
        session_id, names = await delivered(survivor, world.objects)
        faults = Faults()
        dying = await world.process(faults)
        faults.plan = [Trouble.NONE] * step + [when]
        with suppress(Death):
            await dying.broker.complete_multipart_upload(session_id, names)
        row = await survivor.sessions.get(session_id)
        if row.state is SessionState.VERIFYING:
            async with asyncio.timeout(30):
                while row.state is SessionState.VERIFYING:
                    row = await _swept(survivor, session_id)
            assert row.state is SessionState.COMPLETED
        else:
            assert row.state in {SessionState.SIGNED, SessionState.COMPLETED}
        if not faults.dead:
            return
    raise AssertionError("it never came to its end")


async def _swept(survivor: BrokerNode, session_id: str) -> Any:
    row = await survivor.broker.find(session_id)
    try:
        return await survivor.broker.finish(row)
    except Exception as error:
        # A sweep comes again for what somebody still holds.
        assert type(error).__name__ == "LeaseHeld" and not isinstance(error, BrokerError)
        return row
