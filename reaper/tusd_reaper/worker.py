"""The worker of the outbox: claims jobs, runs them, settles them. At least once, never in secret.

Owns retry, heartbeat and the end of hopeless jobs. Knows no kind of job: handlers come by kind, and
jobs of other kinds are never claimed.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from tusd_storage.errors import StorageError
from tusd_storage.ports import JobQueue
from tusd_storage.records import Job

log = structlog.get_logger(__name__)

Handler = Callable[[Job], Awaitable[None]]
"""Runs one job. It may be run again after it returned, so it must not mind. What it raises is
recorded with the job, and the job is tried again later; after `Hopeless` it is not."""

Shortcut = Callable[[datetime], Awaitable[int]]
"""Settles many jobs that are due at the given time and need no handler; returns how many."""


class Hopeless(Exception):
    """Raised by a handler: trying again would change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How jobs are run."""

    parallel: int = 4
    max_attempts: int = 10
    """Tries before a job is dead; `tusd-py jobs retry` revives it."""
    lock: timedelta = timedelta(seconds=60)
    """A worker that died loses its jobs after this time; a living one renews them in good time."""
    first_delay_s: float = 2.0
    """Before the second try; doubled for each further one, and shortened by chance by up to half,
    so that what failed together does not come back together."""
    longest_delay_s: float = 3600.0
    poll_s: float = 1.0
    """Between two looks at an empty queue."""
    drain_s: float = 20.0
    """Time that running jobs get to end when the worker is told to stop."""


class Worker:
    """Runs jobs until told to stop. `name` is this process's own."""

    def __init__(
        self,
        queue: JobQueue,
        handlers: Mapping[str, Handler],
        *,
        name: str,
        now: Callable[[], datetime],
        config: WorkerConfig | None = None,
        shortcut: Shortcut | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._queue = queue
        self._handlers = handlers
        self._name = name
        self._now = now
        self._shortcut = shortcut
        self._config = config or WorkerConfig()
        self._uniform = uniform
        self._running: set[asyncio.Task[None]] = set()
        self._kinds: Counter[str] = Counter()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """No job is claimed any more; `run` returns when the running ones have ended."""
        self._stopping.set()

    async def run(self) -> None:
        """Works until `stop`. Jobs that do not end in time then go back to the queue."""
        try:
            while not self._stopping.is_set():
                now = self._now()
                await self._cut_short(now)
                # What came due meanwhile waits for the next look, so that it goes with many.
                if not await self._fill(now):
                    await self._idle()
            await self._drain()
        finally:
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)

    async def run_due(self) -> int:
        """Runs what is due now, and returns how many jobs that were."""
        count = 0
        while True:
            now = self._now()
            begun = await self._cut_short(now) + await self._fill(now)
            if not begun:
                return count
            count += begun
            if self._running:
                await asyncio.wait(self._running)

    async def _cut_short(self, now: datetime) -> int:
        """Settles what needs no handler; how many."""
        if self._shortcut is None:
            return 0
        try:
            return await self._shortcut(now)
        except StorageError as error:
            log.warning("jobs_unreachable", error=str(error))
            return 0

    async def _fill(self, now: datetime) -> int:
        """Claims as many jobs, due at `now`, as there is room for, and starts them."""
        room = self._config.parallel - len(self._running)
        left = self._left()
        if room <= 0 or not left:
            return 0
        try:
            jobs = await self._queue.claim(
                worker=self._name,
                kinds=list(left),
                now=now,
                until=now + self._config.lock,
                limit=min(room, *left.values()),
            )
        except StorageError as error:
            log.warning("jobs_unreachable", error=str(error))
            return 0
        for job in jobs:
            task = asyncio.create_task(self._run_one(job), name=f"job-{job.id}")
            self._running.add(task)
            self._kinds[job.kind] += 1
            task.add_done_callback(partial(self._ended, job.kind))
        return len(jobs)

    def _left(self) -> dict[str, int]:
        """How many more jobs of each kind may run: one kind that hangs leaves room for others."""
        most = self._config.parallel
        if len(self._handlers) > 1:
            most = max(1, most // 2)
        room = {kind: most - self._kinds[kind] for kind in self._handlers}
        return {kind: count for kind, count in room.items() if count > 0}

    def _ended(self, kind: str, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._kinds[kind] -= 1

    async def _idle(self) -> None:
        """Until there may be something to claim: a poll's time, or room that came free."""
        stopping = asyncio.create_task(self._stopping.wait())
        full = len(self._running) >= self._config.parallel
        capped = full or len(self._left()) < len(self._handlers)
        waiting = {stopping, *self._running} if capped else {stopping}
        delay = None if full else self._config.poll_s * self._uniform(0.8, 1.2)
        try:
            await asyncio.wait(waiting, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _drain(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self._config.drain_s)

    async def _run_one(self, job: Job) -> None:
        """Runs a job to its end and says in the queue how it went."""
        try:
            if job.attempts > self._config.max_attempts:
                # Claimed again and again, and never settled: it takes its worker down with it.
                await self._failed(job, "no worker lived to finish it", hopeless=True)
            else:
                await self._try(job)
        except StorageError as error:
            # Its lock runs out, and somebody tries again.
            log.warning("job_unsettled", job=job.id, kind=job.kind, error=str(error))

    async def _try(self, job: Job) -> None:
        work = asyncio.ensure_future(self._handlers[job.kind](job))
        beating = asyncio.create_task(self._beat(job, work), name=f"heartbeat-{job.id}")
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            await _end(work)
            with suppress(StorageError):
                await self._again(job, "the worker was stopped", delay_s=0.0)
            raise
        finally:
            await _end(beating)
        if work.cancelled():
            log.warning("job_lost", job=job.id, kind=job.kind)
        elif (error := work.exception()) is None:
            await self._queue.succeed(job.id, worker=self._name, now=self._now())
        else:
            text = f"{type(error).__name__}: {error}"
            await self._failed(job, text, hopeless=isinstance(error, Hopeless))

    async def _beat(self, job: Job, work: "asyncio.Future[None]") -> None:
        """Renews the lock; ends the work when the job has become somebody else's."""
        every_s = self._config.lock.total_seconds() / 3
        while True:
            await asyncio.sleep(every_s)
            try:
                until = self._now() + self._config.lock
                mine = await self._queue.extend(job.id, worker=self._name, until=until)
            except StorageError:
                continue  # it may come back before the lock runs out; settling tells
            if not mine:
                work.cancel()
                return

    async def _failed(self, job: Job, error: str, *, hopeless: bool) -> None:
        if hopeless or job.attempts >= self._config.max_attempts:
            log.error("job_dead", job=job.id, kind=job.kind, attempts=job.attempts, error=error)
            await self._queue.retry(
                job.id, worker=self._name, error=error, run_at=None, now=self._now()
            )
            return
        log.warning("job_failed", job=job.id, kind=job.kind, attempts=job.attempts, error=error)
        await self._again(job, error, delay_s=self._delay_s(job.attempts))

    async def _again(self, job: Job, error: str, *, delay_s: float) -> None:
        now = self._now()
        run_at = now + timedelta(seconds=delay_s)
        await self._queue.retry(job.id, worker=self._name, error=error, run_at=run_at, now=now)

    def _delay_s(self, attempts: int) -> float:
        exponent = min(attempts - 1, 40)
        ceiling = min(self._config.longest_delay_s, self._config.first_delay_s * 2**exponent)
        return self._uniform(ceiling / 2, ceiling)


async def _end(task: "asyncio.Future[None]") -> None:
    """Cancels it and waits until it is gone."""
    task.cancel()
    await asyncio.wait([task])
