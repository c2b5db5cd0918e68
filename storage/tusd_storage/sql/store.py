"""`SqlStore`: all SQL ports on one database.

Owns the composition of engine, executor and statements. Knows no statement.
"""

import math
from typing import TYPE_CHECKING

from tusd_storage.outbox import Outbox
from tusd_storage.records import Quota
from tusd_storage.sql.broker import SqlDirectSessions
from tusd_storage.sql.calls import Patience
from tusd_storage.sql.engine import Synchronous, make_engine
from tusd_storage.sql.executors import Executor, make_executor
from tusd_storage.sql.jobs import SqlJobs
from tusd_storage.sql.listings import SqlListings
from tusd_storage.sql.outbox import SqlAnnouncements, SqlAnswers
from tusd_storage.sql.overview import SqlOverview
from tusd_storage.sql.overview_statements import OverviewStatements
from tusd_storage.sql.sessions import SqlSessions
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.statistics import SqlStatistics
from tusd_storage.sql.sweep_statements import SweepStatements
from tusd_storage.sql.sweeps import SqlSweeps

if TYPE_CHECKING:
    from tusd_storage.outbox import AnswerStore
    from tusd_storage.ports import JobQueue, SessionStore
    from tusd_storage.ports.direct import DirectSessions
    from tusd_storage.ports.listings import AssetSettling, NodeRegistry, SessionListing
    from tusd_storage.ports.overview import Overview, ReaperDiary
    from tusd_storage.ports.statistics import Statistics
    from tusd_storage.ports.sweeps import JobAdministration, SweepStore


class SqlStore(
    SqlSessions, SqlDirectSessions, SqlListings, SqlJobs, SqlSweeps, SqlOverview, SqlAnswers
):
    """Sessions, listings, jobs and sweeps in one database. Use `connect`."""

    def __init__(self, executor: Executor, sql: Statements) -> None:
        super().__init__(executor, sql)
        self._sweeps = SweepStatements(sql)
        self._overview = OverviewStatements(sql)
        self.statistics: Statistics = SqlStatistics(executor, sql)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        pool_size: int = 10,
        synchronous: Synchronous = "FULL",
        outbox: Outbox | None = None,
        quota: Quota | None = None,
        wait_s: float = math.inf,
    ) -> "SqlStore":
        """A store for `sqlite:////absolute/path.db` or `postgresql://…`; `aclose` it.

        `pool_size` bounds the connections to PostgreSQL; `synchronous` is SQLite's. Connections
        are opened when first used, so a database that is down is told by the calls. The schema
        must be there already (`migrate`). `outbox` says what else is written with each change;
        `quota` holds for each owner. After `wait_s` in the queue what begins a request is refused:
        `get`, `created`, `create`, `acquire` and the like raise StateOverloaded.

        Raises: ValueError for another URL; ModuleNotFoundError when psycopg is not installed.
        """
        engine = make_engine(url, synchronous=synchronous)
        executor = make_executor(engine, pool_size=pool_size, patience=Patience(wait_s))
        store = cls(executor, Statements(engine.dialect))
        if outbox is not None:
            store.announcements = SqlAnnouncements(store._sql, outbox)
        store.quota = quota
        return store


if TYPE_CHECKING:

    def _fits(
        store: SqlStore,
    ) -> tuple[
        SessionStore,
        DirectSessions,
        JobQueue,
        SessionListing,
        AssetSettling,
        NodeRegistry,
        SweepStore,
        JobAdministration,
        Overview,
        ReaperDiary,
        AnswerStore,
    ]:
        """The checker's proof that the adapter is what the ports ask for."""
        return store, store, store, store, store, store, store, store, store, store, store
