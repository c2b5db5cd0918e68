"""`JobQueue` in SQL: the outbox table as a queue.

Owns claiming and settling. Knows no driver, and not what a job means. PostgreSQL skips rows that
another claim has locked; on SQLite the one writer serialises.
"""

from collections.abc import Collection
from datetime import datetime

from tusd_storage.records import Job
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.rows import JOB, micros
from tusd_storage.sql.statements import Statements

ERROR_LENGTH = 2_000
"""Characters of an error that are kept: the first and the last line of most tracebacks."""


class SqlJobs:
    """See `tusd_storage.ports.JobQueue` for what each method promises."""

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._sql = sql

    async def claim(
        self, *, worker: str, kinds: Collection[str], now: datetime, until: datetime, limit: int
    ) -> list[Job]:
        params = {
            "worker": worker,
            "kinds": self._sql.listed(kinds),
            "now": micros(now),
            "until": micros(until),
            "limit": limit,
        }

        def work(connection: Connection) -> list[Job]:
            rows = connection.execute(self._sql.claim, params).fetchall()
            # RETURNING has no order.
            return sorted(map(JOB.read, rows), key=lambda job: (job.run_at, job.id))

        return await self._executor.write(work)

    async def extend(self, job_id: str, *, worker: str, until: datetime) -> bool:
        return await self._mine(self._sql.extend, id=job_id, worker=worker, until=micros(until))

    async def succeed(self, job_id: str, *, worker: str, now: datetime) -> bool:
        return await self._mine(self._sql.succeed, id=job_id, worker=worker, now=micros(now))

    async def retry(
        self, job_id: str, *, worker: str, error: str, run_at: datetime | None, now: datetime
    ) -> bool:
        params: dict[str, object] = {
            "id": job_id,
            "worker": worker,
            "error": error[:ERROR_LENGTH],
            "now": micros(now),
        }
        if run_at is None:
            return await self._mine(self._sql.bury, **params)
        return await self._mine(self._sql.retry, run_at=micros(run_at), **params)

    async def jobs(
        self, *, state: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Job]:
        params: dict[str, object] = {"after": after or "", "limit": limit}
        if state is not None:
            params["state"] = str(state)
        statement = self._sql.jobs[state is not None]

        def work(connection: Connection) -> list[Job]:
            return [JOB.read(row) for row in connection.execute(statement, params).fetchall()]

        return await self._executor.read(work)

    async def _mine(self, statement: str, **params: object) -> bool:
        """Runs a statement that changes the job only while it is this worker's."""
        return await self._executor.write(
            lambda connection: bool(connection.execute(statement, params).fetchall())
        )
