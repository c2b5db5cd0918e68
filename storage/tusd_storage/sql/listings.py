"""Pages of sessions, the end of assets, and the nodes: `tusd_storage.ports.listings` in SQL.

Owns the keyset pages. Knows no driver.
"""

from collections.abc import Collection
from datetime import datetime
from functools import cached_property, partial

from tusd_storage.ports.listings import Node
from tusd_storage.records import Asset, AssetState, SessionState, UploadSession
from tusd_storage.sql import commits
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.outbox import SqlAnnouncements
from tusd_storage.sql.promotions import PromotionStatements, settle_unquestioned
from tusd_storage.sql.rows import NODE, SESSION, maybe_micros, micros
from tusd_storage.sql.statements import Statements


class SqlListings:
    """See `tusd_storage.ports.listings` for what each method promises."""

    announcements: SqlAnnouncements | None = None

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._sql = sql

    @cached_property
    def _promotions(self) -> PromotionStatements:
        return PromotionStatements(self._sql)

    async def list_sessions(
        self,
        *,
        state: SessionState | None = None,
        owner: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[UploadSession]:
        params: dict[str, object] = {"after": after or "", "limit": limit}
        if state is not None:
            params["state"] = state.value
        if owner is not None:
            params["owner"] = owner
        statement = self._sql.list_sessions[state is not None, owner is not None]
        return await self._page(statement, params)

    async def list_expired(
        self, *, now: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        after_at = None if after is None else maybe_micros(after.expires_at)
        params = {
            "now": micros(now),
            "after_at": after_at if after_at is not None else 0,
            "after": "" if after is None else after.id,
            "limit": limit,
        }
        return await self._page(self._sql.list_expired, params)

    async def list_cleanup(
        self, *, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        return await self._page(self._sql.list_cleanup, {"after": after or "", "limit": limit})

    async def list_stuck(
        self, *, now: datetime, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        params = {"now": micros(now), "after": after or "", "limit": limit}
        return await self._page(self._sql.list_stuck, params)

    async def settle_asset(
        self, asset_id: str, *, state: AssetState, reason: str | None, now: datetime
    ) -> Asset:
        params = {"id": asset_id, "reason": reason, "now": micros(now)}
        told = None
        if self.announcements is not None:
            told = (self.announcements, self.announcements.bind())
        run = self._executor.write if told is None else self._executor.transaction
        return await run(
            lambda connection: commits.settle_asset(self._sql, connection, state, params, told)
        )

    async def settle_unquestioned(
        self, *, profiles: Collection[str], now: datetime, limit: int
    ) -> int:
        work = partial(
            settle_unquestioned,
            self._promotions,
            profiles=profiles,
            now=now,
            limit=limit,
            announcements=self.announcements,
        )
        return await self._executor.transaction(work) if profiles else 0

    async def seen(self, node: Node) -> None:
        def work(connection: Connection) -> None:
            connection.execute(self._sql.seen, NODE.params(node))

        await self._executor.write(work)

    async def nodes(self) -> list[Node]:
        def work(connection: Connection) -> list[Node]:
            rows = connection.execute(self._sql.nodes, {}).fetchall()
            return [NODE.read(row) for row in rows]

        return await self._executor.read(work)

    async def _page(self, statement: str, params: dict[str, object]) -> list[UploadSession]:
        def work(connection: Connection) -> list[UploadSession]:
            return [SESSION.read(row) for row in connection.execute(statement, params).fetchall()]

        return await self._executor.read(work)
