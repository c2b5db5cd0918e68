"""What the use cases must be told: limits, times, names. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from tusd_storage.partplan import MIB, StoreLimits, max_length


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadConfig:
    """Settings of the tus use cases."""

    bucket: str
    node: str
    """Short stable name of this node; the first part of the ids it gives out."""
    prefix: str = ""
    """Put before every object key."""
    profile: str = "default"
    limits: StoreLimits = field(default_factory=StoreLimits)
    max_size: int | None = None
    """Longest upload in bytes; None for what the store can hold."""
    profile_max_sizes: Mapping[str, int] = field(default_factory=dict)
    """Longest upload in bytes of the other profiles that have a maximum of their own."""
    expires_in: timedelta = timedelta(hours=24)
    """An unfinished upload expires this long after its last accepted byte."""
    max_lifetime: timedelta = timedelta(days=7)
    """No unfinished upload outlives this, however busy."""
    body_idle_timeout_s: float = 60.0
    min_body_rate: int = 0
    """Bytes per second, over `body_idle_timeout_s`, below which a body counts as idle."""
    tail_loss: Literal["fail", "rewind"] = "fail"
    """What to do when acknowledged bytes are not on this node; see `guard`."""
    parts_in_flight: int = 12
    """Parts of one PATCH that may be on their way to the store at once."""
    memory_budget: int = 72 * MIB
    """Bytes of request bodies the process keeps in memory; beyond it they wait on disk."""

    owner_size_limited: bool = False
    """The state gives uploads of deferred length a maximum within their owner's quota."""

    def longest(
        self, *, deferred: bool, profile: str | None = None, max_size: int | None = None
    ) -> int:
        """The longest upload in bytes that a profile (None: this one) and a grant take."""
        if max_size is not None:
            return min(self.longest(deferred=deferred, profile=profile), max_size)
        possible = max_length(self.limits, deferred=deferred)
        if self.max_size is not None:
            possible = min(possible, self.max_size)
        return min(possible, self.profile_max_sizes.get(profile or self.profile, possible))
