"""`tusd_storage.ports.overview` in SQL: each look is one hop to a thread.

Owns the translation of arguments into parameters. Knows no driver; the SQL is in
`overview_statements`.
"""

from collections.abc import Collection
from datetime import datetime

from tusd_storage.ports.overview import (
    Browsed,
    Pulse,
    ReaperRun,
    Survey,
    TailSum,
    Wanted,
)
from tusd_storage.records import Job, JobState, UploadSession
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.overview_statements import OverviewStatements
from tusd_storage.sql.rows import JOB, RUN, SESSION, Params, micros
from tusd_storage.sql.statements import Statements

LOOK = 20_000
"""Rows that one page of `browse` looks at."""

_LAST = "\U0010ffff"
"""Sorts behind every id, in the byte order of both engines."""


class SqlOverview:
    """See `tusd_storage.ports.overview` for what each method promises."""

    _overview: OverviewStatements

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._sql = sql

    async def pulse(self, *, known: Collection[str], now: datetime, limit: int, cap: int) -> Pulse:
        sql = self._overview
        params: Params = {"now": micros(now), "limit": limit, "cap": cap}
        ids: Params = {"ids": self._sql.listed(known)}

        def work(connection: Connection) -> Pulse:
            return Pulse(
                writing=_sessions(connection, sql.writing, params),
                writing_count=_count(connection, sql.writing_count, params),
                recent=_sessions(connection, sql.recent, params),
                known=_sessions(connection, self._sql.get_many, ids) if known else (),
                completed=_sessions(connection, sql.completed, params),
                due=_jobs(connection, sql.due, params),
                dead=_jobs(connection, sql.dead, params),
            )

        return await self._executor.read(work)

    async def survey(
        self,
        *,
        now: datetime,
        idle_before: datetime,
        failed_after: datetime,
        gone: Collection[str],
        limit: int,
        cap: int,
    ) -> Survey:
        sql = self._overview
        params: Params = {
            "now": micros(now),
            "idle_before": micros(idle_before),
            "failed_after": micros(failed_after),
            "limit": limit,
            "cap": cap,
        }
        absent = params | {"gone": self._sql.listed(gone)}

        def work(connection: Connection) -> Survey:
            census = connection.execute(sql.census, params).fetchall()
            due = dict(connection.execute(sql.jobs_due, params).fetchall())
            unfinished = _sessions(connection, sql.unfinished, params)
            received = _sessions(connection, sql.received, params)
            return Survey(
                open=sum(row[1] for row in census),
                open_size=sum(int(row[2]) for row in census),
                idle=sum(int(row[5]) for row in census),
                finishing=_count(connection, sql.finishing, params),
                unclean=_count(connection, sql.unclean, params),
                failed=_count(connection, sql.failed, params),
                queued=due.get(JobState.QUEUED.value, 0),
                running=due.get(JobState.RUNNING.value, 0),
                dead=_count(connection, sql.jobs_dead, params),
                tails=tuple(
                    TailSum(node=row[0], uploads=int(row[3]), size=int(row[4]))
                    for row in sorted(census, key=lambda row: row[0] or "")
                    if row[0] is not None and row[3]
                ),
                longest_idle=_sessions(connection, sql.longest_idle, params),
                unfinished=(unfinished + received)[:limit],
                uncleaned=_sessions(connection, sql.uncleaned, params),
                failures=_sessions(connection, sql.failures, params),
                orphaned=_sessions(connection, sql.orphaned, absent) if gone else (),
            )

        return await self._executor.read(work)

    async def browse(
        self, wanted: Wanted, *, now: datetime, after: str | None = None, limit: int = 100
    ) -> Browsed:
        start, end = "", _LAST
        if wanted.node is not None:
            start, end = f"{wanted.node}~", f"{wanted.node}~{_LAST}"
        params: Params = {"after": max(after or "", start), "end": end, "now": micros(now)}
        if wanted.state is not None:
            params["state"] = wanted.state.value
        if wanted.owner is not None:
            params["owner"] = wanted.owner
        if wanted.stuck is not None:
            params["idle_before"] = micros(wanted.stuck.idle_before)
            params["failed_after"] = micros(wanted.stuck.failed_after)
        statement = self._overview.browse[
            wanted.state is not None, wanted.owner is not None, wanted.stuck is not None
        ]

        def work(connection: Connection) -> Browsed:
            last = connection.execute(
                self._overview.horizon, params | {"look": LOOK - 1}
            ).fetchone()
            page = params | {"limit": limit, "end": end if last is None else last[0]}
            found = _sessions(connection, statement, page)
            if len(found) == limit:
                return Browsed(sessions=found, next=found[-1].id)
            return Browsed(sessions=found, next=None if last is None else last[0])

        return await self._executor.read(work)

    async def find(self, beginning: str, *, limit: int = 2) -> list[UploadSession]:
        params: Params = {"from": beginning, "end": f"{beginning}{_LAST}", "limit": limit}

        def work(connection: Connection) -> list[UploadSession]:
            return list(_sessions(connection, self._overview.beginning, params))

        return await self._executor.read(work)

    async def record_run(self, run: ReaperRun, *, keep: int) -> None:
        def work(connection: Connection) -> None:
            connection.execute(self._overview.record_run, RUN.params(run))
            connection.execute(self._overview.forget_runs, {"node": run.node, "keep": keep})

        await self._executor.transaction(work)

    async def runs(self, *, limit: int) -> list[ReaperRun]:
        def work(connection: Connection) -> list[ReaperRun]:
            rows = connection.execute(self._overview.runs, {"limit": limit}).fetchall()
            return [RUN.read(row) for row in rows]

        return await self._executor.read(work)


def _sessions(connection: Connection, sql: str, params: Params) -> tuple[UploadSession, ...]:
    return tuple(SESSION.read(row) for row in connection.execute(sql, params).fetchall())


def _jobs(connection: Connection, sql: str, params: Params) -> tuple[Job, ...]:
    return tuple(JOB.read(row) for row in connection.execute(sql, params).fetchall())


def _count(connection: Connection, sql: str, params: Params) -> int:
    count: int = connection.execute(sql, params).fetchone()[0]
    return count
