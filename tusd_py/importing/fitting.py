"""Whether the parts of a foreign multipart upload can go on under our part plan. Pure.

A plan says the size of the next part from its number alone; parts that are there already may have
any size the store will complete. So what has to fit is the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tusd_py.importing.refusals import NotTaken
from tusd_storage import partplan
from tusd_storage.partplan import MIB, MIN_PART_SIZE, PartPlan, StoreLimits
from tusd_storage.records import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What can be used."""

    parts: tuple[Part, ...]
    size: int
    """Of the parts together."""
    rest: int
    """Bytes behind them, in the `.part` object; 0 when they do not follow."""
    lost: int
    """Bytes tusd has that do not follow: clients send them again."""
    plan: PartPlan

    @property
    def offset(self) -> int:
        """What the upload's HEAD will say."""
        return self.size + self.rest


def fit(
    listed: Sequence[Part], rest: int, length: int | None, limits: StoreLimits, *, rewinds: bool
) -> Fitted:
    """What of `listed` (in order of numbers) and of `rest` bytes behind them can be taken over.

    `rewinds`: bytes behind a missing part may be given up, as `tail_loss = rewind` allows.
    Raises: NotTaken.
    """
    total = sum(part.size for part in listed) + rest
    parts = _usable(listed, length)
    size = sum(part.size for part in parts)
    follows = len(parts) == len(listed)
    lost = 0 if follows else total - size
    if lost and not rewinds:
        raise NotTaken(
            "gap",
            f"part {len(parts) + 1} is missing or too small, {lost} bytes behind it do not follow; "
            "with tail_loss = rewind the offset steps back to where it is",
        )
    rest = rest if follows else 0
    if length is not None and size + rest > length:
        raise NotTaken("too_long", f"{size + rest} bytes are there, its length is {length}")
    plan = _plan(parts, size, rest, length, limits)
    return Fitted(parts=parts, size=size, rest=rest, lost=lost, plan=plan)


def _usable(listed: Sequence[Part], length: int | None) -> tuple[Part, ...]:
    """The parts before the first gap. A small part can only be the very last one."""
    parts: list[Part] = []
    size = 0
    for number, part in enumerate(listed, 1):
        ends = size + part.size == length
        if part.number != number or part.size <= 0 or (part.size < MIN_PART_SIZE and not ends):
            break
        parts.append(part)
        size += part.size
    return tuple(parts)


def _plan(
    parts: Sequence[Part], size: int, rest: int, length: int | None, limits: StoreLimits
) -> PartPlan:
    try:
        plan = partplan.plan(length, limits)
    except partplan.TooLarge as error:
        raise NotTaken("too_large", str(error)) from error
    if not parts:
        return plan
    if limits.equal_parts:
        return _equal(parts, size, rest, length, limits)
    count = len(parts)
    if length is None:
        if size < plan.total_of(count):
            raise NotTaken("too_many_parts", f"{count} parts hold too little for an open length")
        return plan
    part_size = max(plan.part_size, _smallest(length - size, limits.max_parts - count))
    if part_size > limits.max_part_size:
        raise NotTaken("too_many_parts", f"after {count} parts the rest does not fit the store")
    return PartPlan(part_size=part_size, max_part_size=limits.max_part_size)


def _smallest(rest: int, count: int) -> int:
    """The part size in bytes, in whole MiB, with which `count` parts hold the rest."""
    if rest <= 0:
        return 0
    if count <= 0:
        raise NotTaken("too_many_parts", "the store takes no more parts for it")
    smallest = -(-rest // count)
    return -(-smallest // MIB) * MIB


def _equal(
    parts: Sequence[Part], size: int, rest: int, length: int | None, limits: StoreLimits
) -> PartPlan:
    """Where all parts must be alike (Cloudflare R2), the plan goes on with theirs."""
    part_size = parts[0].size
    alike = all(part.size == part_size for part in parts[:-1]) and parts[-1].size <= part_size
    if not alike or (parts[-1].size < part_size and size != length) or rest >= part_size:
        raise NotTaken("unequal_parts", "its parts differ, and this store wants them alike")
    if length is not None and length > part_size * limits.max_parts:
        raise NotTaken("too_many_parts", "the rest does not fit the store in parts of this size")
    return PartPlan(part_size=part_size, max_part_size=limits.max_part_size)
