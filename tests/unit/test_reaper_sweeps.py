"""The sweeps beside expiry, on a real database and files: what goes, and what stays."""

import re
from datetime import timedelta

import pytest

from tests.support.reaping import (
    EMPTY,
    GRACE,
    RETENTION,
    SECOND,
    ReapedNode,
    World,
    clean_sweep,
    large,
    node,
    sweep,
    world,
)
from tusd_reaper.report import Sweep
from tusd_storage.errors import StateUnavailable, StoreUnavailable
from tusd_storage.partplan import MIB
from tusd_storage.records import Job, ObjectSpec, SessionState, UploadSession
from tusd_storage.sql import SqlStore

__all__ = ["node", "world"]

# -- tails


async def test_tails_without_a_living_session_go(world: World, node: ReapedNode) -> None:
    live, dead, known = await large(node), await large(node), await large(node)
    await node.engine.terminate(dead.id)
    for session_id in (dead.id, "a~unknown"):
        world.tail(node, session_id).write_bytes(b"left over")
    foreign = world.tail(node, live.id).with_name("somebody-elses.tail")
    foreign.write_bytes(b"?")
    assert await clean_sweep(node, Sweep.TAILS) == {}, "all of them are younger than the grace"
    world.clock.forward(GRACE + SECOND)
    assert await clean_sweep(node, Sweep.TAILS) == {"tails": {"due": 2, "deleted": 2}}
    for session_id in (dead.id, "a~unknown"):
        assert not world.tail(node, session_id).exists()
    for session in (live, known):
        assert world.tail(node, session.id).read_bytes() == b"tail"
    assert foreign.exists(), "what we did not name is not ours"
    await node.patch(live, 5 * MIB + 4, b"more")


async def moved(world: World, node: ReapedNode) -> tuple[UploadSession, ReapedNode]:
    """An upload that went on on node b, and left its first tail here."""
    upload = await large(node)
    other = world.node("b", tail_loss="rewind")
    at = (await other.engine.status(upload)).offset
    for _ in range(2):
        try:
            await other.patch(upload, at, b"there")
        except Exception:
            at = (await world.row(upload)).offset
    row = await world.row(upload)
    assert (row.tail_node, row.offset) == ("b", 5 * MIB + 5)
    return row, other


async def test_the_tail_of_an_upload_that_moved_on_goes(world: World, node: ReapedNode) -> None:
    upload, other = await moved(world, node)
    world.clock.forward(GRACE + SECOND)
    assert await clean_sweep(node, Sweep.TAILS) == {"tails": {"due": 1, "deleted": 1}}
    assert await clean_sweep(other, Sweep.TAILS) == {}
    assert not world.tail(node, upload.id).exists()
    assert world.tail(other, upload.id).read_bytes() == b"there"


async def test_a_moved_tail_stays_while_somebody_writes(world: World, node: ReapedNode) -> None:
    upload, other = await moved(world, node)
    world.clock.forward(GRACE + SECOND)
    async with other.leases.hold(upload.id, interrupt=lambda _: None):
        assert await clean_sweep(node, Sweep.TAILS) == {}
    assert world.tail(node, upload.id).exists()


class NoAnswer(SqlStore):
    """A database that cannot be asked about sessions."""

    async def get_many(self, session_ids: object) -> dict[str, UploadSession]:
        raise StateUnavailable("down")


async def test_without_the_database_no_tail_is_touched(world: World, node: ReapedNode) -> None:
    world.tail(node, "a~unknown").write_bytes(b"left over")
    world.clock.forward(GRACE + SECOND)
    world.sessions.__class__ = NoAnswer
    report = await sweep(node, Sweep.TAILS)
    assert report.failed == 1
    assert report.sweeps[0].failures[0].reason == "StateUnavailable: down"
    assert world.tail(node, "a~unknown").exists()


async def test_many_tails_are_looked_at_in_pages(world: World, node: ReapedNode) -> None:
    for n in range(20):
        world.tail(node, f"a~{n}").write_bytes(b"x")
    world.clock.forward(GRACE + SECOND)
    assert await clean_sweep(node, Sweep.TAILS) == {"tails": {"due": 20, "deleted": 20}}


# -- multiparts


async def test_unknown_multiparts_under_our_prefix_are_aborted(
    world: World, node: ReapedNode
) -> None:
    live = await large(node)
    live_id = (await world.row(live)).upload_id
    ours = await world.orphan("up/orphan")
    again = await world.orphan(live.object_key)
    foreign = await world.orphan("elsewhere/orphan")
    assert await clean_sweep(node, Sweep.MULTIPARTS) == {}, "they are younger than the grace"
    world.clock.forward(GRACE + SECOND)
    assert await clean_sweep(node, Sweep.MULTIPARTS) == {"multiparts": {"due": 2, "aborted": 2}}
    assert set(world.memory.uploads) == {live_id, foreign}
    assert not {ours, again} & set(world.memory.uploads)
    await node.patch(live, 5 * MIB + 4, b"more")


async def test_without_a_prefix_only_keys_of_our_shape_are_ours(world: World) -> None:
    shape = re.compile(r"[a-z0-9]+-[A-Za-z0-9_-]{24}")
    node = world.node(prefix="", keys=shape)
    upload = await node.create(5)
    foreign = await world.orphan("backup.tar")
    await world.orphan(upload.object_key)
    world.clock.forward(GRACE + SECOND)
    await clean_sweep(node, Sweep.MULTIPARTS)
    assert set(world.memory.uploads) == {foreign}


async def test_the_multipart_of_a_completed_upload_is_left(world: World, node: ReapedNode) -> None:
    """Some stores list it still, and destroy the object when it is aborted."""
    upload = await node.create(6 * MIB)
    await node.patch(upload, 0, bytes(6 * MIB))
    row = await world.row(upload)
    assert row.state is SessionState.COMPLETED and row.upload_id is not None
    spec = ObjectSpec(bucket="bucket", key=row.object_key, token=row.token)
    new = await world.memory.create_multipart(spec)
    world.memory.uploads[row.upload_id] = world.memory.uploads.pop(new)
    world.clock.forward(GRACE + SECOND)
    assert await clean_sweep(node, Sweep.MULTIPARTS) == {}


async def test_a_listing_that_breaks_off_is_a_failure(world: World, node: ReapedNode) -> None:
    await world.orphan("up/one")
    world.clock.forward(GRACE + SECOND)
    world.objects.fail("list_multipart", StoreUnavailable("down"))
    report = await sweep(node, Sweep.MULTIPARTS, Sweep.ROWS)
    assert report.failed == 1
    assert report.sweeps[0].failures[0].subject == ""
    assert await clean_sweep(node, Sweep.MULTIPARTS) == {"multiparts": {"due": 1, "aborted": 1}}


# -- objects


async def ended(world: World, node: ReapedNode) -> UploadSession:
    upload = await node.create(9)
    await node.patch(upload, 0, b"half")
    await node.engine.terminate(upload.id)
    return await world.row(upload)


async def put(world: World, row: UploadSession, token: str) -> None:
    await world.memory.put(ObjectSpec(bucket="bucket", key=row.object_key, token=token), EMPTY)


async def test_objects_that_a_race_let_through_are_deleted(world: World, node: ReapedNode) -> None:
    row = await ended(world, node)
    await put(world, row, row.token)
    assert await clean_sweep(node, Sweep.OBJECTS) == {}, "it may be under way still"
    world.clock.forward(GRACE + SECOND)
    assert await clean_sweep(node, Sweep.OBJECTS) == {"objects": {"due": 1, "deleted": 1}}
    assert not world.memory.objects
    assert await clean_sweep(node, Sweep.OBJECTS) == {}, "once is enough"


async def test_objects_of_others_and_of_completed_rows_stay(world: World, node: ReapedNode) -> None:
    row = await ended(world, node)
    await put(world, row, "another token")
    done = await node.create(4)
    await node.patch(done, 0, b"done")
    world.clock.forward(GRACE + SECOND)
    assert await clean_sweep(node, Sweep.OBJECTS) == {"objects": {"due": 1, "clear": 1}}
    assert len(world.memory.objects) == 2
    world.clock.forward(10 * RETENTION)
    await clean_sweep(node)
    await clean_sweep(node)
    assert await node.content(done) == b"done", "a completed upload has no end"


async def test_an_object_that_cannot_be_looked_at_is_tried_again(
    world: World, node: ReapedNode
) -> None:
    row = await ended(world, node)
    await put(world, row, row.token)
    world.clock.forward(GRACE + SECOND)
    world.objects.fail("head", StoreUnavailable("down"))
    assert (await sweep(node, Sweep.OBJECTS)).failed == 1
    assert await clean_sweep(node, Sweep.OBJECTS) == {"objects": {"due": 1, "deleted": 1}}


# -- rows


async def test_rows_go_after_the_retention_and_after_their_object(
    world: World, node: ReapedNode
) -> None:
    row = await ended(world, node)
    world.clock.forward(GRACE + SECOND)
    await clean_sweep(node)
    world.clock.forward(RETENTION - timedelta(days=1))
    assert await clean_sweep(node) == {}
    await put(world, row, row.token)  # very late
    world.clock.forward(timedelta(days=1))
    world.objects.fail("delete", StoreUnavailable("down"))
    assert (await sweep(node, Sweep.ROWS)).failed == 1
    assert (await world.row(row)).id == row.id, "with the row, the object would be lost from sight"
    assert await clean_sweep(node, Sweep.ROWS) == {"rows": {"due": 1, "forgotten": 1}}
    assert await world.sessions.get(row.id) is None
    assert row.asset_id is not None
    assert await world.sessions.asset(row.asset_id) is None
    assert not world.memory.objects


async def test_a_terminated_upload_and_its_job_are_forgotten(
    world: World, node: ReapedNode
) -> None:
    upload = await node.create(4)
    await node.patch(upload, 0, b"done")
    await node.engine.terminate(upload.id)
    now = world.clock()
    [job] = await world.sessions.claim(
        worker="w", kinds=["promote_asset"], now=now, until=now + SECOND, limit=1
    )
    await world.sessions.succeed(job.id, worker="w", now=now)
    world.clock.forward(RETENTION + SECOND)
    assert await clean_sweep(node, Sweep.OBJECTS, Sweep.ROWS) == {
        "objects": {"due": 1, "clear": 1},
        "rows": {"due": 2, "forgotten": 1, "jobs_forgotten": 1},
    }
    assert await world.sessions.get(upload.id) is None


# -- stuck


async def test_verifying_sessions_are_finished(world: World, node: ReapedNode) -> None:
    upload = await node.create(6 * MIB)
    world.objects.fail("complete_multipart", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await node.patch(upload, 0, bytes(6 * MIB))
    assert (await world.row(upload)).state is SessionState.VERIFYING
    other = world.node("b")
    assert await clean_sweep(other, Sweep.STUCK) == {"stuck": {"due": 1, "finished": 1}}
    assert await node.content(upload) == bytes(6 * MIB)


async def test_what_cannot_be_finished_fails_and_is_cleaned(world: World, node: ReapedNode) -> None:
    upload = await node.create(6 * MIB)
    world.objects.fail("complete_multipart", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await node.patch(upload, 0, bytes(6 * MIB))
    world.memory.uploads.clear()
    assert await clean_sweep(node, Sweep.STUCK) == {"stuck": {"due": 1, "lost": 1}}
    assert (await world.row(upload)).state is SessionState.FAILED


async def test_sessions_of_another_protocol_wait_for_their_finisher(world: World) -> None:
    node = world.node(finishers={})
    upload = await node.create(6 * MIB)
    world.objects.fail("complete_multipart", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await node.patch(upload, 0, bytes(6 * MIB))
    assert await clean_sweep(node, Sweep.STUCK) == {"stuck": {"due": 1, "left": 1}}


async def take(world: World, upload: UploadSession, holder: str) -> None:
    now = world.clock()
    await world.sessions.acquire(upload.id, holder=holder, now=now, until=now + SECOND)


async def test_leases_of_the_dead_end(world: World) -> None:
    node = world.node(is_dead={"gone"}.__contains__)
    ours, hanging, theirs = [await node.create(9) for _ in range(3)]
    await take(world, ours, "a/gone")
    await take(world, hanging, "a/hangs")
    await take(world, theirs, "b/gone")
    assert await clean_sweep(node, Sweep.STUCK) == {}, "none has run out"
    world.clock.forward(2 * SECOND)
    assert await clean_sweep(node, Sweep.STUCK) == {"stuck": {"due": 1, "leases_ended": 1}}
    assert (await world.row(ours)).lease_holder is None
    world.clock.forward(GRACE)
    assert await clean_sweep(node, Sweep.STUCK) == {"stuck": {"due": 2, "leases_ended": 2}}
    for upload in (hanging, theirs):
        assert (await world.row(upload)).lease_holder is None


async def test_jobs_of_a_dead_worker_go_back(world: World, node: ReapedNode) -> None:
    upload = await node.create(4)
    await node.patch(upload, 0, b"done")

    async def claim() -> list[Job]:
        now = world.clock()
        return await world.sessions.claim(
            worker="w", kinds=["promote_asset"], now=now, until=now + SECOND, limit=9
        )

    await claim()
    assert await clean_sweep(node, Sweep.STUCK) == {}
    world.clock.forward(2 * SECOND)
    assert await clean_sweep(node, Sweep.STUCK) == {"stuck": {"due": 1, "jobs_requeued": 1}}
    [job] = await world.sessions.jobs(state="queued")
    assert job.attempts == 1
