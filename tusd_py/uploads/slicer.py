"""Cuts a stream of bytes into parts. Pure: positions in, cuts out."""

from collections.abc import Iterator
from dataclasses import dataclass

from tusd_storage.partplan import PartPlan


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes for the current part; `ends` when they complete it."""

    data: bytes | memoryview
    ends: bool


class Slicer:
    """Follows one upload from `offset` on; `filled` bytes of part `number` are there already.

    A part ends when it is full, except where the upload ends with it: the last bytes stay with
    the caller, who decides between a last part and a single PutObject.
    Any chunking of the same bytes gives the same parts and the same rest.
    """

    def __init__(
        self, plan: PartPlan, *, number: int, filled: int, offset: int, length: int | None
    ) -> None:
        self.number = number
        self.filled = filled
        self.offset = offset
        self._plan = plan
        self._length = length
        self._size = plan.size_of(number)

    def feed(self, chunk: bytes | memoryview) -> Iterator[Cut]:
        """Yields the chunk's bytes in order. The caller must take every cut."""
        if self._full():
            yield self._next(b"")
        room = self._size - self.filled
        if len(chunk) < room:  # the common case: no copy
            self._take(len(chunk))
            yield Cut(chunk, False)
            return
        start = 0
        while start < len(chunk):
            piece = chunk[start : start + self._size - self.filled]
            start += len(piece)
            self._take(len(piece))
            yield self._next(piece) if self._full() else Cut(piece, False)

    @property
    def room(self) -> int:
        """Bytes that the current part still takes."""
        return self._size - self.filled

    def full(self) -> bool:
        """Whether the current part is complete and more bytes must follow it."""
        return self._full()

    def _take(self, count: int) -> None:
        self.filled += count
        self.offset += count

    def _full(self) -> bool:
        return self.filled >= self._size and self.offset != self._length

    def _next(self, piece: bytes | memoryview) -> Cut:
        self.number += 1
        self.filled = 0
        self._size = self._plan.size_of(self.number)
        return Cut(piece, True)
