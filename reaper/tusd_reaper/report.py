"""What a run of the sweeps found and did. Values and counting; no I/O, no clock."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MAX_FAILURES = 20
"""Failures of one sweep that are told one by one; all are counted."""

MAX_REASON_LENGTH = 200

MAX_REASONS = 3
"""Different reasons of one sweep that a `summary` keeps."""


class Sweep(StrEnum):
    """The sweeps, in the order in which they run."""

    STUCK = "stuck"
    EXPIRE = "expire"
    TAILS = "tails"
    MULTIPARTS = "multiparts"
    OBJECTS = "objects"
    ROWS = "rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that was due and could not be done; the next run tries again."""

    subject: str
    """Id of a session or job, or the key of an object; empty for the sweep as a whole."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """One sweep of one run."""

    sweep: Sweep
    seconds: float
    counters: Mapping[str, int]
    """`due`: found; `left`: given a miss because somebody is at work on it or it is no longer due;
    `failed`; and one for each kind of thing done, or that `--apply` would do."""
    failures: tuple[Failure, ...]
    skipped: str | None
    """Why it did not run, or not all of it: another process leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run."""

    applied: bool
    """False for a dry run: counted, and nothing changed."""
    started_at: datetime
    seconds: float
    sweeps: tuple[SweepReport, ...]

    @property
    def failed(self) -> int:
        """Number of things that could not be done."""
        return sum(sweep.counters.get("failed", 0) for sweep in self.sweeps)

    @property
    def idle(self) -> bool:
        """Whether another process did all of it."""
        return all(s.skipped and not s.counters.get("due") for s in self.sweeps)


class Tally:
    """Counts while a sweep runs."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._counters: Counter[str] = Counter(due=0, left=0, failed=0)
        self._failures: list[Failure] = []
        self._skipped: str | None = None
        self._seconds = 0.0

    def due(self) -> None:
        """One more was found."""
        self._counters["due"] += 1

    def did(self, what: str | None) -> None:
        """It was done; None: it was left alone."""
        self._counters[what or "left"] += 1

    def failed(self, subject: str, error: Exception) -> None:
        """It could not be done."""
        self._counters["failed"] += 1
        if len(self._failures) < MAX_FAILURES:
            reason = f"{type(error).__name__}: {error}"[:MAX_REASON_LENGTH]
            self._failures.append(Failure(subject=subject, reason=reason))

    def took(self, seconds: float) -> None:
        """Adds time spent on it."""
        self._seconds += seconds

    def skipped(self, why: str) -> None:
        """It did not run, or not to its end."""
        self._skipped = why

    def report(self) -> SweepReport:
        """The result so far."""
        return SweepReport(
            sweep=self._sweep,
            seconds=round(self._seconds, 3),
            counters=dict(self._counters),
            failures=tuple(self._failures),
            skipped=self._skipped,
        )


def summary(report: Report) -> dict[str, object]:
    """The report to be kept and shown: counters that count something, reasons without subjects."""
    return {
        "seconds": report.seconds,
        "failed": report.failed,
        "sweeps": [
            {
                "sweep": sweep.sweep.value,
                "counters": {name: n for name, n in sweep.counters.items() if n},
                "skipped": sweep.skipped,
                "failures": sorted({failure.reason for failure in sweep.failures})[:MAX_REASONS],
            }
            for sweep in report.sweeps
        ],
    }


def lines(report: Report) -> Iterable[str]:
    """The report for people, a line at a time."""
    for sweep in report.sweeps:
        done = {name: n for name, n in sweep.counters.items() if name != "due" and n}
        text = ", ".join(f"{n} {name}" for name, n in done.items()) or "nothing to do"
        if not sweep.counters["due"] and sweep.skipped:
            text = f"skipped: {sweep.skipped}"
        yield f"{sweep.sweep:<11} {text}"
        for failure in sweep.failures:
            yield f"            failed: {failure.subject or 'the listing'}: {failure.reason}"
    if not report.applied:
        yield "Nothing was changed: this was a dry run. Write --apply to act."
