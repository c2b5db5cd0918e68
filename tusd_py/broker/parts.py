"""The part list a client completes with: its own rules, and what the store says it has. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tusd_py.broker.errors import InvalidParts
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.records import Part

MAX_PART_NUMBER = 10_000
"""S3: part numbers are 1 to 10,000."""
_MAX_ETAG_LENGTH = 256


@dataclass(frozen=True, slots=True)
class PartName:
    """A part as a client names it."""

    number: int
    etag: str
    """As the store answered it; quotes do not count."""


def ordered(parts: Sequence[PartName]) -> tuple[PartName, ...]:
    """The parts by number. Gaps are refused: a part that was forgotten is the likelier story.

    Raises: InvalidParts.
    """
    if not parts:
        raise InvalidParts("there are no parts")
    if any(not part.etag.strip('"') or len(part.etag) > _MAX_ETAG_LENGTH for part in parts):
        raise InvalidParts("a part has no ETag")
    if len(parts) > MAX_PART_NUMBER:
        raise InvalidParts(f"there are more than {MAX_PART_NUMBER} parts")
    result = tuple(sorted(parts, key=lambda part: part.number))
    for expected, part in enumerate(result, start=1):
        if part.number != expected:
            raise InvalidParts(f"the part numbers are not 1 to {len(result)}, each once")
    return result


def matched(
    wanted: Sequence[PartName], stored: Sequence[Part], *, promised: int | None, longest: int
) -> tuple[Part, ...]:
    """The stored parts that were named, if they make a whole.

    `promised` is the declared size, `longest` the most that is accepted.
    Raises: InvalidParts.
    """
    by_number = {part.number: part for part in stored}
    found: list[Part] = []
    for name in wanted:
        part = by_number.get(name.number)
        if part is None:
            raise InvalidParts(f"part {name.number} is not in the store")
        if part.etag.strip('"') != name.etag.strip('"'):
            raise InvalidParts(f"part {name.number} in the store has another ETag")
        found.append(part)
    _check_sizes(found, promised, longest)
    return tuple(found)


def same(wanted: Sequence[PartName], ledger: Sequence[Part]) -> bool:
    """Whether the names are those of the ledger."""
    named = [(name.number, name.etag.strip('"')) for name in wanted]
    return named == [(part.number, part.etag.strip('"')) for part in ledger]


def _check_sizes(parts: Sequence[Part], promised: int | None, longest: int) -> None:
    for part in parts[:-1]:
        if part.size < MIN_PART_SIZE:
            raise InvalidParts(f"part {part.number} is below {MIN_PART_SIZE} bytes")
    if not parts[-1].size:
        raise InvalidParts(f"part {parts[-1].number} is empty")
    total = sum(part.size for part in parts)
    if promised is not None and total != promised:
        raise InvalidParts(f"the parts hold {total} bytes, {promised} were declared")
    if total > longest:
        raise InvalidParts(f"the parts hold {total} bytes, {longest} are accepted")
