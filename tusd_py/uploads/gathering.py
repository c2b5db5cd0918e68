"""Pieces of partial uploads that pass through this server: read back, held until they are sent.

Owns how much memory that takes, over all final uploads of the process.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager

from tusd_py.uploads.memory import MemoryBudget, PartBuffer
from tusd_storage.copyplan import PlannedPart, Span
from tusd_storage.partplan import MIB
from tusd_storage.ports import ObjectStore, Spool
from tusd_storage.records import Body, UploadSession

GATHERED = 4
"""Parts that are held at once, over all final uploads."""

HELD_SIZE = 5 * MIB
"""Bytes of one part in memory. Larger ones, as stores with equal parts want, wait on disk."""

READS = 8
"""Small pieces of one part that are read at once ..."""

READ_SIZE = 2 * MIB
"""... and the bytes they may have together."""


class Gatherer:
    """Collects the parts that no store can copy."""

    def __init__(
        self,
        objects: ObjectStore,
        budget: MemoryBudget,
        new_spool: Callable[[], Awaitable[Spool]],
    ) -> None:
        self._objects = objects
        self._budget = budget
        self._new_spool = new_spool
        self._room = asyncio.Semaphore(GATHERED)

    @asynccontextmanager
    async def gathered(
        self, part: PlannedPart, partials: Sequence[UploadSession]
    ) -> AsyncIterator[Body]:
        """The bytes of a part, until the block ends; waits for its turn.

        Raises: what `ObjectStore.read` raises, DiskFull.
        """
        async with self._room:
            buffer = PartBuffer(self._budget, prefix=None, crc32=0)
            try:
                await self._fill(buffer, part, partials)
                yield buffer.body()
            finally:
                buffer.close()

    async def _fill(
        self, buffer: PartBuffer, part: PlannedPart, partials: Sequence[UploadSession]
    ) -> None:
        held = 0
        async with aclosing(self._chunks(part, partials)) as chunks:
            async for chunk in chunks:
                buffer.add(chunk, 0.0)
                held += len(chunk)
                if held > HELD_SIZE or self._budget.spent:
                    await buffer.spill(self._new_spool)
                    held = 0

    async def _chunks(
        self, part: PlannedPart, partials: Sequence[UploadSession]
    ) -> AsyncGenerator[bytes, None]:
        for spans in _batches(part.spans):
            if len(spans) == 1:
                async with aclosing(self._read(spans[0], partials)) as reading:
                    async for chunk in reading:
                        yield chunk
                continue
            for chunks in await asyncio.gather(*(self._all(span, partials) for span in spans)):
                for chunk in chunks:
                    yield chunk

    async def _all(self, span: Span, partials: Sequence[UploadSession]) -> list[bytes]:
        return [chunk async for chunk in self._read(span, partials)]

    def _read(self, span: Span, partials: Sequence[UploadSession]) -> AsyncGenerator[bytes, None]:
        source = partials[span.source]
        return self._objects.read(
            source.bucket, source.object_key, offset=span.offset, size=span.size
        )


def _batches(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """What may be read at once; a large piece comes alone."""
    batch: list[Span] = []
    size = 0
    for span in spans:
        if batch and (len(batch) == READS or size + span.size > READ_SIZE):
            yield batch
            batch, size = [], 0
        batch.append(span)
        size += span.size
    if batch:
        yield batch
