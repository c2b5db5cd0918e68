"""One PATCH under single faults of the store, the disk and the client, with real bytes."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.faulty_store import FaultyStore
from tests.support.harness import Node, ScriptedBody, node, pieces_of
from tests.support.memory_store import MemoryStore
from tusd_py.protocol.errors import ChecksumMismatch, SizeExceeded
from tusd_py.uploads.body import Interrupted
from tusd_storage.errors import LeaseLost, StateUnavailable, StoreUnavailable
from tusd_storage.leases import Interruption
from tusd_storage.partplan import MIB
from tusd_storage.ports import Writing
from tusd_storage.records import Append, Body, Part, SessionState
from tusd_storage.sql import SqlStore, migrate

PART = 5 * MIB
DOWN = StoreUnavailable("down")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Node]:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate(url)
    sessions = SqlStore.connect(url)
    async with node(sessions, FaultyStore(MemoryStore()), tmp_path / "tails") as it:
        yield it
    await sessions.aclose()


def store(here: Node) -> FaultyStore:
    assert isinstance(here.objects, FaultyStore)
    return here.objects


@pytest.mark.parametrize("failing", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_any_part_may_fail_while_others_land(here: Node, failing: int, when: str) -> None:
    data = os.urandom(5 * PART + 17)
    upload = await here.create(len(data))
    store(here).fail("upload_part", DOWN, when=when, skip=failing)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        await here.patch(upload, 0, data)
    offset = await here.offset(upload)
    assert failing * PART <= offset <= (failing + 1) * PART  # the failed part is in the tail
    done = await here.patch(upload, offset, data[offset:])
    assert done.state is SessionState.COMPLETED
    assert await here.content(upload) == data


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("checked", [False, True])
async def test_the_last_part_goes_beside_those_on_their_way(here: Node, checked: bool) -> None:
    data = os.urandom(2 * PART + 17)
    upload = await here.create(len(data))
    digest = base64.b64encode(hashlib.sha1(data).digest()).decode()
    headers = {"upload_checksum": f"sha1 {digest}"} if checked else {}
    gate = store(here).hold("upload_part")
    patching = asyncio.create_task(here.patch(upload, 0, data, **headers))
    await until(lambda: store(here).calls["upload_part"] == 3)
    gate.set()
    done = await patching
    assert done.state is SessionState.COMPLETED
    assert await here.content(upload) == data
    assert store(here).calls["upload_part"] == 3
    assert here.engine.memory_used == 0


@pytest.mark.parametrize("late", [1, 2])
async def test_a_part_fails_after_the_last_has_landed(here: Node, late: int) -> None:
    """The last one is not acknowledged: what is before it is missing."""
    data = os.urandom(2 * PART + 17)
    upload = await here.create(len(data))
    memory, answered, gate = store(here).inner, list[int](), asyncio.Event()
    sending = memory.upload_part

    async def one_fails_late(
        bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> Part:
        if number == late:
            await gate.wait()
            raise DOWN
        part = await sending(bucket, key, upload_id, number, body)
        answered.append(number)
        return part

    memory.upload_part = one_fails_late  # type: ignore[method-assign]
    patching = asyncio.create_task(here.patch(upload, 0, data))
    await until(lambda: len(answered) == 2)
    gate.set()
    with pytest.raises(StoreUnavailable):
        await patching
    memory.upload_part = sending  # type: ignore[method-assign]
    assert 3 in answered
    offset = await here.offset(upload)
    assert offset == late * PART  # the part that failed is in the tail
    await here.patch(upload, offset, data[offset:])
    assert await here.content(upload) == data
    assert here.engine.memory_used == 0


async def test_the_last_part_landed_and_could_not_be_committed(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(2 * PART + 17)
    upload = await here.create(len(data))
    appending = here.sessions.append

    async def refuses_the_last(commit: Append, tail: Writing | None = None) -> None:
        if commit.state is SessionState.VERIFYING:
            raise StateUnavailable("down")
        await appending(commit, tail)

    gate = store(here).hold("upload_part")
    with monkeypatch.context() as patch:
        patch.setattr(here.sessions, "append", refuses_the_last)
        patching = asyncio.create_task(here.patch(upload, 0, data))
        await until(lambda: store(here).calls["upload_part"] == 3)
        gate.set()
        with pytest.raises(StateUnavailable):
            await patching
    offset = await here.offset(upload)
    assert offset == len(data)  # the last part is in the tail as well
    assert [part.number for part in await here.sessions.parts(upload.id)] == [1, 2]
    done = await here.patch(upload, offset, b"")
    assert done.state is SessionState.COMPLETED
    assert await here.content(upload) == data
    assert here.engine.memory_used == 0


@pytest.mark.parametrize("when", ["before", "after"])
async def test_parts_that_wait_for_a_multipart_upload_which_cannot_be_opened(
    here: Node, when: str
) -> None:
    """It is asked for once, though several parts need it; the first of them is kept."""
    data = os.urandom(3 * PART)
    upload = await here.create(len(data))
    gate = store(here).hold("create_multipart")
    store(here).fail("create_multipart", DOWN, when=when)  # type: ignore[arg-type]
    body = ScriptedBody(pieces_of(data))
    patching = asyncio.create_task(here.patch(upload, 0, data, body=body))
    await until(lambda: body.given == len(data))
    gate.set()
    with pytest.raises(StoreUnavailable):
        await patching
    assert store(here).calls["create_multipart"] == 1
    assert store(here).calls["upload_part"] == 0
    assert await here.offset(upload) == PART
    await here.patch(upload, PART, data[PART:])
    assert await here.content(upload) == data
    assert here.engine.memory_used == 0


@pytest.mark.parametrize("call", ["create_multipart", "upload_part", "complete_multipart"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_store_fails_once_at_the_end(here: Node, call: str, when: str) -> None:
    data = os.urandom(PART + 17)
    upload = await here.create(len(data))
    store(here).fail(call, DOWN, when=when)  # type: ignore[arg-type]
    try:
        await here.patch(upload, 0, data)
    except StoreUnavailable:
        offset = await here.offset(upload)
        await here.patch(upload, offset, data[offset:])
    assert await here.content(upload) == data


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_small_upload_whose_object_cannot_be_made_is_kept(here: Node, when: str) -> None:
    data = os.urandom(1000)
    upload = await here.create(len(data))
    store(here).fail("put", DOWN, when=when)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        await here.patch(upload, 0, data)
    row = await here.engine.find(upload.id)
    assert row.offset == len(data)
    assert row.state is not SessionState.COMPLETED
    done = await here.engine.status(row)
    assert done.state is SessionState.COMPLETED
    assert await here.content(upload) == data


@pytest.mark.parametrize("sent", [1, PART - 1, PART, PART + 1, 2 * PART + 9])
async def test_what_arrived_before_the_client_went_is_kept(here: Node, sent: int) -> None:
    data = os.urandom(3 * PART)
    upload = await here.create(len(data))
    body = ScriptedBody(pieces_of(data[:sent], 10_007), gone=True)
    with pytest.raises(Interrupted):
        await here.patch(upload, 0, data, body=body)
    assert await here.offset(upload) == sent
    await here.patch(upload, sent, data[sent:])
    assert await here.content(upload) == data


@pytest.mark.parametrize("size", [1000, PART, 2 * PART + 17])
@pytest.mark.parametrize("had", [0, 1000])
async def test_a_wrong_checksum_leaves_nothing(here: Node, size: int, had: int) -> None:
    data = os.urandom(3 * PART)
    upload = await here.create(len(data))
    if had:
        await here.patch(upload, 0, data[:had])
    wrong = base64.b64encode(hashlib.sha1(b"other").digest()).decode()
    piece = data[had : had + size]
    with pytest.raises(ChecksumMismatch):
        await here.patch(upload, had, piece, upload_checksum=f"sha1 {wrong}")
    assert await here.offset(upload) == had
    assert await here.sessions.parts(upload.id) == []
    right = base64.b64encode(hashlib.sha1(piece).digest()).decode()
    await here.patch(upload, had, piece, upload_checksum=f"sha1 {right}")
    await here.patch(upload, had + size, data[had + size :])
    assert await here.content(upload) == data


async def test_a_checksummed_body_that_breaks_off_leaves_nothing(here: Node) -> None:
    data = os.urandom(2 * PART)
    upload = await here.create(len(data))
    right = base64.b64encode(hashlib.sha1(data).digest()).decode()
    body = ScriptedBody(pieces_of(data[: PART + 5]), gone=True)
    with pytest.raises(Interrupted):
        await here.patch(upload, 0, data, body=body, upload_checksum=f"sha1 {right}")
    assert await here.offset(upload) == 0


@pytest.mark.parametrize("length", [10, PART, PART + 10])
async def test_a_chunked_body_beyond_the_length_is_refused(here: Node, length: int) -> None:
    data = os.urandom(length)
    upload = await here.create(length)
    with pytest.raises(SizeExceeded):
        await here.patch(upload, 0, data + b"!", chunked=True)
    row = await here.engine.find(upload.id)
    assert row.offset <= length
    assert row.state is not SessionState.COMPLETED
    await here.patch(upload, row.offset, data[row.offset :])
    assert await here.content(upload) == data


async def test_the_eleventh_upload_moves_while_ten_stand_still(here: Node) -> None:
    gate = asyncio.Event()
    slow = []
    for _ in range(10):
        upload = await here.create(3 * PART)
        body = ScriptedBody([os.urandom(PART // 2)], gate=gate, gone=True)
        slow.append(asyncio.create_task(here.patch(upload, 0, b"x" * 3 * PART, body=body)))
    data = os.urandom(4 * PART)
    fast = await here.create(len(data))
    async with asyncio.timeout(60):
        await here.patch(fast, 0, data)
    assert await here.content(fast) == data
    gate.set()
    results = await asyncio.gather(*slow, return_exceptions=True)
    assert all(isinstance(result, Interrupted) for result in results)


async def test_bytes_beyond_the_memory_budget_wait_on_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate(url)
    sessions = SqlStore.connect(url)
    memory = MemoryStore()
    async with node(sessions, memory, tmp_path / "tails", memory_budget=1 * MIB) as here:
        data = os.urandom(3 * PART + 11)
        uploads = [await here.create(len(data)) for _ in range(4)]
        await asyncio.gather(*(here.patch(upload, 0, data) for upload in uploads))
        for upload in uploads:
            assert await here.content(upload) == data
        assert here.engine.memory_used == 0
    await sessions.aclose()


async def test_a_profile_may_take_less_than_the_server(here: Node) -> None:
    upload = await here.create(None)
    with pytest.raises(SizeExceeded):
        config = replace(here.config, profile_max_sizes={"default": 10})
        here.engine.config = config
        await here.patch(upload, 0, b"x" * 11)
    assert await here.offset(upload) == 0
    await here.patch(upload, 0, b"x" * 10, upload_length="10")
    assert await here.content(upload) == b"x" * 10


@pytest.mark.parametrize("checked", [False, True])
async def test_a_lease_that_is_lost_in_the_body_is_told_as_such(here: Node, checked: bool) -> None:
    """With a checksum it was an unknown error: 500."""
    data = os.urandom(3000)
    upload = await here.create(len(data))
    digest = base64.b64encode(hashlib.sha1(data).digest()).decode()
    headers = {"upload_checksum": f"sha1 {digest}"} if checked else {}
    body = ScriptedBody([data[:1000]], gate=asyncio.Event())
    writing = asyncio.create_task(here.patch(upload, 0, data, body=body, **headers))
    while not body.given:
        await asyncio.sleep(0)
    here.leases._held[upload.id].interrupt(Interruption.LOST)
    with pytest.raises(LeaseLost):
        await writing
    assert await here.offset(upload) == 0
