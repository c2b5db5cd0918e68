"""What runs beside the uploads of a process: the reaper on its schedule, the job worker, and the
sign of life of its node.

Owns their wiring and their life. Knows ports, no adapter: `services` hands those in.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from tusd_py.settings import Settings
from tusd_reaper.actions import Tools
from tusd_reaper.leader import Leader
from tusd_reaper.reaper import Reaper
from tusd_reaper.report import Report, Sweep, summary
from tusd_reaper.schedule import Schedule
from tusd_reaper.sweeps import Area, Sweeps
from tusd_reaper.worker import Handler, Shortcut, Worker, WorkerConfig
from tusd_storage.errors import StorageError
from tusd_storage.ports import JobQueue
from tusd_storage.ports.listings import Node, NodeRegistry
from tusd_storage.ports.overview import ReaperDiary, ReaperRun

OUR_KEYS = re.compile(r"[a-z0-9][a-z0-9-]{0,15}-[A-Za-z0-9_-]{24}")
"""Keys of uploads: the id with a dash for the tilde. Without a prefix, this alone tells them from
the keys of others in the same bucket."""

SEEN_EVERY = timedelta(minutes=1)
"""Between two signs of life of a serving process."""

RUNS_KEPT = 20
"""Runs of the reaper that are remembered, for each node."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What maintenance is made of."""

    tools: Tools
    holder: str
    """Names this process, as in its leases."""
    is_dead: Callable[[str], bool]
    """Whether another process of this node is certainly gone."""
    queue: JobQueue
    registry: NodeRegistry
    diary: ReaperDiary
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    """By kind of job; without any there is no worker."""
    shortcut: Shortcut | None = None
    """For jobs that need no handler."""
    more_areas: Sequence[Area] = ()
    """Where else our objects are, beside bucket and prefix of the settings."""
    publish: Callable[[Report], None] | None = None


class Maintenance:
    """Built at once; runs from `start` to `stop`."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._now = parts.tools.now
        self._started_at = self._now()
        self.reaper = make_reaper(settings, parts)
        self.worker = make_worker(settings, parts)
        self._schedule = Schedule(self._reap, interval=settings.reap_interval)
        self._presence = Schedule(self.seen, interval=SEEN_EVERY)
        self._working: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins what the settings want."""
        if self._settings.reap or self._settings.work:
            self._presence.start()
        if self._settings.reap:
            self._schedule.start()
        if self._settings.work and self._parts.handlers and self._working is None:
            self._working = asyncio.create_task(self.worker.run(), name="worker")

    def begin_shutdown(self) -> None:
        """No new job is begun. Returns at once."""
        self.worker.stop()

    async def stop(self) -> None:
        """Running jobs end, or go back to the queue; a running sweep is broken off."""
        self.worker.stop()
        await self._presence.stop()
        await self._schedule.stop()
        working, self._working = self._working, None
        if working is not None:
            await working

    async def _reap(self) -> None:
        await self.seen()
        await self.reap(apply=True)

    async def reap(self, only: Collection[Sweep] = tuple(Sweep), *, apply: bool) -> Report:
        """One run of the sweeps; it is remembered if it acted. Raises: StateUnavailable."""
        report = await self.reaper.run(only, apply=apply)
        if report.applied and not report.idle:
            try:
                await self._remember(report)
            except StorageError as error:
                log.warning("reaper_run_forgotten", error=str(error))
        return report

    async def _remember(self, report: Report) -> None:
        began = f"{round(report.started_at.timestamp() * 1000):012x}"
        run = ReaperRun(
            id=f"{began}-{secrets.token_hex(4)}",
            node=self._parts.tools.node,
            started_at=report.started_at,
            report=summary(report),
        )
        await self._parts.diary.record_run(run, keep=RUNS_KEPT)

    async def seen(self) -> None:
        """Says that this node is alive. Raises: StateUnavailable."""
        name, _, instance = self._parts.holder.partition("/")
        now: datetime = max(self._now(), self._started_at)
        await self._parts.registry.seen(
            Node(name=name, instance=instance, started_at=self._started_at, seen_at=now)
        )


def make_reaper(settings: Settings, parts: Parts) -> Reaper:
    """The reaper of this process."""
    keys = None if settings.s3_prefix else OUR_KEYS
    own = Area(bucket=settings.s3_bucket, prefix=settings.s3_prefix, keys=keys)
    sweeps = Sweeps(
        parts.tools,
        areas=[own, *parts.more_areas],
        retention=settings.retention,
        is_dead=parts.is_dead,
    )
    return Reaper(
        sweeps,
        Leader(parts.tools.sweeps, holder=parts.holder, now=parts.tools.now),
        node=parts.tools.node,
        now=parts.tools.now,
        publish=parts.publish,
    )


def make_worker(settings: Settings, parts: Parts) -> Worker:
    """The worker of this process."""
    return Worker(
        parts.queue,
        parts.handlers,
        name=parts.holder,
        now=parts.tools.now,
        shortcut=parts.shortcut,
        config=WorkerConfig(
            parallel=settings.work_parallel,
            max_attempts=settings.job_attempts,
            drain_s=settings.shutdown_timeout.total_seconds(),
        ),
    )
