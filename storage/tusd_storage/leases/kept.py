"""Leases that stay with their process for a short time after a request, for the next one.

Until then nobody else can write the upload, so its row is known without asking for it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from tusd_storage.leases.lease import Lease
from tusd_storage.records import UploadSession

MOST_KEPT = 4096
"""Leases that stay at once."""


class KeptLeases:
    """What this process has without a request. `keep_s`: for how long; 0 keeps none."""

    def __init__(self, keep_s: float, now: Callable[[], datetime]) -> None:
        self._keep_s = keep_s
        self._now = now
        self._kept: dict[str, _Kept] = {}

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._kept

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def has_room(self) -> bool:
        """Whether another one may stay."""
        return bool(self._keep_s) and len(self._kept) < MOST_KEPT

    def close(self) -> None:
        """None stays any more; those that do are left to be given back."""
        self._keep_s = 0.0

    def put(self, lease: Lease) -> None:
        """Has it stay from now on."""
        self._kept[lease.session.id] = _Kept(lease, time.monotonic())

    def pop(self, session_id: str) -> Lease | None:
        """Takes it out, whether it still lasts or not."""
        kept = self._kept.pop(session_id, None)
        return None if kept is None else kept.lease

    def row(self, session_id: str) -> UploadSession | None:
        """The row of an upload whose lease is here and lasts: nobody else can change it."""
        kept = self._kept.get(session_id)
        if kept is None or not kept.lease.lasts(self._now()):
            return None
        return kept.lease.session

    def leases(self) -> dict[str, Lease]:
        """All of them, by upload."""
        return {session_id: kept.lease for session_id, kept in self._kept.items()}

    def idle(self) -> list[str]:
        """What has stayed as long as it may."""
        latest = time.monotonic() - self._keep_s
        return [session_id for session_id, kept in self._kept.items() if kept.since <= latest]

    def pop_all(self, session_ids: Iterable[str]) -> dict[str, int]:
        """Takes these out: their lease numbers, by upload."""
        return {one: self._kept.pop(one).lease.epoch for one in session_ids}


@dataclass(slots=True)
class _Kept:
    lease: Lease
    since: float
    """Monotonic time when its request ended."""
