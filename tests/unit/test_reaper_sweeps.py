"""Each sweep on a real database, real files and a store in memory: what goes, and what stays."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.memory_store import FaultyStore, MemoryStore
from tests.support.reaping import GRACE, IDLE, RETENTION, Clock, ReapedNode, counters, quick_store
from tusd_reaper.actions import Actions
from tusd_reaper.report import Report, Sweep
from tusd_storage.errors import StateUnavailable, StoreRefused, StoreUnavailable
from tusd_storage.partplan import MIB
from tusd_storage.records import Body, Job, ObjectSpec, SessionState, UploadSession
from tusd_storage.sql import SqlStore
from tusd_storage.tail import tail_path

SECOND = timedelta(seconds=1)
PART = bytes(5 * MIB)
EMPTY = Body(segments=(), size=0, crc32=0)


class World:
    """One database and one bucket; nodes on demand."""

    def __init__(self, sessions: SqlStore, folder: Path, stack: AsyncExitStack) -> None:
        self.clock = Clock()
        self.sessions = sessions
        self.memory = MemoryStore(now=self.clock)
        self.objects = FaultyStore(self.memory)
        self._folder = folder
        self._stack = stack

    def node(self, name: str = "a", **options: object) -> ReapedNode:
        node = ReapedNode(
            self.sessions,
            self.objects,
            self._folder / name,
            clock=self.clock,
            name=name,
            **options,  # type: ignore[arg-type]
        )
        self._stack.push_async_callback(node.aclose)
        return node

    def tail(self, node: ReapedNode, session_id: str) -> Path:
        return tail_path(session_id, root=self._folder / node.config.node)

    async def row(self, session: UploadSession | str) -> UploadSession:
        row = await self.sessions.get(session if isinstance(session, str) else session.id)
        assert row is not None
        return row

    async def orphan(self, key: str) -> str:
        return await self.memory.create_multipart(ObjectSpec(bucket="bucket", key=key, token="t"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(quick_store(tmp_path))
        yield World(sessions, tmp_path, stack)


@pytest.fixture
def node(world: World) -> ReapedNode:
    return world.node()


async def sweep(node: ReapedNode, *only: Sweep, apply: bool = True) -> Report:
    return await node.reaper.run(only or tuple(Sweep), apply=apply)


async def clean_sweep(node: ReapedNode, *only: Sweep) -> dict[str, dict[str, int]]:
    report = await sweep(node, *only)
    assert report.failed == 0, report
    return counters(report)


async def large(node: ReapedNode) -> UploadSession:
    """An upload with one part in the store and a tail."""
    upload = await node.create(20 * MIB)
    return await node.patch(upload, 0, PART + b"tail")


# -- expire


async def test_an_abandoned_upload_ends_everywhere(world: World, node: ReapedNode) -> None:
    upload = await large(node)
    assert world.memory.uploads and world.tail(node, upload.id).exists()
    world.clock.forward(IDLE + SECOND)
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "expired": 1}}
    row = await world.row(upload)
    assert (row.state, row.failure, row.cleanup_reason) == (SessionState.EXPIRED, "expired", None)
    assert row.lease_holder is None
    assert not world.memory.uploads
    assert not world.tail(node, upload.id).exists()
    assert await clean_sweep(node, Sweep.EXPIRE) == {}


async def test_before_its_time_nothing_happens(world: World, node: ReapedNode) -> None:
    upload = await large(node)
    before = await world.row(upload)
    world.clock.forward(IDLE - timedelta(minutes=1))
    assert await clean_sweep(node) == {}
    assert await world.row(upload) == before
    await node.patch(upload, 5 * MIB + 4, b"more")


async def test_a_running_patch_is_never_disturbed(world: World) -> None:
    node, other = (world.node(name, expires_in=timedelta(seconds=5)) for name in ("a", "b"))
    upload = await node.create(20 * MIB)
    sending = world.objects.hold("upload_part")
    writing = asyncio.create_task(node.patch(upload, 0, PART + b"tail"))
    while not world.objects.calls["upload_part"]:
        await asyncio.sleep(0)
    world.clock.forward(timedelta(seconds=6))  # past its time; its lease is good for longer
    for sweeper in (node, other):
        assert await clean_sweep(sweeper, Sweep.EXPIRE) == {"expire": {"due": 1, "left": 1}}
    sending.set()
    assert (await writing).offset == len(PART) + 4
    assert world.memory.uploads


async def test_storage_goes_first_and_the_row_last(world: World, node: ReapedNode) -> None:
    upload = await large(node)
    world.clock.forward(IDLE + SECOND)
    gate = world.objects.hold("abort_multipart")
    run = asyncio.create_task(clean_sweep(node, Sweep.EXPIRE))
    while not world.objects.calls["abort_multipart"]:
        await asyncio.sleep(0)
    assert (await world.row(upload)).state is SessionState.UPLOADING
    assert world.tail(node, upload.id).exists()
    gate.set()
    await run


async def test_a_failed_abort_leaves_a_mark_and_is_tried_again(
    world: World, node: ReapedNode
) -> None:
    upload = await large(node)
    world.clock.forward(IDLE + SECOND)
    world.objects.fail("abort_multipart", StoreUnavailable("x" * 1000))
    report = await sweep(node, Sweep.EXPIRE)
    assert report.failed == 1
    row = await world.row(upload)
    assert row.state is SessionState.EXPIRED
    assert row.cleanup_reason is not None
    assert row.cleanup_reason.startswith("StoreUnavailable: xx")
    assert len(row.cleanup_reason) == 200
    assert world.memory.uploads
    assert not world.tail(node, upload.id).exists()
    world.objects.fail("abort_multipart", StoreUnavailable("still down"))
    assert (await sweep(node, Sweep.EXPIRE)).failed == 1
    assert (await world.row(upload)).cleanup_reason is not None
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "cleaned": 1}}
    assert (await world.row(upload)).cleanup_reason is None
    assert not world.memory.uploads


class LateParts(MemoryStore):
    """A store in which parts land after the abort, as S3 warns."""

    late = 1

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        upload = self.uploads.get(upload_id)
        await super().abort_multipart(bucket, key, upload_id)
        if self.late and upload is not None:
            self.late -= 1
            self.uploads[upload_id] = upload


async def test_the_abort_is_repeated_until_no_part_is_left(world: World) -> None:
    world.objects.inner = world.memory = LateParts(now=world.clock)
    node = world.node()
    await large(node)
    world.clock.forward(IDLE + SECOND)
    await clean_sweep(node, Sweep.EXPIRE)
    assert not world.memory.uploads
    assert world.memory.calls["abort_multipart"] == 2


async def test_parts_that_never_go_away_are_told(world: World) -> None:
    world.objects.inner = world.memory = LateParts(now=world.clock)
    world.memory.late = 99
    node = world.node()
    upload = await large(node)
    world.clock.forward(IDLE + SECOND)
    assert (await sweep(node, Sweep.EXPIRE)).failed == 1
    assert "parts are left" in ((await world.row(upload)).cleanup_reason or "")


async def received(world: World, node: ReapedNode, data: bytes) -> UploadSession:
    """An upload with all its bytes, whose object could not be made."""
    upload = await node.create(len(data))
    world.objects.fail("put", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await node.patch(upload, 0, data)
    row = await world.row(upload)
    assert row.received and row.state is SessionState.UPLOADING
    return row


async def test_what_was_fully_received_is_finished_not_expired(
    world: World, node: ReapedNode
) -> None:
    upload = await received(world, node, b"everything")
    world.clock.forward(IDLE + SECOND)
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "finished": 1}}
    assert await node.content(upload) == b"everything"
    assert not world.tail(node, upload.id).exists()


async def test_only_the_node_with_the_tail_finishes(world: World, node: ReapedNode) -> None:
    upload = await received(world, node, b"everything")
    leader = world.node("b", tail_loss="rewind")
    world.clock.forward(IDLE + SECOND)
    assert await clean_sweep(leader, Sweep.EXPIRE, Sweep.STUCK) == {"expire": {"due": 1, "left": 1}}
    assert await world.row(upload) == upload, "nothing was rewound"
    assert await clean_sweep(node, Sweep.STUCK) == {"stuck": {"due": 1, "finished": 1}}


async def test_when_its_node_stays_away_it_expires_after_the_grace(
    world: World, node: ReapedNode
) -> None:
    upload = await received(world, node, b"everything")
    leader = world.node("b")
    world.clock.forward(IDLE + GRACE + SECOND)
    assert await clean_sweep(leader, Sweep.EXPIRE) == {"expire": {"due": 1, "expired": 1}}
    assert world.tail(node, upload.id).exists()
    assert await clean_sweep(node, Sweep.TAILS) == {"tails": {"due": 1, "deleted": 1}}


async def test_a_received_upload_without_its_tail_expires(world: World, node: ReapedNode) -> None:
    upload = await received(world, node, b"everything")
    world.tail(node, upload.id).unlink()
    world.clock.forward(IDLE + GRACE + SECOND)
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "expired": 1}}


async def test_a_store_that_is_down_expires_nothing_received(
    world: World, node: ReapedNode
) -> None:
    upload = await received(world, node, b"everything")
    world.clock.forward(IDLE + SECOND)
    world.objects.fail("put", StoreUnavailable("down"))
    assert (await sweep(node, Sweep.EXPIRE)).failed == 1
    assert (await world.row(upload)).state is SessionState.UPLOADING


async def partial(node: ReapedNode, data: bytes) -> UploadSession:
    upload = await node.create(len(data), upload_concat="partial")
    return await node.patch(upload, 0, data)


async def test_completed_partials_expire_unless_a_final_waits(
    world: World, node: ReapedNode
) -> None:
    one, two, three = [await partial(node, data) for data in (b"one", b"two", b"three")]
    unfinished = await node.create(4, upload_concat="partial")
    world.clock.forward(IDLE - timedelta(minutes=5))
    paths = " ".join(f"/files/{upload.id}" for upload in (one, unfinished))
    await node.create(None, upload_concat=f"final;{paths}")
    assert {o.data for o in world.memory.objects.values()} == {b"one", b"two", b"three"}
    world.clock.forward(GRACE + timedelta(minutes=6))
    found = await clean_sweep(node, Sweep.EXPIRE)
    assert found == {"expire": {"due": 3, "expired": 3}}, "two partials, and the unfinished one"
    assert {o.data for o in world.memory.objects.values()} == {b"one"}
    assert (await world.row(two)).deleted_at is not None
    assert (await world.row(three)).deleted_at is not None
    assert (await world.row(one)).deleted_at is None
    world.clock.forward(IDLE)
    # Which of the two is looked at first follows from their random ids: the partial upload goes
    # with the final one that needed it, or in the next run.
    await clean_sweep(node, Sweep.EXPIRE)
    await clean_sweep(node, Sweep.EXPIRE)
    assert (await world.row(one)).deleted_at is not None
    assert not world.memory.objects


async def test_a_final_upload_past_its_time_is_finished_if_it_can_be(
    world: World, node: ReapedNode
) -> None:
    one = await partial(node, b"one")
    two = await node.create(3, upload_concat="partial")
    final = await node.create(None, upload_concat=f"final;/files/{one.id} /files/{two.id}")
    world.clock.forward(IDLE - timedelta(minutes=1))
    await node.patch(two, 0, b"two")
    world.clock.forward(timedelta(minutes=2))
    assert (await clean_sweep(node, Sweep.EXPIRE))["expire"]["finished"] == 1
    assert await node.content(final) == b"onetwo"


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


# -- runs


async def test_a_dry_run_tells_and_changes_nothing(world: World, node: ReapedNode) -> None:
    upload = await large(node)
    world.tail(node, "a~unknown").write_bytes(b"x")
    await world.orphan("up/orphan")
    world.clock.forward(IDLE + GRACE + SECOND)
    before = await world.row(upload)
    report = await sweep(node, apply=False)
    assert not report.applied
    assert counters(report) == {
        "expire": {"due": 1, "expire": 1},
        "tails": {"due": 1, "delete": 1},
        "multiparts": {"due": 1, "abort": 1},
    }
    assert await world.row(upload) == before
    assert len(world.memory.uploads) == 2
    assert world.tail(node, "a~unknown").exists()
    assert node.reports == []


async def test_only_what_was_asked_for_runs(world: World, node: ReapedNode) -> None:
    await large(node)
    world.clock.forward(IDLE + SECOND)
    report = await sweep(node, Sweep.TAILS)
    assert [one.sweep for one in report.sweeps] == [Sweep.TAILS]
    assert world.memory.uploads


async def test_a_report_is_published_after_a_run(world: World, node: ReapedNode) -> None:
    report = await sweep(node)
    assert node.reports == [report]
    assert [one.sweep for one in report.sweeps] == list(Sweep)


async def test_one_node_leads_and_each_sweeps_its_own_disk(world: World) -> None:
    a, b = world.node("a"), world.node("b")
    for node in (a, b):
        world.tail(node, "a~unknown").write_bytes(b"x")
    upload = await large(a)
    world.clock.forward(IDLE + GRACE + SECOND)
    gate = world.objects.hold("abort_multipart")
    first = asyncio.create_task(sweep(a))
    while not world.objects.calls["abort_multipart"]:
        await asyncio.sleep(0)
    second = await sweep(b)
    assert counters(second) == {"tails": {"due": 1, "deleted": 1}}
    assert {one.sweep for one in second.sweeps if one.skipped} == set(Sweep) - {Sweep.TAILS}
    gate.set()
    assert (await first).failed == 0
    assert (await world.row(upload)).state is SessionState.EXPIRED
    assert all(one.skipped is None for one in (await sweep(b)).sweeps), "the leader resigned"


async def test_two_runs_at_once_do_no_harm(world: World, node: ReapedNode) -> None:
    """Without a leader: a process that hung does not know that its time is over."""
    uploads = [await large(node) for _ in range(6)]
    world.clock.forward(IDLE + SECOND)
    other = world.node("b")
    other.reaper._leader = _Everybody()  # type: ignore[assignment]
    reports = await asyncio.gather(sweep(node, Sweep.EXPIRE), sweep(other, Sweep.EXPIRE))
    done = [counters(report)["expire"].get("expired", 0) for report in reports]
    assert sum(done) == len(uploads)
    assert sum(report.failed for report in reports) == 0
    assert not world.memory.uploads


class _Everybody:
    """Gives everybody the lead."""

    def term(self, _name: str) -> "_Everybody":
        return self

    leads = True

    async def __aenter__(self) -> "_Everybody":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_a_run_that_lost_the_lead_stops(world: World, node: ReapedNode) -> None:
    for _ in range(30):
        await node.create(9)
    world.clock.forward(IDLE + SECOND)
    term = _Everybody()

    class Losing:
        def term(self, _name: str) -> _Everybody:
            return term

    node.reaper._leader = Losing()  # type: ignore[assignment]
    real = node.sessions.close

    async def close(*args: object, **kwargs: object) -> UploadSession:
        term.leads = False
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    node.sessions.close = close  # type: ignore[method-assign]
    report = await sweep(node, Sweep.EXPIRE)
    assert report.sweeps[0].skipped
    assert 0 < report.sweeps[0].counters["expired"] < 30


async def test_a_cancelled_run_leaves_no_lease(world: World, node: ReapedNode) -> None:
    upload = await large(node)
    world.clock.forward(IDLE + SECOND)
    gate = world.objects.hold("abort_multipart")
    run = asyncio.create_task(sweep(node, Sweep.EXPIRE))
    while not world.objects.calls["abort_multipart"]:
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    async with asyncio.timeout(10):
        while node.leases.held:
            await asyncio.sleep(0.01)
    assert (await world.row(upload)).lease_holder is None
    gate.set()
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "expired": 1}}


async def test_a_refusal_is_told_with_its_subject(world: World, node: ReapedNode) -> None:
    await world.orphan("up/orphan")
    world.clock.forward(GRACE + SECOND)
    world.objects.fail("abort_multipart", StoreRefused("Odd", "no"))
    report = await sweep(node, Sweep.MULTIPARTS)
    [failure] = report.sweeps[0].failures
    assert (failure.subject, failure.reason) == ("up/orphan", "StoreRefused: no")


def test_the_clock_of_files_is_the_real_one(tmp_path: Path) -> None:
    """What the grace of tails stands on in these tests."""
    path = tmp_path / "x"
    path.touch()
    assert abs(path.stat().st_mtime - Clock()().timestamp()) < 5


# -- Between the look and the act


async def test_every_action_looks_again_before_it_acts(world: World, node: ReapedNode) -> None:
    """Whatever a listing said: by now the upload lives."""
    live, done = await large(node), await partial(node, b"done")
    actions = Actions(node.tools)
    before = [await world.row(session) for session in (live, done)]
    assert await actions.expire(live) is None
    assert await actions.clean(live) is None
    assert await actions.sweep_ended(live) is None
    assert await actions.forget(live) is None
    assert await actions.delete_partial(live) is None
    assert await actions.delete_tail(live.id, moved=True) is None
    assert await actions.end_lease(live, world.clock()) is None
    for act in (actions.clean, actions.sweep_ended, actions.forget):
        assert await act(done) is None
    for session, was in zip((live, done), before, strict=True):
        assert replace(await world.row(session), lease_epoch=was.lease_epoch) == was
    assert world.tail(node, live.id).exists()
    await node.patch(live, 5 * MIB + 4, b"more")
    assert await node.content(done) == b"done"


async def test_what_got_its_last_byte_meanwhile_is_not_expired(
    world: World, node: ReapedNode
) -> None:
    upload = await node.create(10)
    listed = await node.patch(upload, 0, b"half ")
    world.objects.fail("put", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await node.patch(upload, 5, b"whole")
    world.clock.forward(IDLE + SECOND)
    assert await Actions(node.tools).expire(listed) is None
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "finished": 1}}
