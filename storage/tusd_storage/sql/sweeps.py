"""`SweepStore` and `JobAdministration` in SQL.

Owns the translation of arguments into parameters. Knows no driver; the SQL is in
`sweep_statements`.
"""

from collections.abc import Collection
from datetime import datetime

from tusd_storage.records import Job, UploadSession
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.rows import JOB, SESSION, maybe_micros, micros
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.sweep_statements import SweepStatements


class SqlSweeps:
    """See `tusd_storage.ports.sweeps` for what each method promises."""

    _sweeps: SweepStatements

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._sql = sql

    async def lead(self, name: str, *, holder: str, now: datetime, until: datetime) -> bool:
        params = {"name": name, "holder": holder, "now": micros(now), "until": micros(until)}
        return await self._changed(self._sweeps.lead, params)

    async def resign(self, name: str, *, holder: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(self._sweeps.resign, {"name": name, "holder": holder})

        await self._executor.write(work)

    async def list_received(
        self, *, node: str, now: datetime, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        params = {"node": node, "now": micros(now), "after": after or "", "limit": limit}
        return await self._listed(self._sweeps.list_received, params)

    async def list_partials(
        self, *, before: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        at = None if after is None else after.expires_at
        return await self._timed(self._sweeps.list_partials, before, at, after, limit)

    async def list_open_finals(
        self, *, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        return await self._listed(
            self._sweeps.list_open_finals, {"after": after or "", "limit": limit}
        )

    async def list_unswept(
        self, *, before: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        at = None if after is None else after.updated_at
        return await self._timed(self._sweeps.list_unswept, before, at, after, limit)

    async def list_forgettable(
        self, *, before: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        at = None if after is None else after.updated_at
        return await self._timed(self._sweeps.list_forgettable, before, at, after, limit)

    async def list_run_out(
        self, *, before: datetime, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        params = {"before": micros(before), "after": after or "", "limit": limit}
        return await self._listed(self._sweeps.list_run_out, params)

    async def list_lost_jobs(
        self, *, now: datetime, after: Job | None = None, limit: int = 100
    ) -> list[Job]:
        at = None if after is None else after.locked_until
        return await self._timed_jobs(self._sweeps.list_lost_jobs, now, at, after, limit)

    async def list_done_jobs(
        self, *, before: datetime, after: Job | None = None, limit: int = 100
    ) -> list[Job]:
        at = None if after is None else after.updated_at
        return await self._timed_jobs(self._sweeps.list_done_jobs, before, at, after, limit)

    async def find_keys(self, bucket: str, keys: Collection[str]) -> dict[str, UploadSession]:
        params = {"bucket": bucket, "keys": self._sql.listed(keys)}
        rows = await self._listed(self._sweeps.find_keys, params) if keys else []
        return {session.object_key: session for session in rows}

    async def swept(self, session_id: str, *, now: datetime) -> bool:
        return await self._changed(self._sweeps.swept, {"id": session_id, "now": micros(now)})

    async def forget(self, session_id: str, epoch: int) -> bool:
        params = {"id": session_id, "epoch": epoch}

        def work(connection: Connection) -> bool:
            gone = connection.execute(self._sweeps.forget, params).fetchall()
            for (asset_id,) in gone:
                if asset_id is not None:
                    connection.execute(self._sweeps.forget_asset, {"id": asset_id})
            return bool(gone)

        return await self._executor.transaction(work)

    async def end_lease(self, session_id: str, epoch: int, *, before: datetime) -> bool:
        params = {"id": session_id, "epoch": epoch, "before": micros(before)}
        return await self._changed(self._sweeps.end_lease, params)

    async def requeue(self, job_id: str, *, now: datetime) -> bool:
        return await self._changed(self._sweeps.requeue, {"id": job_id, "now": micros(now)})

    async def forget_job(self, job_id: str) -> bool:
        return await self._changed(self._sweeps.forget_job, {"id": job_id})

    async def job(self, job_id: str) -> Job | None:
        def work(connection: Connection) -> Job | None:
            row = connection.execute(self._sweeps.job, {"id": job_id}).fetchone()
            return None if row is None else JOB.read(row)

        return await self._executor.read(work)

    async def revive(self, job_id: str, *, now: datetime) -> bool:
        return await self._changed(self._sweeps.revive, {"id": job_id, "now": micros(now)})

    async def _timed(
        self,
        statement: str,
        before: datetime,
        at: datetime | None,
        after: UploadSession | None,
        limit: int,
    ) -> list[UploadSession]:
        return await self._listed(statement, _keyset(before, at, after, limit))

    async def _timed_jobs(
        self, statement: str, before: datetime, at: datetime | None, after: Job | None, limit: int
    ) -> list[Job]:
        params = _keyset(before, at, after, limit)

        def work(connection: Connection) -> list[Job]:
            return [JOB.read(row) for row in connection.execute(statement, params).fetchall()]

        return await self._executor.read(work)

    async def _listed(self, statement: str, params: dict[str, object]) -> list[UploadSession]:
        def work(connection: Connection) -> list[UploadSession]:
            return [SESSION.read(row) for row in connection.execute(statement, params).fetchall()]

        return await self._executor.read(work)

    async def _changed(self, statement: str, params: dict[str, object]) -> bool:
        """Runs a statement that returns the row it changed, if it changed one."""
        return await self._executor.write(
            lambda connection: bool(connection.execute(statement, params).fetchall())
        )


def _keyset(
    before: datetime, at: datetime | None, after: UploadSession | Job | None, limit: int
) -> dict[str, object]:
    return {
        "before": micros(before),
        "after_at": maybe_micros(at) or 0,
        "after": "" if after is None else after.id,
        "limit": limit,
    }
