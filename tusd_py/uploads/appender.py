"""One request body on its way into storage: received, cut, sent, committed, and the rest kept.

Owns the order in which things become durable:
1. a full part is sent while the next one is received, a few at a time;
2. parts that landed are committed as far as they follow the ledger without a gap;
3. at the end, however it comes, what is left goes to the tail, is flushed, and then committed.
With a checksum nothing is committed before it matched.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import structlog

from tusd_py.protocol import checksum as checksums
from tusd_py.protocol.checksum import Checksum, Digest
from tusd_py.protocol.errors import InvalidHeader, SizeExceeded
from tusd_py.protocol.requests import BodyFacts
from tusd_py.telemetry.events import BodyReceived, Event
from tusd_py.telemetry.stages import Stage, Stages
from tusd_py.uploads.body import BodyReader, ClientGone, Interrupted, Stop
from tusd_py.uploads.completion import Finisher, object_spec
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.ledger import Ledger
from tusd_py.uploads.memory import MemoryBudget, PartBuffer
from tusd_py.uploads.pace import Pace
from tusd_py.uploads.slicer import Slicer
from tusd_storage.errors import LeaseLost, StorageError, StoreUnavailable
from tusd_storage.pool import despite_cancellation
from tusd_storage.ports import ObjectStore, Spool, Tail
from tusd_storage.records import Part, UploadSession

log = structlog.get_logger(__name__)

T = TypeVar("T")

STALE_S = 0.5
"""Bytes that wait longer in memory for the rest of their part go to the spool."""

FAST_READ = 128 * 1024
"""Bytes that came at once: from here on the next ones are received straight into a slab."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendTools:
    """What every appender of the process shares."""

    config: UploadConfig
    objects: ObjectStore
    finisher: Finisher
    budget: MemoryBudget
    new_spool: Callable[[], Awaitable[Spool]]
    emit: Callable[[Event], None]
    stages: Stages


class Appender:
    """Writes one body to one upload, under a lease. Use once: `run`."""

    def __init__(
        self,
        tools: AppendTools,
        ledger: Ledger,
        tail: Tail,
        reader: BodyReader,
        facts: BodyFacts,
        *,
        max_bytes: int,
    ) -> None:
        session = ledger.session
        self._tools = tools
        self._ledger = ledger
        self._tail = tail
        self._reader = reader
        self._facts = facts
        self._room = max_bytes
        self._slicer = Slicer(
            ledger.plan,
            number=session.parts_count + 1,
            filled=session.tail_size,
            offset=session.offset,
            length=ledger.length,
        )
        self._buffer = PartBuffer(
            tools.budget,
            prefix=tail.range() if session.tail_size else None,
            crc32=session.tail_crc32,
        )
        self._digest: Digest | None = facts.checksum.start() if facts.checksum else None
        self._trailer_digests: dict[str, Digest] = {}
        if facts.checksum_trailer:
            self._trailer_digests = {
                name: Checksum(name, b"").start() for name in checksums.ALGORITHMS
            }
        self._pace = Pace(tools.config.parts_in_flight)
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._unsent: dict[int, PartBuffer] = {}
        self._landed: dict[int, Part] = {}
        self._final: int | None = None
        """The part the upload ends with, once it is on its way: the finisher commits it."""
        self._told_offset = session.offset
        self._opening = asyncio.Lock()
        self._committing = asyncio.Lock()
        self._failure: StorageError | None = None
        self._stop: Stop | None = None
        self._task: asyncio.Task[object] | None = None
        self._reading = False
        self._lent = False
        """Whether the reader may be writing into a slab, or has and we do not know yet."""
        self.last_activity = 0.0
        """Loop time of the last byte received."""

    def stop(self, why: Stop) -> None:
        """Asks the appender to read no further and to keep what it has. May be called any time."""
        if self._stop is None:
            self._stop = why
            if self._reading and self._task is not None:
                self._task.cancel()

    @property
    def progress(self) -> tuple[str, int]:
        """The upload's id, and its offset with what has arrived and is not acknowledged yet."""
        return self._ledger.session.id, self._slicer.offset

    def is_stale(self, now: float) -> bool:
        """Whether bytes wait too long in memory for the rest of their part."""
        buffer = self._buffer
        return (
            self._reading
            and buffer.in_memory
            and now - buffer.pending_since > STALE_S
            and not buffer.moving
        )

    async def spill_if_stale(self, now: float) -> None:
        """Moves them to the spool."""
        if not self.is_stale(now):
            return
        if self._lent:  # the reader may be writing into it; when the watch comes again it will not
            self._reader.withdraw()
            return
        try:
            await self._buffer.spill(self._tools.new_spool)
        except StorageError as error:
            self._fail(error)

    def collect(self, size: int) -> None:
        """Lets so many bytes come before we hear of them; see `BodyReader`."""
        self._reader.collect(size)

    @property
    def idle_since(self) -> float | None:
        """Loop time since when the client has sent nothing; None while we do not read."""
        return self.last_activity if self._reading else None

    @property
    def received(self) -> int:
        """The offset behind the last byte received."""
        return self._slicer.offset

    async def run(self) -> UploadSession:
        """Reads the body to its end, or to the first reason to stop.

        Returns the session as committed; it is `completed` when the last byte was in this body.
        Raises: Interrupted (what arrived is kept), ChecksumMismatch and InvalidHeader (nothing is
        kept), SizeExceeded, LeaseLost, Unavailable, Rejected, UploadGone.
        """
        self._task = asyncio.current_task()
        self.last_activity = asyncio.get_running_loop().time()
        try:
            with self._tools.stages.measure(Stage.RECEIVE):
                stop = await self._receive()
            self._tell_received(stop)
            return await self._settle(stop)
        finally:
            cancelled, buffers = False, (*self._unsent.values(), self._buffer)
            if self._sending or any(buffer.moving for buffer in buffers):
                # Whoever is cancelled once may be so again, and threads read these bytes.
                still = asyncio.ensure_future(self._still(buffers))
                cancelled = await despite_cancellation(still)
            for buffer in buffers:
                buffer.close()
            if cancelled:
                raise asyncio.CancelledError

    async def _still(self, buffers: Iterable[PartBuffer]) -> None:
        """Waits until nothing reads or writes these any more."""
        await self._wait_all()
        for buffer in buffers:
            await buffer.settled()

    async def _receive(self) -> Stop:
        loop_time = asyncio.get_running_loop().time
        try:
            if self._slicer.full():
                await self._feed(b"", self.last_activity)
            size = 0
            while self._stop is None:
                if size >= FAST_READ:
                    size = await self._read_into_slab()
                    if size:
                        continue
                    self._check()
                chunk = await self._read(self._reader.read())
                size = len(chunk)
                if not size:
                    return Stop.END
                now = self.last_activity = loop_time()
                if size > self._room:
                    return Stop.TOO_LONG
                self._room -= size
                self._hash(chunk)
                await self._feed(chunk, now)
        except ClientGone:
            return Stop.DISCONNECTED
        except _Stopped:
            pass
        except StorageError as error:
            self._fail(error)
        return self._stop or Stop.FAILED

    def _tell_received(self, stop: Stop | None) -> None:
        offset = self._slicer.offset
        self._tools.emit(BodyReceived(size=offset - self._told_offset, stop=stop))
        self._told_offset = offset

    async def _read_into_slab(self) -> int:
        """The same for a fast body of known length; 0 when it has to be read the other way."""
        slicer, budget = self._slicer, self._tools.budget
        if slicer.full():
            await self._feed(b"", self.last_activity)
        most = min(slicer.room, self._room)
        if not most:
            return 0
        if budget.spent:
            await self._relieve()
            if budget.spent:
                return 0
        buffer = self._buffer
        await buffer.settled()
        self._check()
        room = buffer.room(self.last_activity)[:most]
        self._lent = True
        try:
            size = await self._read(self._reader.read_into(room))
        finally:
            self._lent = False
        if size:
            self.last_activity = asyncio.get_running_loop().time()
            self._room -= size
            self._hash(room[:size])
            buffer.fill(size)
            [cut] = slicer.feed(room[:size])
            if cut.ends:
                await self._launch()
        await self._relieve()
        return size

    async def _read(self, reading: Awaitable[T]) -> T:
        self._reading = True
        try:
            return await reading
        except asyncio.CancelledError:
            if self._stop is None or self._task is None:
                raise
            self._task.uncancel()
            raise _Stopped from None
        finally:
            self._reading = False

    def _hash(self, chunk: bytes | memoryview) -> None:
        if self._digest is not None:
            self._digest.update(chunk)
        for digest in self._trailer_digests.values():
            digest.update(chunk)

    async def _feed(self, chunk: bytes, now: float) -> None:
        for cut in self._slicer.feed(chunk):
            if cut.data:
                self._buffer.add(cut.data, now)
            if cut.ends:
                await self._launch()
        await self._relieve()

    async def _relieve(self) -> None:
        """With the memory budget spent: wait for parts on their way, or move our bytes to disk."""
        if not self._tools.budget.spent:
            return
        if self._sending:
            await self._wait_one()
        elif not await self._tools.budget.freed() and self._buffer.in_memory:
            await self._buffer.spill(self._tools.new_spool)

    async def _launch(self) -> None:
        """Sends the part that is full; waits while too many are on their way."""
        number = self._slicer.number - 1
        self._tell_received(None)
        buffer, self._buffer = self._buffer, PartBuffer(self._tools.budget, prefix=None, crc32=0)
        self._unsent[number] = buffer
        self._pace.received(self.last_activity - buffer.pending_since)
        while len(self._sending) >= self._pace.parts:
            await self._wait_one()
        self._check()
        self._start(number, buffer)

    def _launch_final(self) -> None:
        """The last bytes go beside parts that are on their way, rather than behind them."""
        if self._sending and self._buffer.size and self._failure is None:
            self._final = self._slicer.number
            self._unsent[self._final] = self._buffer
            self._start(self._final, self._buffer)

    def _start(self, number: int, buffer: PartBuffer) -> None:
        self._sending[number] = asyncio.create_task(self._send(number, buffer))

    async def _open_multipart(self) -> None:
        """Once, by the first part: the client need not wait for it."""
        async with self._opening:
            session = self._ledger.session
            if session.upload_id is not None:
                return
            if self._failure is not None:
                raise self._failure
            begun = perf_counter()
            upload_id = await self._tools.objects.create_multipart(object_spec(session))
            self._pace.answered(perf_counter() - begun)
            await self._ledger.opened(upload_id)

    async def _send(self, number: int, buffer: PartBuffer) -> None:
        budget = self._tools.budget
        budget.leaving += 1
        try:
            await self._open_multipart()
            await buffer.settled()
            session = self._ledger.session
            begun = perf_counter()
            with self._tools.stages.measure(Stage.PART, size=buffer.size):
                self._landed[number] = await self._tools.objects.upload_part(
                    session.bucket,
                    session.object_key,
                    session.upload_id or "",
                    number,
                    buffer.body(),
                )
            self._pace.sent(perf_counter() - begun)
            if number != self._final:
                del self._unsent[number]
                buffer.close()
            if not self._facts.checked:
                await self._commit_landed()
        except StorageError as error:
            self._fail(error)
        except Exception as error:
            log.exception("part_failed", upload=self._ledger.session.id, number=number)
            self._fail(StoreUnavailable(f"part {number}: {type(error).__name__}"))
        finally:
            budget.leaving -= 1
            del self._sending[number]

    async def _commit_landed(self) -> None:
        """Appends the parts that continue the ledger without a gap."""
        async with self._committing:
            parts = []
            number = self._ledger.session.parts_count + 1
            while number in self._landed and number != self._final:
                parts.append(self._landed.pop(number))
                number += 1
            if not parts or isinstance(self._failure, LeaseLost):
                return
            size = sum(part.size for part in parts)
            await self._ledger.commit(
                parts=parts,
                to_offset=self._ledger.session.parts_size + size,
                tail_crc32=0,
                tail=None if self._tail.exists else self._tail.append((), crc32=0),
            )
            self._tail.drop()

    def _fail(self, error: StorageError) -> None:
        self._failure = self._failure or error
        self.stop(Stop.FAILED)

    def _check(self) -> None:
        if self._stop is not None:
            raise _Stopped

    async def _wait_one(self) -> None:
        await asyncio.wait(self._sending.values(), return_when=asyncio.FIRST_COMPLETED)

    async def _wait_all(self) -> None:
        while self._sending:
            await asyncio.wait(self._sending.values())

    async def _settle(self, stop: Stop) -> UploadSession:
        ended = stop is Stop.END and self._slicer.offset == self._ledger.length
        if ended:
            self._launch_final()
        await self._wait_all()
        for buffer in (*self._unsent.values(), self._buffer):
            await buffer.settled()
        if stop is Stop.END and self._failure is not None:
            ended, stop = False, Stop.FAILED
        if isinstance(self._failure, LeaseLost) or stop is Stop.LOST:
            raise LeaseLost(self._ledger.session.id)
        if self._facts.checked:
            self._verify(stop)
        await self._commit_landed()
        if ended:
            return await self._finish()
        if stop is not Stop.TOO_LONG:
            await self._keep(release=stop is not Stop.END or not self._ledger.lease.may_stay)
        self._raise(stop)
        return self._ledger.session

    def _verify(self, stop: Stop) -> None:
        """Checksum: nothing of the chunk is kept unless all of it came and matches."""
        if stop is not Stop.END:
            self._raise(stop)
        checksum, digest = self._facts.checksum, self._digest
        if checksum is None:
            text = self._reader.trailer("upload-checksum")
            if text is None:
                raise InvalidHeader("Upload-Checksum", "was announced as a trailer but never came")
            checksum = checksums.parse(text)
            digest = self._trailer_digests[checksum.algorithm]
        if digest is not None:
            checksum.check(digest)

    async def _finish(self) -> UploadSession:
        """The last byte is here: make the object. If the store cannot, keep the bytes."""
        try:
            sent = None if self._final is None else self._landed[self._final]
            return await self._tools.finisher.finish(self._ledger, self._buffer.body(), sent=sent)
        except StorageError as error:
            if not isinstance(error, LeaseLost) and not self._ledger.session.received:
                self._failure = error
                await self._keep(release=True)
            raise

    async def _keep(self, *, release: bool) -> None:
        """What follows the ledger goes to the tail, is flushed, and is then acknowledged."""
        session = self._ledger.session
        number = session.parts_count + 1
        rest = self._unsent.get(number, self._buffer if number == self._slicer.number else None)
        if rest is None:
            return
        if rest.size == session.tail_size and not self._ledger.declares_length:
            return
        new = rest.new()
        writing = None
        if new or not self._tail.exists:
            writing = self._tail.append(new, crc32=rest.crc32)
        await self._ledger.commit(
            to_offset=session.parts_size + rest.size,
            tail_crc32=rest.crc32,
            release=release,
            tail=writing,
        )

    def _raise(self, stop: Stop) -> None:
        if self._failure is not None:
            raise self._failure
        if stop is Stop.TOO_LONG:
            raise SizeExceeded("the body is longer than the upload may be")
        if stop is not Stop.END:
            raise Interrupted(stop)


class _Stopped(Exception):
    """Unwinds the receiving loop once `stop` was called."""
