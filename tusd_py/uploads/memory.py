"""Where received bytes wait for their part: memory while they flow fast, a spool otherwise.

Fast bodies are received straight into slabs, which are used again: no copy and no new page for a
byte on its way through.
"""

import asyncio
from collections.abc import Awaitable, Callable
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from isal import isal_zlib

from tusd_storage.ports import Spool
from tusd_storage.records import Body, FileRange, Segment

SLAB_SIZE = 1024 * 1024
_UNUSED_S = 0.5
"""Slabs that nobody wants for so long, or twice so long at most, are given back to the system."""
_PATIENCE_S = 0.25
"""How long an upload waits for memory that the store is about to free, before it goes to disk."""


class MemoryBudget:
    """Bytes of request bodies in memory, over all uploads of the process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.leaving = 0
        """Buffers that are on their way to the store, and will be freed when they are there."""
        self._waiting: set[asyncio.Future[None]] = set()
        self._stalled = False
        """Whether somebody waited in vain since memory was last to be had."""
        self._spare: list[memoryview] = []
        self._unused = 0
        """So many of the spare ones, at least, nobody took since we looked last."""
        self._looking = False

    def take_slab(self) -> memoryview:
        """`SLAB_SIZE` bytes of memory with anything in them; counted as used."""
        self.used += SLAB_SIZE
        if not self._spare:
            # Memory of the C library would stay with it when it is free.
            return memoryview(mmap(-1, SLAB_SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS))
        slab = self._spare.pop()
        self._unused = min(self._unused, len(self._spare))
        return slab

    def give_slab(self, slab: memoryview) -> None:
        """Takes a slab back, in the event loop. Nobody may read or write it any more."""
        self.give(SLAB_SIZE)
        # The system clears a new one, page by page, while it is filled.
        if self.used + len(self._spare) * SLAB_SIZE < self.limit:
            self._spare.append(slab)
            if not self._looking:
                self._look_later()

    def give(self, count: int) -> None:
        """Takes back so many bytes that were counted as used, in the event loop."""
        self.used -= count
        if self.used < self.limit:
            self._stalled = False
            for one in self._waiting:
                if not one.done():
                    one.set_result(None)

    async def freed(self) -> bool:
        """Waits for what is on its way to the store; False if that frees nothing soon enough."""
        if not self.leaving or self._stalled:
            return False
        one: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(one)
        try:
            await asyncio.wait((one,), timeout=_PATIENCE_S)
        finally:
            self._waiting.discard(one)
        if not one.done():
            self._stalled = True
        return one.done()

    def _look_later(self) -> None:
        self._looking = True
        asyncio.get_running_loop().call_later(_UNUSED_S, self._give_back)

    def _give_back(self) -> None:
        del self._spare[: self._unused]
        self._unused = len(self._spare)
        self._looking = False
        if self._spare:
            self._look_later()

    @property
    def spent(self) -> bool:
        """Whether uploads must move their bytes to disk before they take more."""
        return self.used >= self.limit


class PartBuffer:
    """The bytes of one part in the making, in order: tail, spool, memory."""

    def __init__(self, budget: MemoryBudget, *, prefix: FileRange | None, crc32: int) -> None:
        self.size = prefix.size if prefix else 0
        self.crc32 = crc32
        self.pending_since = 0.0
        """Loop time since when memory is held."""
        self._budget = budget
        self._prefix = prefix
        self._spool: Spool | None = None
        self._held = _Held()
        self._writing = asyncio.Lock()

    @property
    def in_memory(self) -> bool:
        """Whether memory is held."""
        return bool(self._held.chunks or self._held.slabs)

    @property
    def moving(self) -> bool:
        """Whether bytes are on their way from memory to the spool."""
        return self._writing.locked()

    def add(self, data: bytes | memoryview, now: float) -> None:
        """Takes bytes into memory."""
        if not self.in_memory:
            self.pending_since = now
        held = self._held
        held.chunks.append(data)
        held.counted += len(data)
        held.begin = held.end  # what comes into the slab next does not follow what is there
        self._budget.used += len(data)
        self._took(data)

    def room(self, now: float) -> memoryview:
        """Memory for the bytes that come next; `fill` says how many there are."""
        if not self.in_memory:
            self.pending_since = now
        held = self._held
        if held.end == SLAB_SIZE or not held.slabs:
            held.slabs.append(self._budget.take_slab())
            held.begin = held.end = 0
        return held.slabs[-1][held.end :]

    def fill(self, count: int) -> None:
        """So many bytes are in `room` now."""
        held = self._held
        slab, end = held.slabs[-1], held.end + count
        if held.end > held.begin:
            held.chunks[-1] = slab[held.begin : end]
        else:
            held.chunks.append(slab[held.begin : end])
        self._took(slab[held.end : end])
        held.end = end

    def _took(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self.crc32 = isal_zlib.crc32(data, self.crc32)

    async def spill(self, new_spool: Callable[[], Awaitable[Spool]]) -> None:
        """Moves what is in memory to the spool; nobody may be filling `room`. Raises: DiskFull."""
        async with self._writing:
            if not self._held.chunks:
                self._held.free(self._budget)
                return
            if self._spool is None:
                self._spool = await new_spool()
            moving, self._held = self._held, _Held()
            try:
                await self._spool.write(moving.chunks)
            except BaseException:
                self._held = moving.followed_by(self._held)
                raise
            moving.free(self._budget)

    async def settled(self) -> None:
        """Waits until nothing is on its way from memory to the spool."""
        async with self._writing:
            return

    def body(self) -> Body:
        """All bytes of the part."""
        prefix: list[Segment] = [self._prefix] if self._prefix else []
        return Body(segments=(*prefix, *self.new()), size=self.size, crc32=self.crc32)

    def new(self) -> tuple[Segment, ...]:
        """The bytes that are not in the tail yet."""
        spooled: list[Segment] = [self._spool.range()] if self._spool else []
        return (*spooled, *self._held.chunks)

    def close(self) -> None:
        """Frees memory and spool. Call it when nothing sends or writes the bytes any more."""
        self._held.free(self._budget)
        if self._spool is not None:
            self._spool.close()
            self._spool = None


class _Held:
    """Chunks in memory, in order: some of their own, some in slabs."""

    def __init__(self) -> None:
        self.chunks: list[bytes | memoryview] = []
        self.slabs: list[memoryview] = []
        self.begin = 0
        """Where the last chunk begins in the last slab, if it lies there; otherwise `end`."""
        self.end = 0
        """How far the last slab is full."""
        self.counted = 0
        """Bytes of the budget that chunks of their own use."""

    def followed_by(self, later: "_Held") -> "_Held":
        """Both, as one."""
        if not later.slabs:
            later.begin = later.end = SLAB_SIZE  # our last slab is filled no further
        later.chunks = self.chunks + later.chunks
        later.slabs = self.slabs + later.slabs
        later.counted += self.counted
        return later

    def free(self, budget: MemoryBudget) -> None:
        """Gives everything back; holds nothing afterwards."""
        for slab in self.slabs:
            budget.give_slab(slab)
        budget.give(self.counted)
        self.chunks, self.slabs = [], []
        self.begin = self.end = self.counted = 0
