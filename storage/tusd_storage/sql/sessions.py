"""`SessionStore` on an executor: each method is one hop to a thread and one transaction.

Owns the translation of arguments into parameters. Knows no driver; what a transaction does is in
`commits`.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial

from tusd_storage.ports import Writing
from tusd_storage.records import (
    Append,
    Asset,
    Completion,
    Part,
    Quota,
    SessionState,
    UploadSession,
)
from tusd_storage.sql import commits
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.outbox import SqlAnnouncements, Tell
from tusd_storage.sql.rows import PART, SESSION, micros
from tusd_storage.sql.statements import Statements


class SqlSessions:
    """See `tusd_storage.ports.SessionStore` for what each method promises."""

    announcements: SqlAnnouncements | None = None
    """What is written with each change beside its rows, if anything."""

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._sql = sql
        self.quota: Quota | None = None

    async def create(self, session: UploadSession, asset: Asset | None) -> None:
        tell = self._tell()
        limited = self.quota is not None and session.owner is not None
        if limited or session.creation_key is not None:
            checked = partial(
                commits.create_checked,
                self._sql,
                session=session,
                asset=asset,
                quota=self.quota,
                tell=tell,
            )
            return await self._executor.transaction(checked, refusable=True)
        work = partial(commits.create, self._sql, session=session, asset=asset, tell=tell)
        if tell is None and (asset is None or self._sql.insert_both is not None):
            await self._executor.write(work, refusable=True)
        else:
            await self._executor.transaction(work, refusable=True)
        return None

    async def created(self, creation_key: str, *, now: datetime) -> UploadSession | None:
        return await self._executor.read(
            lambda connection: commits.created(self._sql, connection, creation_key, micros(now)),
            refusable=True,
        )

    async def get(self, session_id: str) -> UploadSession | None:
        return await self._executor.read(
            lambda connection: commits.find(self._sql, connection, session_id), refusable=True
        )

    async def get_many(self, session_ids: Collection[str]) -> dict[str, UploadSession]:
        params = {"ids": self._sql.listed(session_ids)}

        def work(connection: Connection) -> dict[str, UploadSession]:
            rows = connection.execute(self._sql.get_many, params).fetchall()
            return {session.id: session for session in map(SESSION.read, rows)}

        return await self._executor.read(work, refusable=True) if session_ids else {}

    async def acquire(
        self,
        session_id: str,
        *,
        holder: str,
        now: datetime,
        until: datetime,
        over: str | None = None,
    ) -> UploadSession:
        params = {
            "id": session_id,
            "holder": holder,
            "now": micros(now),
            "until": micros(until),
            "over": over,
        }
        return await self._executor.write(
            lambda connection: commits.acquire(self._sql, connection, params),
            flush=False,
            refusable=True,
        )

    async def want(self, session_id: str, epoch: int) -> None:
        await self._execute_lease(self._sql.want, id=session_id, epoch=epoch)

    async def wanted(self, holder: str) -> list[str]:
        def work(connection: Connection) -> list[str]:
            rows = connection.execute(self._sql.wanted, {"holder": holder}).fetchall()
            return sorted(session_id for (session_id,) in rows)

        return await self._executor.read(work)

    async def renew(self, holder: str, until: datetime) -> set[str]:
        params = {"holder": holder, "until": micros(until)}

        def work(connection: Connection) -> set[str]:
            rows = connection.execute(self._sql.renew, params).fetchall()
            return {session_id for (session_id,) in rows}

        return await self._executor.write(work, flush=False)

    async def release(self, session_id: str, epoch: int) -> None:
        await self._execute_lease(self._sql.release, id=session_id, epoch=epoch)

    async def release_many(self, leases: Mapping[str, int]) -> None:
        params = self._sql.pairs(leases)

        def work(connection: Connection) -> None:
            connection.execute(self._sql.release_many, params)

        await self._executor.write(work, flush=False)

    async def opened(self, session_id: str, epoch: int, upload_id: str) -> None:
        params = {"id": session_id, "epoch": epoch, "upload_id": upload_id}
        await self._executor.write(lambda connection: commits.opened(self._sql, connection, params))

    async def append(self, commit: Append, tail: Writing | None = None) -> None:
        work = partial(commits.append, self._sql, commit=commit)
        if not commit.parts or self._sql.append_both is not None:
            await self._executor.write(work, before=tail)
        else:
            await self._executor.transaction(work, before=tail)

    async def parts(self, session_id: str) -> list[Part]:
        def work(connection: Connection) -> list[Part]:
            rows = connection.execute(self._sql.parts, {"id": session_id}).fetchall()
            return [PART.read(row) for row in rows]

        return await self._executor.read(work)

    async def complete(self, completion: Completion) -> UploadSession:
        tell = self._tell()
        return await self._executor.transaction(
            lambda connection: commits.complete(self._sql, connection, completion, tell)
        )

    async def close(
        self,
        session_id: str,
        epoch: int,
        *,
        state: SessionState,
        failure: str | None,
        cleanup_reason: str | None,
        now: datetime,
    ) -> UploadSession:
        params = {
            "id": session_id,
            "epoch": epoch,
            "failure": failure,
            "cleanup_reason": cleanup_reason,
            "now": micros(now),
        }
        tell = self._tell()
        run = self._executor.write if tell is None else self._executor.transaction
        return await run(
            lambda connection: commits.close(self._sql, connection, state, params, tell)
        )

    async def delete(
        self, session_id: str, epoch: int, *, cleanup_reason: str | None, now: datetime
    ) -> None:
        params = {
            "id": session_id,
            "epoch": epoch,
            "cleanup_reason": cleanup_reason,
            "now": micros(now),
        }
        tell = self._tell()
        run = self._executor.write if tell is None else self._executor.transaction
        await run(lambda connection: commits.delete(self._sql, connection, params, tell))

    async def asset(self, asset_id: str) -> Asset | None:
        return await self._executor.read(
            lambda connection: commits.find_asset(self._sql, connection, asset_id), refusable=True
        )

    async def ping(self) -> None:
        await self._executor.read(
            lambda connection: connection.execute("SELECT 1").fetchone(), refusable=True
        )

    def check_room(self) -> None:
        """Whether a session could be created now; before anybody else is asked about it.

        Raises: StateOverloaded.
        """
        self._executor.check_room()

    async def aclose(self) -> None:
        await self._executor.aclose()

    def _tell(self) -> Tell | None:
        return None if self.announcements is None else self.announcements.bind()

    async def _execute_lease(self, statement: str, **params: object) -> None:
        """One changing statement on a lease, whose result nobody reads."""

        def work(connection: Connection) -> None:
            connection.execute(statement, params)

        await self._executor.write(work, flush=False)
