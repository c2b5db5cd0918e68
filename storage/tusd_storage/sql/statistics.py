# ruff: noqa: S608 - nothing that comes from outside is ever part of a statement's text
"""`ports.statistics.Statistics` in SQL.

Owns the statements that count. Knows no driver.
"""

from tusd_storage.ports.statistics import MAX_COUNTED, JobBacklog, StateCounts
from tusd_storage.records import JobState
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.rows import moment
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.tables import DUE, EXPIRABLE, UNCLEAN, UNFINISHED


class SqlStatistics:
    """See `tusd_storage.ports.statistics` for what each method promises."""

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._counts = [sql.compiled(_count(where)) for where in (EXPIRABLE, UNFINISHED, UNCLEAN)]
        # The oldest are counted first, so that their age is right however long the backlog is.
        self._waiting = sql.compiled(
            "SELECT kind, state, COUNT(*), MIN(due_at) FROM (SELECT kind, state, due_at FROM jobs"
            f" WHERE {DUE} ORDER BY due_at, id LIMIT {MAX_COUNTED}) AS waiting"
            " GROUP BY kind, state ORDER BY kind, state"
        )
        self._dead = sql.compiled(
            f"SELECT kind, COUNT(*) FROM jobs WHERE state = '{JobState.DEAD}'"
            " GROUP BY kind ORDER BY kind"
        )

    async def counts(self) -> StateCounts:
        def work(connection: Connection) -> StateCounts:
            unfinished, verifying, unclean = (
                connection.execute(statement, {}).fetchone()[0] for statement in self._counts
            )
            waiting = connection.execute(self._waiting, {}).fetchall()
            dead = connection.execute(self._dead, {}).fetchall()
            return StateCounts(
                unfinished=unfinished,
                verifying=verifying,
                unclean=unclean,
                jobs=(
                    *(
                        _waiting(kind, state, count, due_at)
                        for kind, state, count, due_at in waiting
                    ),
                    *(_dead(kind, count) for kind, count in dead),
                ),
            )

        return await self._executor.read(work)


def _count(where: str) -> str:
    rows = f"SELECT 1 FROM upload_sessions WHERE {where} LIMIT {MAX_COUNTED}"
    return f"SELECT COUNT(*) FROM ({rows}) AS found"


def _waiting(kind: str, state: str, count: int, due_at: int) -> JobBacklog:
    queued = state == JobState.QUEUED
    return JobBacklog(
        kind=kind, state=state, count=count, oldest_run_at=moment(due_at) if queued else None
    )


def _dead(kind: str, count: int) -> JobBacklog:
    return JobBacklog(kind=kind, state=JobState.DEAD, count=count, oldest_run_at=None)
