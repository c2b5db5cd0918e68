"""What expires, on a real database, real files and a store in memory: what goes, what stays."""

import asyncio
from datetime import timedelta

import pytest

from tests.support.memory_store import MemoryStore
from tests.support.reaping import (
    GRACE,
    IDLE,
    PART,
    SECOND,
    ReapedNode,
    World,
    clean_sweep,
    large,
    node,
    partial,
    sweep,
    world,
)
from tusd_reaper.report import Sweep
from tusd_storage.errors import StoreUnavailable
from tusd_storage.partplan import MIB
from tusd_storage.records import SessionState, UploadSession

__all__ = ["node", "world"]


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
