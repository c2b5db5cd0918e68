"""How to build one object from others with as few bytes through this server as possible. Pure.

Source: S3 UploadPartCopy: a copied range is a part like any other, so all but the last need
5 MiB, and none may have more than 5 GiB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tusd_storage.partplan import MIB, MIN_PART_SIZE, StoreLimits, TooLarge, plan

COPY_SIZE = 256 * MIB
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


class PlanChanged(ValueError):
    """What was copied under another plan leaves no way to the whole under this one."""


def plan_copy(
    sizes: Sequence[int],
    limits: StoreLimits,
    *,
    done: Sequence[int] = (),
    copy_size: int = COPY_SIZE,
) -> list[PlannedPart]:
    """Parts that hold the sources' bytes in order; empty sources vanish.

    `done`: sizes of the parts there are already, whatever plan they are of: only what comes after
    them is planned.
    Raises: TooLarge when the whole does not fit the store. PlanChanged when the rest does not fit
    behind what is done: too few parts are left, or they would not be equal.
    """
    total, done_size = sum(sizes), sum(done)
    if total > limits.max_object_size:
        raise TooLarge(total, limits.max_object_size)
    if total < done_size:
        raise PlanChanged("the parts hold more than the sources")
    if total == done_size:
        return []
    rest = _rest(sizes, done_size)
    left = replace(limits, max_parts=limits.max_parts - len(done))
    try:
        part_size = plan(total - done_size, left).part_size
    except TooLarge as error:
        if not done:
            raise
        raise PlanChanged("the store takes too few parts for the rest") from error
    if limits.equal_parts:
        if done:
            part_size = _size_of_all(done, total - done_size, left)
        parts = list(_equal(rest, part_size))
    else:
        parts = _few(rest, left, part_size, copy_size)
    return [PlannedPart(number, spans) for number, spans in enumerate(parts, start=len(done) + 1)]


def _rest(sizes: Sequence[int], done_size: int) -> list[Span]:
    """What the sources hold behind their first `done_size` bytes."""
    rest = []
    for source, size in enumerate(sizes):
        skipped = min(size, done_size)
        done_size -= skipped
        if size > skipped:
            rest.append(Span(source, skipped, size - skipped))
    return rest


def _size_of_all(done: Sequence[int], rest_size: int, left: StoreLimits) -> int:
    """The one size of all parts. Raises: PlanChanged."""
    part_size = done[0]
    if any(size != part_size for size in done):
        raise PlanChanged("the parts are not equal")
    if part_size > left.max_part_size or rest_size > part_size * left.max_parts:
        raise PlanChanged("the store takes too few parts of this size for the rest")
    return part_size


def _few(
    rest: Sequence[Span], limits: StoreLimits, part_size: int, copy_size: int
) -> list[tuple[Span, ...]]:
    """Not more parts than the store takes, and as much of them copied as that allows."""
    gather = MIN_PART_SIZE  # what is gathered passes through this server
    largest = min(limits.max_part_size, max(copy_size, part_size))
    while gather <= limits.max_part_size:
        parts = list(_greedy(rest, gather, largest))
        if len(parts) <= limits.max_parts:
            return parts
        gather, largest = gather * 2, min(limits.max_part_size, largest * 2)
    return list(_equal(rest, part_size))


def _greedy(rest: Sequence[Span], gather: int, largest: int) -> Iterator[tuple[Span, ...]]:
    """Copies what is large enough; gathers small pieces until they are."""
    gathered: list[Span] = []
    size = 0
    for source in rest:
        offset, end = source.offset, source.offset + source.size
        while offset < end:
            left = end - offset
            if not gathered and left >= gather:
                take = left
                if left > largest:  # leave enough for a copy, and never make a part too small
                    take = max(MIN_PART_SIZE, min(largest, left - gather))
                yield (Span(source.source, offset, take),)
            else:
                take = min(left, gather - size)
                gathered.append(Span(source.source, offset, take))
                size += take
                if size >= gather:
                    yield tuple(gathered)
                    gathered, size = [], 0
            offset += take
    if gathered:
        yield tuple(gathered)


def _equal(rest: Sequence[Span], part_size: int) -> Iterator[tuple[Span, ...]]:
    """Cuts the whole at multiples of the part size, wherever that falls in the sources."""
    spans: list[Span] = []
    room = part_size
    for source in rest:
        offset, end = source.offset, source.offset + source.size
        while offset < end:
            take = min(room, end - offset)
            spans.append(Span(source.source, offset, take))
            offset += take
            room -= take
            if not room:
                yield tuple(spans)
                spans, room = [], part_size
    if spans:
        yield tuple(spans)
