"""Final uploads on every store: content, order, partials of every size, faults and retries."""

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.faulty_store import FaultyStore
from tests.support.harness import Node, node
from tests.support.memory_store import MemoryStore
from tusd_py.protocol.errors import FinalNotWritable, NotConcatenable, UploadGone
from tusd_storage.errors import StoreUnavailable
from tusd_storage.partplan import MIB, StoreLimits
from tusd_storage.ports import ObjectStore
from tusd_storage.records import SessionState, UploadSession
from tusd_storage.s3 import S3Config, S3Store
from tusd_storage.sql import SqlStore, migrate

SIZES = {
    "one": [7 * MIB],
    "small": [1, 2, 3],
    "nothing": [0, 0],
    "empty between": [6 * MIB, 0, 6 * MIB],
    "large": [5 * MIB, 12 * MIB + 7, 5 * MIB],
    "small in front": [3 * MIB, 12 * MIB, 1 * MIB],
    "small last": [12 * MIB, 17],
    "small around": [17, 5 * MIB - 1, 11 * MIB, 5 * MIB + 1, 2 * MIB, 9 * MIB],
    "many small": [1 * MIB + 1] * 12,
}


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate(url)
    store = SqlStore.connect(url)
    yield store
    await store.aclose()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine | None]:
    yield None if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
async def objects(engine: Engine | None) -> AsyncIterator[ObjectStore]:
    if engine is None:
        yield MemoryStore()
        return
    store = S3Store(S3Config(endpoint=engine.endpoint), session=engine.store_session())
    yield store
    await store.aclose()


@pytest.fixture
async def here(
    sessions: SqlStore, objects: ObjectStore, engine: Engine | None, tmp_path: Path
) -> AsyncIterator[Node]:
    bucket = engine.bucket if engine else "bucket"
    prefix = engine.prefix() if engine else ""
    async with node(sessions, objects, tmp_path / "tails", bucket=bucket, prefix=prefix) as it:
        yield it


async def partial(here: Node, data: bytes) -> UploadSession:
    upload = await here.create(len(data), upload_concat="partial")
    return await here.patch(upload, 0, data) if data else upload


async def final(here: Node, *partials: UploadSession) -> UploadSession:
    names = " ".join(f"/files/{upload.id}" for upload in partials)
    return await here.create(None, upload_concat=f"final;{names}")


STORES = {
    "memory": list(SIZES),
    "seaweed": list(SIZES),
    # Slow, and asked only for what it judges in its own way: which bytes a copied part has.
    "swift": ["large", "small in front", "small last"],
}


@pytest.mark.parametrize(
    ("engine", "sizes"),
    [
        pytest.param(store, SIZES[name], id=f"{store}-{name}")
        for store, names in STORES.items()
        for name in names
    ],
    indirect=["engine"],
)
async def test_the_final_upload_is_its_partials_in_order(here: Node, sizes: list[int]) -> None:
    pieces = [os.urandom(size) for size in sizes]
    partials = [await partial(here, piece) for piece in pieces]
    done = await final(here, *partials)
    assert done.state is SessionState.COMPLETED
    assert done.length == done.offset == sum(sizes)
    assert await here.content(done) == b"".join(pieces)


@pytest.mark.parametrize("engine", ["memory", "seaweed"], indirect=True)
async def test_a_partial_upload_may_appear_twice_and_be_used_again(here: Node) -> None:
    one, two = os.urandom(6 * MIB), os.urandom(100)
    first, second = await partial(here, one), await partial(here, two)
    done = await final(here, first, second, first)
    assert await here.content(done) == one + two + one
    again = await final(here, second, first)
    assert await here.content(again) == two + one


# The rest is the same on every store.


@pytest.fixture
async def faulty(sessions: SqlStore, tmp_path: Path) -> AsyncIterator[Node]:
    async with node(sessions, FaultyStore(MemoryStore()), tmp_path / "tails") as it:
        yield it


def store_of(here: Node) -> FaultyStore:
    assert isinstance(here.objects, FaultyStore)
    return here.objects


async def test_equal_parts_where_the_store_wants_them(sessions: SqlStore, tmp_path: Path) -> None:
    memory = MemoryStore()
    limits = StoreLimits(equal_parts=True)
    async with node(sessions, memory, tmp_path / "tails", limits=limits) as here:
        pieces = [os.urandom(size) for size in (3 * MIB, 12 * MIB, 7 * MIB)]
        done = await final(here, *[await partial(here, piece) for piece in pieces])
        assert await here.content(done) == b"".join(pieces)
        parts = await sessions.parts(done.id)
        assert {part.size for part in parts[:-1]} == {5 * MIB}


class StopsTakingParts(MemoryStore):
    """A store that takes only so many parts more."""

    parts_left = 1_000_000

    async def _called(self, method: str, bucket: str) -> None:
        await super()._called(method, bucket)
        if method in {"upload_part", "copy_part"}:
            self.parts_left -= 1
            if self.parts_left < 0:
                raise StoreUnavailable("down")


async def half_copied(
    sessions: SqlStore, store: StopsTakingParts, here: Node, pieces: list[bytes], parts: int
) -> UploadSession:
    """A final upload that has at most `parts` of its parts, and at least one."""
    partials = [await partial(here, piece) for piece in pieces]
    store.parts_left = parts
    with pytest.raises(StoreUnavailable):
        await final(here, *partials)
    store.parts_left = 1_000_000
    (left,) = [row for row in await sessions.list_sessions(limit=100) if row.concat]
    assert 0 < left.parts_count <= parts and left.offset == left.parts_size > 0
    return left


FEW, EQUAL = StoreLimits(), StoreLimits(equal_parts=True)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param(FEW, EQUAL, id="few, then equal"),
        pytest.param(EQUAL, FEW, id="equal, then few"),
        pytest.param(EQUAL, StoreLimits(equal_parts=True, part_size=8 * MIB), id="another size"),
        pytest.param(FEW, StoreLimits(max_part_size=6 * MIB), id="smaller parts"),
    ],
)
@pytest.mark.parametrize("parts", [1, 2, 3])
async def test_a_half_copied_final_upload_goes_on_under_other_settings(
    sessions: SqlStore, tmp_path: Path, before: StoreLimits, now: StoreLimits, parts: int
) -> None:
    """It was completed with some bytes twice and others never, or was stuck for good."""
    store = StopsTakingParts()
    pieces = [os.urandom(7 * MIB) for _ in range(5)]
    async with node(sessions, store, tmp_path / "a", limits=before) as here:
        left = await half_copied(sessions, store, here, pieces, parts)
    async with node(sessions, store, tmp_path / "b", limits=now) as here:
        done = await here.engine.status(left)
        assert done.state is SessionState.COMPLETED
        assert await here.content(done) == b"".join(pieces)
        assert done.crc32 == zlib.crc32(b"".join(pieces))


async def test_a_half_copied_final_upload_that_cannot_go_on_fails(
    sessions: SqlStore, tmp_path: Path
) -> None:
    store = StopsTakingParts()
    pieces = [os.urandom(size) for size in (6 * MIB, 7 * MIB, 8 * MIB)]
    async with node(sessions, store, tmp_path / "a") as here:
        left = await half_copied(sessions, store, here, pieces, 2)
    async with node(sessions, store, tmp_path / "b", limits=EQUAL) as here:
        with pytest.raises(UploadGone):
            await here.engine.status(left)
        row = await here.engine.find(left.id)
        assert (row.state, row.failure) == (SessionState.FAILED, "copy_plan_changed")
        assert row.cleanup_reason == "copy_plan_changed"  # the reaper aborts what was copied
        partials = [await here.engine.find(name) for name in row.concat]
        again = await final(here, *partials)
        assert await here.content(again) == b"".join(pieces)


async def test_what_passes_through_many_final_uploads_is_counted_and_bounded(
    faulty: Node, sessions: SqlStore
) -> None:
    """A dozen of them held a dozen times four parts in memory, which nothing counted."""
    pieces = [os.urandom(1 * MIB) for _ in range(11)]
    partials = [await partial(faulty, piece) for piece in pieces]
    store = store_of(faulty)
    reads = store.calls["read"]
    gate = store.hold("upload_part")
    finals = [asyncio.create_task(final(faulty, *partials)) for _ in range(12)]
    while not await all_opened(sessions, len(finals)) or store.calls["upload_part"] < 4:
        await asyncio.sleep(0.01)
    assert store.calls["upload_part"] == 4
    assert store.calls["read"] - reads == 4 * 5
    assert faulty.engine.memory_used == 4 * 5 * MIB
    gate.set()
    for done in await asyncio.gather(*finals):
        assert await faulty.content(done) == b"".join(pieces)
    assert faulty.engine.memory_used == 0


async def all_opened(sessions: SqlStore, count: int) -> bool:
    rows = await sessions.list_sessions(limit=100)
    return sum(1 for row in rows if row.concat and row.upload_id) == count


async def test_what_is_larger_than_the_memory_waits_on_disk(
    sessions: SqlStore, tmp_path: Path
) -> None:
    store = FaultyStore(MemoryStore())
    limits = StoreLimits(equal_parts=True, part_size=32 * MIB)
    async with node(
        sessions, store, tmp_path / "tails", limits=limits, memory_budget=16 * MIB
    ) as here:
        pieces = [os.urandom(20 * MIB), os.urandom(13 * MIB)]
        partials = [await partial(here, piece) for piece in pieces]
        gate = store.hold("upload_part")
        task = asyncio.create_task(final(here, *partials))
        while not store.calls["upload_part"]:
            await asyncio.sleep(0.01)
        assert here.engine.memory_used <= 6 * MIB
        gate.set()
        done = await task
        assert await here.content(done) == b"".join(pieces)
        assert here.engine.memory_used == 0


async def test_the_checksum_of_the_whole_is_composed(faulty: Node) -> None:
    pieces = [os.urandom(size) for size in (3 * MIB, 12 * MIB, 17)]
    done = await final(faulty, *[await partial(faulty, piece) for piece in pieces])
    assert done.crc32 == zlib.crc32(b"".join(pieces))


@pytest.mark.parametrize("call", ["create_multipart", "copy_part", "read", "complete_multipart"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", [0, 1])
async def test_a_failure_leaves_a_final_upload_that_can_be_finished(
    faulty: Node, call: str, when: str, skip: int
) -> None:
    pieces = [os.urandom(size) for size in (6 * MIB, 1 * MIB, 1 * MIB, 9 * MIB, 6 * MIB)]
    partials = [await partial(faulty, piece) for piece in pieces]
    before = set(store_of(faulty).inner.objects)  # type: ignore[attr-defined]
    store_of(faulty).fail(call, StoreUnavailable("down"), when=when, skip=skip)  # type: ignore[arg-type]
    try:
        done = await final(faulty, *partials)
    except StoreUnavailable:
        rows = await faulty.sessions.list_sessions(limit=100)  # type: ignore[attr-defined]
        (left,) = [row for row in rows if row.concat]
        done = await faulty.engine.status(left)
    assert done.state is SessionState.COMPLETED
    assert await faulty.content(done) == b"".join(pieces)
    assert len(set(store_of(faulty).inner.objects) - before) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_final_upload_that_has_its_parts_needs_its_partials_no_more(
    faulty: Node, when: str
) -> None:
    """It was stuck for good: HEAD refused it, and the sweeps left it and its object alone."""
    pieces = [os.urandom(size) for size in (6 * MIB, 5 * MIB)]
    partials = [await partial(faulty, piece) for piece in pieces]
    store_of(faulty).fail("complete_multipart", StoreUnavailable("down"), when=when)  # type: ignore[arg-type]
    store_of(faulty).fail("head", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await final(faulty, *partials)
    rows = await faulty.sessions.list_sessions(limit=100)  # type: ignore[attr-defined]
    (left,) = [row for row in rows if row.concat]
    for upload in partials:
        await faulty.engine.terminate(upload.id)
    done = await faulty.engine.status(left)
    assert done.state is SessionState.COMPLETED
    assert await faulty.content(done) == b"".join(pieces)
    assert done.crc32 == zlib.crc32(b"".join(pieces))


async def test_unfinished_partials_are_waited_for(faulty: Node) -> None:
    one, two = os.urandom(6 * MIB), os.urandom(7)
    first = await partial(faulty, one)
    second = await faulty.create(len(two), upload_concat="partial")
    waiting = await final(faulty, first, second)
    assert waiting.state is not SessionState.COMPLETED
    status = await faulty.engine.status(await faulty.engine.find(waiting.id))
    assert status.state is not SessionState.COMPLETED
    assert status.length == len(one) + len(two)
    await faulty.patch(second, 0, two)
    done = await faulty.engine.status(await faulty.engine.find(waiting.id))
    assert done.state is SessionState.COMPLETED
    assert await faulty.content(done) == one + two


async def test_what_cannot_be_concatenated_is_refused(faulty: Node) -> None:
    whole = await faulty.create(3)
    await faulty.patch(whole, 0, b"abc")
    gone = await partial(faulty, b"abc")
    await faulty.engine.terminate(gone.id)
    good = await partial(faulty, b"abc")
    for bad in (whole, gone):
        with pytest.raises(NotConcatenable):
            await final(faulty, good, bad)
    with pytest.raises(NotConcatenable):
        await faulty.create(None, upload_concat="final;/files/nothing~here")


async def test_a_final_upload_takes_no_bytes_and_can_be_terminated(faulty: Node) -> None:
    done = await final(faulty, await partial(faulty, b"abc"))
    with pytest.raises(FinalNotWritable):
        await faulty.patch(done, 3, b"")
    await faulty.engine.terminate(done.id)
    with pytest.raises(UploadGone):
        await faulty.engine.status(await faulty.engine.find(done.id))
