"""Part-size arithmetic within a store's limits. Pure.

Source: Amazon S3 multipart upload limits (10,000 parts, 5 MiB to 5 GiB a part, 5 TiB an object;
only the last part may be smaller). Some stores allow fewer parts, or want equal parts (R2).
"""

from tusd_storage.frozen import record

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

MIN_PART_SIZE = 5 * MIB
"""S3 refuses smaller parts, but for the last one, and only at completion."""

GROWTH_STEPS = 12
"""A deferred length may double its part size this often before the store's part count ends."""


class TooLarge(ValueError):
    """The length does not fit the store, whatever the part size."""

    def __init__(self, length: int, maximum: int) -> None:
        super().__init__(f"{length} bytes are more than the {maximum} this store can hold")
        self.length = length
        self.maximum = maximum


@record(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What a store allows; settings of a profile."""

    part_size: int = MIN_PART_SIZE
    """Wanted part size in bytes; grown only where the part count demands it."""
    max_parts: int = 10_000
    max_part_size: int = 5 * GIB
    max_object_size: int = 5 * TIB
    equal_parts: bool = False
    """Every part but the last must have the same size (Cloudflare R2)."""


@record(frozen=True, slots=True, kw_only=True)
class PartPlan:
    """Where the cuts are: a function of the part number alone, so interruptions never move them."""

    part_size: int
    growth: int = 0
    """Parts after which the size doubles; 0 for equal parts."""
    max_part_size: int = 5 * GIB

    def size_of(self, number: int) -> int:
        """Size in bytes of the 1-based part `number`, unless it is the last."""
        if not self.growth:
            return self.part_size
        doubled = self.part_size << ((number - 1) // self.growth)
        return min(doubled, self.max_part_size)

    def total_of(self, count: int) -> int:
        """Bytes that `count` whole parts hold."""
        if not self.growth:
            return self.part_size * count
        total = 0
        while count > 0:
            step = (count - 1) % self.growth + 1
            total += self.size_of(count) * step
            count -= step
        return total


def plan(length: int | None, limits: StoreLimits) -> PartPlan:
    """The plan for an upload of `length` bytes, or of a deferred length (None).

    Raises:
        TooLarge: no part size fits.
    """
    if length is None:
        growth = 0 if limits.equal_parts else max(1, limits.max_parts // GROWTH_STEPS)
        return PartPlan(
            part_size=limits.part_size, growth=growth, max_part_size=limits.max_part_size
        )
    maximum = min(limits.max_object_size, limits.max_parts * limits.max_part_size)
    if length > maximum:
        raise TooLarge(length, maximum)
    part_size = limits.part_size
    if length > part_size * limits.max_parts:
        smallest = -(-length // limits.max_parts)
        part_size = min(-(-smallest // MIB) * MIB, limits.max_part_size)
    return PartPlan(part_size=part_size, max_part_size=limits.max_part_size)


def max_length(limits: StoreLimits, *, deferred: bool) -> int:
    """The longest upload in bytes that a plan of this kind can hold."""
    if not deferred:
        return min(limits.max_object_size, limits.max_parts * limits.max_part_size)
    return min(limits.max_object_size, plan(None, limits).total_of(limits.max_parts))
