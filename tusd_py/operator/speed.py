"""How fast an upload moves, from when its offset was where. Pure: times come in, in seconds.

Offsets move in steps, as parts land or bytes arrive: a step says how long it took, and the silence
after it says that the upload has become slower, or stands still.
"""

import math
from collections import deque
from dataclasses import dataclass

WINDOW_S = 20.0
"""Older steps do not count, except the two that are needed for any speed at all."""

PATIENCE = 2.0
"""Times the usual distance of two steps after which silence counts as slowness."""

STANDSTILL_S = 30.0
"""Silence, beyond PATIENCE, after which the speed is zero."""


@dataclass(frozen=True, slots=True)
class _Step:
    at: float
    offset: int


class Speedometer:
    """Of one upload."""

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque()

    def saw(self, at: float, offset: int) -> None:
        """The offset at a time. One that steps back (a rewind) begins the measurement anew."""
        if self._steps and offset < self._steps[-1].offset:
            self._steps.clear()
        if self._steps and (offset == self._steps[-1].offset or at <= self._steps[-1].at):
            return
        self._steps.append(_Step(at, offset))
        while len(self._steps) > 2 and self._steps[1].at <= at - WINDOW_S:
            self._steps.popleft()

    def silence_s(self, now: float) -> float:
        """Since the last step; 0 before the first."""
        return max(0.0, now - self._steps[-1].at) if self._steps else 0.0

    def per_s(self, now: float) -> float | None:
        """Bytes a second; None before there is anything to tell it from."""
        if len(self._steps) < 2:
            return 0.0 if self.silence_s(now) > STANDSTILL_S else None
        first, last = self._steps[0], self._steps[-1]
        moved, took = last.offset - first.offset, last.at - first.at
        patience = PATIENCE * took / (len(self._steps) - 1)
        silence = self.silence_s(now)
        if silence <= patience:
            return moved / took
        if silence > patience + STANDSTILL_S:
            return 0.0
        return moved / (took + silence)


def eta_s(left: int | None, per_s: float | None) -> int | None:
    """Whole seconds until the last byte; None while nobody can tell."""
    if left is None or not per_s:
        return None
    return math.ceil(left / per_s)
