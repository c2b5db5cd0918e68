"""The schedule, with its clock and its dice in the test's hands."""

import asyncio
from datetime import timedelta

from tests.support.state import NOW
from tusd_reaper.report import Report, Sweep, Tally, lines
from tusd_reaper.schedule import JITTER, Schedule


class Hands:
    """Sleeps when the test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.ranges: list[tuple[float, float]] = []
        self._turn = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self._turn.acquire()

    def uniform(self, low: float, high: float) -> float:
        self.ranges.append((low, high))
        return high

    async def tick(self) -> None:
        self._turn.release()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_runs_follow_each_other_with_jitter_whatever_happens() -> None:
    hands, runs = Hands(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("the database is away")

    schedule = Schedule(
        run, interval=timedelta(minutes=10), uniform=hands.uniform, sleep=hands.sleep
    )
    schedule.start()
    schedule.start()
    await asyncio.sleep(0)
    assert runs == 0
    for expected in (1, 2, 3):
        await hands.tick()
        assert runs == expected
    await schedule.stop()
    assert hands.slept == [600, *[600 * (1 + JITTER)] * 3]
    assert hands.ranges == [(0.0, 600.0), *[(1 - JITTER, 1 + JITTER)] * 3]
    await hands.tick()
    assert runs == 3


async def test_stopping_breaks_off_a_run() -> None:
    hands, ended = Hands(), False

    async def run() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    schedule = Schedule(run, interval=timedelta(seconds=1), sleep=hands.sleep)
    schedule.start()
    await asyncio.sleep(0)
    await hands.tick()
    await schedule.stop()
    assert ended


def test_the_report_for_people() -> None:
    tallies = {sweep: Tally(sweep) for sweep in (Sweep.EXPIRE, Sweep.TAILS, Sweep.ROWS)}
    tallies[Sweep.EXPIRE].due()
    tallies[Sweep.EXPIRE].did("expired")
    tallies[Sweep.EXPIRE].did(None)
    tallies[Sweep.EXPIRE].failed("a~x", RuntimeError("y" * 999))
    tallies[Sweep.ROWS].skipped("another process does it now")
    report = Report(
        applied=False,
        started_at=NOW,
        seconds=1.0,
        sweeps=tuple(tally.report() for tally in tallies.values()),
    )
    text = list(lines(report))
    assert text[0] == "expire      1 left, 1 failed, 1 expired"
    assert text[1].startswith("            failed: a~x: RuntimeError: yyy")
    assert len(text[1]) < 260
    assert text[2:] == [
        "tails       nothing to do",
        "rows        skipped: another process does it now",
        "Nothing was changed: this was a dry run. Write --apply to act.",
    ]
    assert report.failed == 1


def test_many_failures_are_counted_and_a_few_are_told() -> None:
    tally = Tally(Sweep.TAILS)
    for n in range(1000):
        tally.failed(str(n), RuntimeError("no"))
    report = tally.report()
    assert report.counters["failed"] == 1000
    assert len(report.failures) == 20
