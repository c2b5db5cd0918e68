"""Which uploads are under way, and how they move.

Owns the memory of the last moments of each. An upload is under way while somebody writes it, and
for a short while after: clients that send in chunks have no lease between two of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tusd_py.operator.speed import STANDSTILL_S, Speedometer, eta_s
from tusd_storage.lifecycle import OPEN
from tusd_storage.records import SessionState, UploadSession

BETWEEN = timedelta(seconds=15)
"""Without a lease and without progress for longer, an upload is no longer under way."""

_FINISHING = {SessionState.UPLOADED, SessionState.VERIFYING}


class Status(StrEnum):
    """What an upload that is under way does now."""

    RECEIVING = "receiving"
    STALLED = "stalled"
    """A request is open, and no byte comes."""
    WAITING = "waiting"
    """No request is open."""
    FINISHING = "finishing"
    """Every byte is here; the object is being made."""


@dataclass(frozen=True, slots=True)
class Moving:
    """One upload under way."""

    session: UploadSession
    status: Status
    received: int
    """Bytes that have arrived: the offset, and behind it what is not acknowledged yet, as far as
    this process receives them."""
    per_s: float | None
    eta_s: int | None


@dataclass(slots=True)
class _Track:
    began: datetime
    speed: Speedometer = field(default_factory=Speedometer)


class Tracker:
    """Remembers uploads from one look to the next."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    @property
    def known(self) -> list[str]:
        """Ids of what was under way at the last look."""
        return list(self._tracks)

    def look(
        self, rows: Iterable[UploadSession], receiving: Mapping[str, int], now: datetime
    ) -> list[Moving]:
        """What is under way now, what began last first.

        `rows` may hold a session twice and others that are not under way; `receiving` is what this
        process has of bodies, by id.
        """
        current = {row.id: row for row in rows if _is_under_way(row, now)}
        self._tracks = {
            session_id: self._tracks.get(session_id) or _Track(row.created_at)
            for session_id, row in current.items()
        }
        moving = [
            self._measure(row, receiving.get(session_id), now)
            for session_id, row in current.items()
        ]
        moving.sort(key=lambda one: (one.session.created_at, one.session.id), reverse=True)
        return moving

    def _measure(self, row: UploadSession, arriving: int | None, now: datetime) -> Moving:
        speed = self._tracks[row.id].speed
        clock = now.timestamp()
        received = row.offset if arriving is None else max(row.offset, arriving)
        # What was acknowledged has a time in its row; what just arrives has this moment's.
        speed.saw(row.updated_at.timestamp() if arriving is None else clock, received)
        per_s = speed.per_s(clock)
        status = _status(row, speed.silence_s(clock), now)
        left = None if row.length is None else row.length - received
        return Moving(
            session=row,
            status=status,
            received=received,
            per_s=per_s,
            eta_s=eta_s(left, per_s) if status is Status.RECEIVING else None,
        )


def is_leased(row: UploadSession, now: datetime) -> bool:
    """Whether somebody works on it."""
    return row.lease_until is not None and row.lease_until > now


def _is_under_way(row: UploadSession, now: datetime) -> bool:
    if row.state not in OPEN:
        return False
    return is_leased(row, now) or row.updated_at > now - BETWEEN


def _status(row: UploadSession, silence_s: float, now: datetime) -> Status:
    if row.state in _FINISHING or (row.received and is_leased(row, now)):
        return Status.FINISHING
    if not is_leased(row, now):
        return Status.WAITING
    return Status.STALLED if silence_s > STANDSTILL_S else Status.RECEIVING
