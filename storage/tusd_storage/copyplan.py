"""How to build one object from others with as few bytes through this server as possible. Pure.

Source: S3 UploadPartCopy: a copied range is a part like any other, so all but the last need
5 MiB, and none may have more than 5 GiB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tusd_storage.partplan import GIB, MIN_PART_SIZE, StoreLimits, plan

COPY_SIZE = GIB
"""Bytes one UploadPartCopy moves: small enough to answer in time, and to run several at once."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one source object."""

    source: int
    """Index into the sources."""
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part of the new object. A single span is copied by the store, several pass through."""

    number: int
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(span.size for span in self.spans)

    @property
    def copied(self) -> bool:
        """Whether the store can do it alone."""
        return len(self.spans) == 1


def plan_copy(
    sizes: Sequence[int], limits: StoreLimits, *, copy_size: int = COPY_SIZE
) -> list[PlannedPart]:
    """Parts that hold the sources' bytes in order; empty sources vanish.

    Raises: TooLarge when the whole does not fit the store.
    """
    total = sum(sizes)
    equal = plan(total, limits)
    if limits.equal_parts:
        return _numbered(_equal(sizes, equal.part_size))
    gather = MIN_PART_SIZE  # what is gathered passes through memory
    largest = min(limits.max_part_size, max(copy_size, equal.part_size))
    while True:
        parts = list(_greedy(sizes, gather, largest))
        if len(parts) <= limits.max_parts:
            return _numbered(parts)
        gather, largest = gather * 2, min(limits.max_part_size, largest * 2)
        if gather > limits.max_part_size:
            return _numbered(_equal(sizes, equal.part_size))


def _greedy(sizes: Sequence[int], gather: int, largest: int) -> Iterator[tuple[Span, ...]]:
    """Copies what is large enough; gathers small pieces until they are."""
    gathered: list[Span] = []
    size = 0
    for source, length in enumerate(sizes):
        offset = 0
        while offset < length:
            left = length - offset
            if not gathered and left >= gather:
                take = left
                if left > largest:  # leave enough for a copy, and never make a part too small
                    take = max(MIN_PART_SIZE, min(largest, left - gather))
                yield (Span(source, offset, take),)
            else:
                take = min(left, gather - size)
                gathered.append(Span(source, offset, take))
                size += take
                if size >= gather:
                    yield tuple(gathered)
                    gathered, size = [], 0
            offset += take
    if gathered:
        yield tuple(gathered)


def _equal(sizes: Sequence[int], part_size: int) -> Iterator[tuple[Span, ...]]:
    """Cuts the whole at multiples of the part size, wherever that falls in the sources."""
    spans: list[Span] = []
    room = part_size
    for source, length in enumerate(sizes):
        offset = 0
        while offset < length:
            take = min(room, length - offset)
            spans.append(Span(source, offset, take))
            offset += take
            room -= take
            if not room:
                yield tuple(spans)
                spans, room = [], part_size
    if spans:
        yield tuple(spans)


def _numbered(parts: Iterator[tuple[Span, ...]] | list[tuple[Span, ...]]) -> list[PlannedPart]:
    return [PlannedPart(number, spans) for number, spans in enumerate(parts, start=1)]
