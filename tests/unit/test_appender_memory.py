"""Memory that is lent, spilled and given back while a body arrives: orders that once went wrong.

The appender is the real one; store, ledger, spool and reader are stepped by hand.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httptools
import pytest
from isal import isal_zlib

from tusd_py.telemetry.stages import Stages
from tusd_py.uploads import appender, memory
from tusd_py.uploads.appender import Appender, AppendTools
from tusd_py.uploads.body import Interrupted, Stop
from tusd_py.uploads.memory import MemoryBudget, PartBuffer
from tusd_storage.errors import StoreUnavailable
from tusd_storage.partplan import MIB, PartPlan
from tusd_storage.records import Part

FAST = 200 * 1024
STALE_S = 0.02


class SlowSpool:
    """Writes when its gate is open; notices being closed while it is written."""

    def __init__(self) -> None:
        self.data = b""
        self.size = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed_in_use = False
        self._writing = False

    async def write(self, segments: Any) -> None:
        self._writing = True
        await self.gate.wait()
        self.data += b"".join(bytes(segment) for segment in segments)
        self.size = len(self.data)
        self._writing = False

    def range(self) -> Any:
        return self

    def close(self) -> None:
        self.closed_in_use |= self._writing


class MemoryTail:
    exists = False
    data = b""

    def range(self) -> None:
        return None

    def append(self, segments: Any, *, crc32: int) -> Any:
        def write() -> None:
            self.exists = True
            self.data += b"".join(
                segment.data if isinstance(segment, SlowSpool) else bytes(segment)
                for segment in segments
            )

        return write

    def drop(self) -> None:
        self.data = b""


class MemoryLedger:
    def __init__(self, *, length: int | None, part: int, upload_id: str | None = "u") -> None:
        self.session = SimpleNamespace(
            id="upload",
            parts_count=0,
            tail_size=0,
            tail_crc32=0,
            offset=0,
            parts_size=0,
            upload_id=upload_id,
            bucket="b",
            object_key="k",
            received=False,
            token="t",
            content_type=None,
            filename=None,
        )
        self.plan = PartPlan(part_size=part, growth=10_000, max_part_size=part)
        self.length = length
        self.declares_length = False
        self.lease = SimpleNamespace(may_stay=False)

    async def commit(self, *, parts: Any = (), to_offset: int, tail: Any = None, **_: Any) -> None:
        if tail is not None:
            tail()
        self.session.parts_count += len(parts)
        self.session.parts_size += sum(part.size for part in parts)
        self.session.offset = to_offset


class SteppedReader:
    """Gives what the test puts in, one way or the other."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.room: memoryview | None = None
        self._waiting: asyncio.Future[int] | None = None

    async def read(self) -> bytes:
        return await self.queue.get()

    async def read_into(self, room: memoryview) -> int:
        self.room = room
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting
        finally:
            self.room = None

    @property
    def at_hand(self) -> bool:
        return not self.queue.empty()

    def withdraw(self) -> None:
        if self.room is not None and self._waiting is not None and not self._waiting.done():
            self.room = None
            self._waiting.set_result(0)

    def collect(self, size: int) -> None:
        pass

    def arrive(self, data: bytes) -> None:
        """Bytes straight into the room that was lent."""
        assert self.room is not None and self._waiting is not None
        self.room[: len(data)] = data
        self._waiting.set_result(len(data))

    def trailer(self, name: str) -> None:
        return None


class Bench:
    """An appender at work, and everything around it."""

    def __init__(self, *, length: int | None = None, part: int = 4 * MIB, **ledger: Any) -> None:
        self.budget = MemoryBudget(10 * MIB)
        self.spool = SlowSpool()
        self.new_spool = asyncio.Event()
        self.new_spool.set()
        self.reader = SteppedReader()
        self.ledger = MemoryLedger(length=length, part=part, **ledger)
        self.tail = MemoryTail()
        self.upload_part: Callable[..., Awaitable[Part]] = stored
        self.finished_with: list[int] = []
        tools = AppendTools(
            config=SimpleNamespace(parts_in_flight=4),  # type: ignore[arg-type]
            objects=SimpleNamespace(  # type: ignore[arg-type]
                upload_part=lambda *call: self.upload_part(*call), create_multipart=unavailable
            ),
            finisher=SimpleNamespace(finish=self._finish),  # type: ignore[arg-type]
            budget=self.budget,
            new_spool=self._spool,
            emit=lambda event: None,
            stages=Stages(),
        )
        facts = SimpleNamespace(checksum=None, checksum_trailer=False, checked=False)
        self.appender = Appender(
            tools,
            self.ledger,  # type: ignore[arg-type]
            self.tail,  # type: ignore[arg-type]
            self.reader,
            facts,  # type: ignore[arg-type]
            max_bytes=1 << 40,
        )
        self.run = asyncio.create_task(self.appender.run())

    async def _spool(self) -> Any:
        await self.new_spool.wait()
        return self.spool

    async def _finish(self, ledger: MemoryLedger, last: Any) -> Any:
        self.finished_with.append(ledger.session.parts_size + last.size)
        return ledger.session

    async def stale(self) -> asyncio.Task[None]:
        """The watch finds bytes that have waited too long."""
        await asyncio.sleep(1.5 * STALE_S)
        now = asyncio.get_running_loop().time()
        return asyncio.create_task(self.appender.spill_if_stale(now))

    async def end(self) -> None:
        """The body ends; its faults are raised."""
        if not self.run.done():
            self.reader.queue.put_nowait(b"")
            await spin()
            self.reader.withdraw()
        async with asyncio.timeout(5):
            await asyncio.wait([self.run])
        assert not self.spool.closed_in_use
        self.run.result()


async def stored(_: str, __: str, ___: str, number: int, body: Any) -> Part:
    return Part(number=number, size=body.size, etag="e", crc32=body.crc32)


async def unavailable(*_: Any) -> str:
    raise StoreUnavailable("down")


async def spin(times: int = 20) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def soon_stale(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(appender, "STALE_S", STALE_S)
    yield


async def test_a_slab_is_not_given_back_while_it_is_lent() -> None:
    bench = Bench(length=None)
    landing = asyncio.Event()

    async def slow(*call: Any) -> Part:
        await landing.wait()
        return await stored(*call)

    bench.upload_part = slow
    bench.new_spool.clear()
    bench.reader.queue.put_nowait(bytes(4 * MIB))  # the first part is on its way
    await spin()
    bench.reader.arrive(b"A" * FAST)  # the second begins in a slab
    await spin()
    spilling = await bench.stale()
    await spin()
    bench.budget.used += 10 * MIB  # others have spent the budget
    bench.reader.queue.put_nowait(b"A" * FAST)
    await spin()
    bench.budget.used -= 10 * MIB
    landing.set()
    await spin()
    bench.new_spool.set()
    await spin()
    other = PartBuffer(bench.budget, prefix=None, crc32=0)
    room = other.room(0.0)
    room[:] = b"B" * len(room)
    other.fill(len(room))
    if bench.reader.room is None:
        bench.reader.queue.put_nowait(b"A" * FAST)
    else:
        bench.reader.arrive(b"A" * FAST)
    await spin()
    held = b"".join(bytes(segment) for segment in other.new())  # type: ignore[arg-type]
    assert isal_zlib.crc32(held) == other.crc32
    await spilling
    await bench.end()


@pytest.mark.parametrize("spooled", [False, True])
async def test_the_watch_leaves_alone_what_has_just_arrived(spooled: bool) -> None:
    bench = Bench(length=None)
    bench.reader.queue.put_nowait(bytes(4 * MIB))
    await spin()
    if spooled:
        bench.reader.arrive(b"A" * FAST)
        await spin()
        await (await bench.stale())
        await spin()
        bench.reader.queue.put_nowait(b"A" * FAST)
        await spin()
        bench.spool.gate.clear()
    spilling = await bench.stale()
    bench.reader.arrive(b"A" * FAST)  # the watch runs before the appender wakes up
    await spin()
    bench.spool.gate.set()
    await spin()
    await spilling
    await bench.end()


async def test_bytes_on_their_way_to_the_spool_are_kept_too() -> None:
    bench = Bench(length=None, part=MIB, upload_id=None)
    bench.spool.gate.clear()
    bench.reader.queue.put_nowait(b"A" * 3 * FAST)
    await spin()
    bench.reader.withdraw()
    await spin()
    spilling = await bench.stale()
    await spin()
    bench.reader.queue.put_nowait(
        b"B" * (MIB - 3 * FAST + 1)
    )  # full; no multipart upload can begin
    await spin()
    bench.spool.gate.set()
    await spilling
    with pytest.raises(StoreUnavailable):
        await bench.end()
    assert len(bench.tail.data) == bench.ledger.session.offset


async def test_a_part_that_fails_in_an_unknown_way_is_missed() -> None:
    bench = Bench(length=2 * MIB + 5, part=MIB)

    async def odd(*call: Any) -> Part:
        if call[3] == 1:
            raise httptools.HttpParserUpgrade(52)
        return await stored(*call)

    bench.upload_part = odd
    for piece in (bytes(MIB), bytes(MIB), bytes(5)):
        bench.reader.queue.put_nowait(piece)
        await spin()
        bench.reader.withdraw()
        await spin()
    with pytest.raises(StoreUnavailable):
        await bench.end()
    assert not bench.finished_with


async def ended(bench: Bench) -> None:
    """The appender reads no further, though its client neither sends nor leaves."""
    async with asyncio.timeout(5):
        await asyncio.wait([bench.run])
    with pytest.raises(Interrupted):
        bench.run.result()


async def test_who_is_told_to_stop_while_it_makes_room_reads_no_further() -> None:
    bench = Bench(length=None)
    bench.new_spool.clear()
    bench.reader.queue.put_nowait(b"A" * FAST)
    await spin()
    bench.budget.used += 10 * MIB  # others have spent the budget
    bench.reader.withdraw()
    await spin()
    bench.appender.stop(Stop.WANTED)
    bench.new_spool.set()
    await ended(bench)
    assert bench.tail.data == b"A" * FAST


async def test_who_is_told_to_stop_before_a_slab_is_free_reads_no_further() -> None:
    bench = Bench(length=None)
    bench.reader.queue.put_nowait(b"A" * 10)
    await spin()
    bench.spool.gate.clear()
    spilling = await bench.stale()
    await spin()
    bench.reader.queue.put_nowait(b"B" * FAST)
    await spin()
    assert bench.reader.room is None
    bench.appender.stop(Stop.SHUTDOWN)
    bench.spool.gate.set()
    await spilling
    await ended(bench)
    assert bench.tail.data == b"A" * 10 + b"B" * FAST


async def test_who_reads_fast_waits_for_what_others_send_and_needs_no_disk() -> None:
    bench = Bench(length=None)
    bench.budget.leaving += 1
    bench.budget.used += 10 * MIB  # others have spent the budget, and are sending
    bench.reader.queue.put_nowait(b"A" * FAST)
    await spin()
    assert bench.reader.room is None and bench.reader.queue.empty()
    bench.budget.give(10 * MIB)
    await spin()
    assert bench.reader.room is not None
    assert bench.spool.data == b""
    await bench.end()
    assert bench.tail.data == b"A" * FAST


async def test_who_waits_for_others_in_vain_goes_to_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_S", 0.01)
    bench = Bench(length=None)
    bench.budget.leaving += 1
    bench.budget.used += 10 * MIB
    bench.reader.queue.put_nowait(b"A" * FAST)
    async with asyncio.timeout(5):
        while bench.spool.data != b"A" * FAST:
            await asyncio.sleep(0.001)
    bench.reader.queue.put_nowait(b"B" * FAST)
    await spin()
    bench.reader.queue.put_nowait(b"")
    await bench.run
    assert bench.tail.data == b"A" * FAST + b"B" * FAST


async def test_who_sends_a_part_is_counted_while_it_does() -> None:
    bench = Bench(length=None)
    counted = []

    async def looked_at(*call: Any) -> Part:
        counted.append(bench.budget.leaving)
        if call[3] == 2:
            raise StoreUnavailable("down")
        return await stored(*call)

    bench.upload_part = looked_at
    bench.reader.queue.put_nowait(bytes(8 * MIB))
    await spin()
    assert counted == [1, 1] and bench.budget.leaving == 0
    with pytest.raises(StoreUnavailable):
        await bench.end()


async def test_whoever_is_cancelled_again_and_again_leaves_nothing_behind() -> None:
    """As a time-out of a framework around the application does it."""
    bench = Bench(length=None)
    landing = asyncio.Event()

    async def slow(*call: Any) -> Part:
        await landing.wait()
        return await stored(*call)

    bench.upload_part = slow
    bench.reader.queue.put_nowait(bytes(4 * MIB))
    await spin()
    bench.reader.arrive(b"A" * FAST)
    await spin()
    for _ in range(5):
        bench.run.cancel()
        await spin()
    assert not bench.run.done() and bench.budget.used
    landing.set()
    with pytest.raises(asyncio.CancelledError):
        await bench.run
    assert bench.budget.used == 0 and bench.budget.leaving == 0
