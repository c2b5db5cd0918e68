"""The bytes of a part in the making: their order, and that all memory is given back."""

import asyncio
import random
import weakref
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from tusd_py.uploads import memory
from tusd_py.uploads.memory import MemoryBudget, PartBuffer
from tusd_storage.errors import DiskFull
from tusd_storage.records import FileRange, Segment

SLAB = 64


@pytest.fixture(autouse=True, scope="module")
def small_slabs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "SLAB_SIZE", SLAB)
        yield


class ListSpool:
    """A spool in memory that can be full."""

    def __init__(self) -> None:
        self.data = b""
        self.full = False
        self.size = 0

    async def write(self, segments: Sequence[Segment]) -> None:
        """Appends."""
        if self.full:
            raise DiskFull("full")
        for segment in segments:
            assert not isinstance(segment, FileRange)
            self.data += bytes(segment)
        self.size = len(self.data)

    def range(self) -> FileRange:
        """Stands for all of it."""
        return FileRange(fd=-1, offset=0, size=self.size)

    def close(self) -> None:
        """Nothing to free."""


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 100)),
        st.tuples(st.just("fill"), st.integers(0, SLAB)),
        st.tuples(st.sampled_from(["spill", "fail"]), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps=STEPS)
async def test_bytes_keep_their_order_and_memory_comes_back(steps: list[tuple[str, int]]) -> None:
    budget = MemoryBudget(limit=1000)
    buffer = PartBuffer(budget, prefix=None, crc32=0)
    spool = ListSpool()
    wanted = b""

    async def new_spool() -> ListSpool:
        return spool

    for step, size in steps:
        if step == "add":
            data = random.randbytes(size)
            buffer.add(data, 0.0)
            wanted += data
        elif step == "fill":
            room = buffer.room(0.0)
            data = random.randbytes(min(size, len(room)))
            room[: len(data)] = data
            if data:
                buffer.fill(len(data))
            wanted += data
        else:
            spool.full = step == "fail"
            try:
                await buffer.spill(new_spool)
            except DiskFull:
                assert buffer.in_memory
            else:
                assert not buffer.in_memory and budget.used == 0
    segments = buffer.new()
    in_memory = b"".join(bytes(s) for s in segments if not isinstance(s, FileRange))
    assert spool.data + in_memory == wanted
    assert buffer.size == len(wanted) and buffer.crc32 == isal_zlib.crc32(wanted)
    buffer.close()
    assert budget.used == 0


async def test_a_slab_is_used_again() -> None:
    budget = MemoryBudget(limit=1000)
    first = PartBuffer(budget, prefix=None, crc32=0)
    slab = first.room(0.0).obj
    first.close()
    assert PartBuffer(budget, prefix=None, crc32=0).room(0.0).obj is slab


async def test_slabs_that_nobody_takes_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_UNUSED_S", 0.01)
    budget = MemoryBudget(limit=1000)
    slabs = [budget.take_slab() for _ in range(3)]
    unused, _, used = [weakref.ref(slab.obj) for slab in slabs]
    while slabs:
        budget.give_slab(slabs.pop(0))
    async with asyncio.timeout(10):
        while unused() is not None:  # meanwhile one slab is enough
            budget.give_slab(budget.take_slab())
            await asyncio.sleep(0.001)
        assert used() is not None
        while used() is not None:
            await asyncio.sleep(0.001)
    assert budget.used == 0


async def test_who_waits_for_memory_is_woken_when_there_is_some() -> None:
    budget = MemoryBudget(limit=2 * SLAB)
    budget.leaving = 1
    slabs = [budget.take_slab() for _ in range(3)]
    waiting = [asyncio.create_task(budget.freed()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    budget.give_slab(slabs.pop())
    await asyncio.sleep(0)
    assert not waiting[1].done() and budget.spent  # still no room
    budget.give_slab(slabs.pop())
    assert await waiting[1] and not budget.spent
    assert waiting[0].cancelled()


async def test_nobody_waits_for_memory_that_nobody_is_about_to_give() -> None:
    budget = MemoryBudget(limit=SLAB)
    budget.take_slab()
    async with asyncio.timeout(memory._PATIENCE_S / 2):
        assert not await budget.freed()


async def test_who_waited_in_vain_spares_the_others_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_S", 0.01)
    budget = MemoryBudget(limit=SLAB)
    budget.leaving = 1
    slab = budget.take_slab()
    assert not await budget.freed()
    monkeypatch.setattr(memory, "_PATIENCE_S", 60)
    async with asyncio.timeout(5):
        assert not await budget.freed()  # the store does not move
    budget.give_slab(slab)
    budget.take_slab()
    waiting = asyncio.create_task(budget.freed())
    await asyncio.sleep(0.01)
    assert not waiting.done()  # it does again
    waiting.cancel()
