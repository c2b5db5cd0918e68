"""Where received bytes wait for their part: memory while they flow fast, a spool otherwise."""

import asyncio
from collections.abc import Awaitable, Callable

from isal import isal_zlib

from tusd_storage.ports import Spool
from tusd_storage.records import Body, FileRange, Segment


class MemoryBudget:
    """Bytes of request bodies in memory, over all uploads of the process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

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
        """Loop time of the oldest byte in memory."""
        self._budget = budget
        self._prefix = prefix
        self._spool: Spool | None = None
        self._chunks: list[bytes] = []
        self._in_memory = 0
        self._writing = asyncio.Lock()

    @property
    def in_memory(self) -> int:
        """Bytes held in memory."""
        return self._in_memory

    def add(self, data: bytes, now: float) -> None:
        """Takes bytes into memory."""
        if not self._chunks:
            self.pending_since = now
        self._chunks.append(data)
        self.size += len(data)
        self._in_memory += len(data)
        self._budget.used += len(data)
        self.crc32 = isal_zlib.crc32(data, self.crc32)

    async def spill(self, new_spool: Callable[[], Awaitable[Spool]]) -> None:
        """Moves what is in memory to the spool. Raises: DiskFull."""
        async with self._writing:
            if not self._chunks:
                return
            if self._spool is None:
                self._spool = await new_spool()
            chunks, self._chunks = self._chunks, []
            try:
                await self._spool.write(chunks)
            except BaseException:
                self._chunks = chunks + self._chunks
                raise
            self._forget(sum(map(len, chunks)))

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
        return (*spooled, *self._chunks)

    def close(self) -> None:
        """Frees memory and spool. Call it when nothing sends or writes the bytes any more."""
        self._chunks = []
        self._forget(self._in_memory)
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _forget(self, size: int) -> None:
        self._in_memory -= size
        self._budget.used -= size
