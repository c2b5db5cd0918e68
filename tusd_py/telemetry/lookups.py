"""Numbers that are looked up when somebody asks: in the database, on the disk.

Owns how often that may happen. A look-up that is slow is repeated less often, so it never takes
more than a small part of the time; meanwhile the last answer is given. None blocks the event loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import datetime
from typing import Protocol

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from tusd_storage.errors import StorageError
from tusd_storage.ports import TailFile
from tusd_storage.ports.statistics import StateCounts, Statistics
from tusd_storage.records import JobState

log = structlog.get_logger(__name__)

FRESH_S = 5.0
"""For so long an answer is given again."""
SHARE = 20
"""And for so many times as long as the look-up took."""
PATIENCE_S = 3.0
"""A scrape waits no longer than this; what is late is there at the next one."""


class Lookup(Protocol):
    """Some metrics, and what it takes to know them."""

    async def refresh(self) -> None:
        """Looks again, if it is time. Raises nothing."""
        ...

    def collect(self) -> Iterable[Metric]:
        """What was found last."""
        ...


class _Paced:
    """Runs a look-up no more often than is good; callers at the same time share one."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        self._look = look
        self._not_before = 0.0
        self._running: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        if self._running is None or self._running.done():
            if time.monotonic() < self._not_before:
                return
            self._running = asyncio.create_task(self._run(), name="metrics-lookup")
        await asyncio.wait([self._running], timeout=PATIENCE_S)

    async def _run(self) -> None:
        started = time.monotonic()
        await self._look()
        ended = time.monotonic()
        self._not_before = ended + max(FRESH_S, SHARE * (ended - started))

    async def aclose(self) -> None:
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])


class StateLookup:
    """What the database says: jobs, and sessions that are not finished."""

    def __init__(
        self,
        statistics: Statistics,
        now: Callable[[], datetime],
        job_kinds: Callable[[], Iterable[str]],
    ) -> None:
        self._statistics = statistics
        self._now = now
        self._job_kinds = job_kinds
        self._counts: StateCounts | None = None
        self._kinds: set[str] = set()
        self._paced = _Paced(self._look)
        self.refresh = self._paced.refresh
        self.aclose = self._paced.aclose

    async def _look(self) -> None:
        try:
            self._counts = await self._statistics.counts()
        except StorageError as error:
            self._counts = None
            log.warning("metrics_unreachable", error=str(error))

    def collect(self) -> Iterator[Metric]:
        """Without the database: only that it is away."""
        counts = self._counts
        yield GaugeMetricFamily(
            "tusd_py_database_up", "Whether the database answered.", float(counts is not None)
        )
        if counts is None:
            return
        for name, text, value in (
            ("unfinished", "Uploads and sessions that may still expire.", counts.unfinished),
            ("verifying", "Those with all bytes, not completed yet.", counts.verifying),
            ("unclean", "Those whose storage side waits for the reaper.", counts.unclean),
        ):
            yield GaugeMetricFamily(f"tusd_py_sessions_{name}", text, value)
        yield from self._jobs(counts)

    def _jobs(self, counts: StateCounts) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(
            "tusd_py_jobs", "Jobs that are not done.", labels=["kind", "state"]
        )
        oldest = GaugeMetricFamily(
            "tusd_py_job_oldest_due_seconds",
            "For how long the longest waiting job has been due.",
            labels=["kind"],
        )
        self._kinds |= {*self._job_kinds()} | {backlog.kind for backlog in counts.jobs}
        found = {(backlog.kind, backlog.state): backlog for backlog in counts.jobs}
        for kind in sorted(self._kinds):
            for state in (JobState.QUEUED, JobState.RUNNING, JobState.DEAD):
                backlog = found.get((kind, state))
                jobs.add_metric([kind, state], backlog.count if backlog else 0)
            queued = found.get((kind, JobState.QUEUED))
            since = queued.oldest_run_at if queued else None
            age_s = (self._now() - since).total_seconds() if since else 0.0
            oldest.add_metric([kind], max(0.0, age_s))
        yield jobs
        yield oldest


class TailLookup:
    """The tails on this node's disk. `scan` blocks; `in_thread` runs it elsewhere."""

    def __init__(
        self,
        scan: Callable[[], Iterator[TailFile]],
        in_thread: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        self._scan = scan
        self._in_thread = in_thread
        self._found: tuple[int, int] | None = None
        self._paced = _Paced(self._look)
        self.refresh = self._paced.refresh
        self.aclose = self._paced.aclose

    async def _look(self) -> None:
        try:
            await self._in_thread(self._count)
        except OSError as error:
            self._found = None
            log.warning("tails_unreadable", error=error.strerror)

    def _count(self) -> None:
        files = size = 0
        for tail in self._scan():
            files += 1
            size += tail.size
        self._found = files, size

    def collect(self) -> Iterator[Metric]:
        """Nothing before the first look, or when the folder cannot be read."""
        if self._found is not None:
            files, size = self._found
            yield GaugeMetricFamily("tusd_py_tail_files", "Tails on this node.", files)
            yield GaugeMetricFamily("tusd_py_tail_bytes", "Bytes of tails on this node.", size)
