"""One picture of everything an operator looks at, made of two looks of different cost.

Owns the limits, the reasons why an upload counts as stuck, and when the costly look is due again.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tusd_py.operator import views
from tusd_py.operator.tracker import Moving, Tracker
from tusd_py.operator.views import View
from tusd_storage.ports.listings import Node, NodeRegistry
from tusd_storage.ports.overview import Overview, Pulse, ReaperDiary, ReaperRun, Survey
from tusd_storage.records import JobState, UploadSession

MOVING_LIMIT = 200
"""Uploads under way that are shown; all are counted, up to the cap."""

STUCK_LIMIT = 50
"""Of each reason."""

COMPLETED_LIMIT = 15
JOBS_LIMIT = 25
RUNS_LIMIT = 10

COUNT_CAP = 10_000
CENSUS_CAP = 100_000
"""Rows that a count looks at; what reaches it is shown as "or more"."""

SURVEY_EVERY_S = 10.0
SURVEY_SHARE = 20.0
"""The costly look comes at most so many times its own duration after the one before."""

FAILED_FOR = timedelta(hours=24)
"""Failures are shown for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the picture comes from."""

    overview: Overview
    registry: NodeRegistry
    diary: ReaperDiary
    receiving: Callable[[], Mapping[str, int]]
    """Offsets of the bodies this process receives now, with what is not acknowledged yet, by id."""
    now: Callable[[], datetime]
    node: str
    version: str
    idle_after: timedelta
    """An open upload without progress for so long is stuck."""
    gone_after: timedelta
    """A node that was not seen for so long counts as gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    found: Survey
    nodes: list[Node]
    gone: frozenset[str]
    runs: list[ReaperRun]
    next_at: float
    """Monotonic."""


class Camera:
    """Takes pictures. Remembers how uploads moved from one to the next."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._tracker = Tracker()
        self._survey: _Survey | None = None

    def look_again(self) -> None:
        """Somebody changed something: the next picture shows it."""
        self._survey = None

    async def take(self) -> View:
        """The picture of now. Raises: StateUnavailable."""
        sources = self._sources
        now = sources.now()
        survey = self._survey
        if survey is None or time.monotonic() >= survey.next_at:
            survey = self._survey = await self._look_around(now)
        pulse = await sources.overview.pulse(
            known=self._tracker.known, now=now, limit=MOVING_LIMIT, cap=COUNT_CAP
        )
        rows = (*pulse.known, *pulse.recent, *pulse.writing)
        moving = self._tracker.look(rows, sources.receiving(), now)
        return {
            "at": views.moment(now),
            "node": sources.node,
            "version": sources.version,
            "trouble": None,
            "totals": _totals(pulse, moving, survey.found),
            "running": [views.moving(one) for one in moving[:MOVING_LIMIT]],
            "stuck": _stuck(survey.found),
            "completed": [views.upload(row) for row in pulse.completed[:COMPLETED_LIMIT]],
            "tails": [
                views.tail(tail, gone=tail.node in survey.gone) for tail in survey.found.tails
            ],
            "jobs": _jobs(pulse),
            "nodes": [
                views.node(node, alive=node.name not in survey.gone) for node in survey.nodes
            ],
            "reaper": [views.run(run) for run in survey.runs],
        }

    async def _look_around(self, now: datetime) -> _Survey:
        sources = self._sources
        started = time.monotonic()
        nodes = await sources.registry.nodes()
        gone = frozenset(
            node.name
            for node in nodes
            if node.name != sources.node and node.seen_at <= now - sources.gone_after
        )
        found = await sources.overview.survey(
            now=now,
            idle_before=now - sources.idle_after,
            failed_after=now - FAILED_FOR,
            gone=gone,
            limit=STUCK_LIMIT,
            cap=CENSUS_CAP,
        )
        runs = await sources.diary.runs(limit=RUNS_LIMIT)
        ended = time.monotonic()
        wait_s = max(SURVEY_EVERY_S, SURVEY_SHARE * (ended - started))
        return _Survey(found=found, nodes=nodes, gone=gone, runs=runs, next_at=ended + wait_s)


def _totals(pulse: Pulse, moving: list[Moving], survey: Survey) -> View:
    return {
        "running": max(len(moving), pulse.writing_count),
        "speed": round(sum(one.per_s or 0.0 for one in moving)),
        "open": survey.open,
        "open_size": survey.open_size,
        "idle": survey.idle,
        "unfinished": len(survey.unfinished),
        "unclean": survey.unclean,
        "failed": survey.failed,
        "orphaned": len(survey.orphaned),
        "tail_size": sum(tail.size for tail in survey.tails),
        "jobs_queued": survey.queued,
        "jobs_running": survey.running,
        "jobs_dead": survey.dead,
        "capped": survey.open >= CENSUS_CAP,
    }


def _stuck(survey: Survey) -> list[View]:
    """The most serious reason first; each upload once."""
    reasons: Iterable[tuple[str, tuple[UploadSession, ...]]] = (
        ("tail_missing", survey.orphaned),
        ("unfinished", survey.unfinished),
        ("failed", survey.failures),
        ("unclean", survey.uncleaned),
        ("idle", survey.longest_idle),
    )
    shown: dict[str, View] = {}
    for reason, sessions in reasons:
        for session in sessions:
            shown.setdefault(session.id, views.stuck(session, reason))
    return list(shown.values())


def _jobs(pulse: Pulse) -> View:
    due = [views.job(job) for job in pulse.due]
    return {
        "dead": [views.job(job) for job in pulse.dead[:JOBS_LIMIT]],
        "running": [job for job in due if job["state"] == JobState.RUNNING][:JOBS_LIMIT],
        "queued": [job for job in due if job["state"] == JobState.QUEUED][:JOBS_LIMIT],
    }
