"""Nodes with a clock that can be put forward, and the reaper of each: for tests of the sweeps.

Owns the wiring; the database, the store and the tails are whatever the test brings.
"""

import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from tests.support.harness import Node
from tusd_py.clock import utc_now
from tusd_reaper.actions import Finish, Tools
from tusd_reaper.leader import Leader
from tusd_reaper.reaper import Reaper
from tusd_reaper.report import Report
from tusd_reaper.sweeps import Area, Sweeps
from tusd_storage.ports import ObjectStore
from tusd_storage.records import Protocol
from tusd_storage.sql import SqlStore, migrate

GRACE = timedelta(hours=1)
RETENTION = timedelta(days=30)
IDLE = timedelta(hours=24)
"""When an upload that nobody continues expires."""
PREFIX = "up/"


class Clock:
    """The time now, and what was added to it; files and stores that keep real time stay true."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead

    def forward(self, by: timedelta) -> None:
        """Puts it forward."""
        self.ahead += by


class ReapedNode(Node):
    """A node with its reaper."""

    def __init__(
        self,
        sessions: SqlStore,
        objects: ObjectStore,
        folder: Path,
        *,
        clock: Clock,
        name: str = "a",
        bucket: str = "bucket",
        prefix: str = PREFIX,
        keys: re.Pattern[str] | None = None,
        finishers: Mapping[Protocol, Finish] | None = None,
        is_dead: Callable[[str], bool] = lambda _: False,
        page: int = 3,
        **config: object,
    ) -> None:
        super().__init__(
            sessions,
            objects,
            folder,
            name=name,
            bucket=bucket,
            now=clock,
            prefix=prefix,
            **config,
        )
        self.reports: list[Report] = []
        self.tools = Tools(
            sessions=sessions,
            listings=sessions,
            sweeps=sessions,
            objects=objects,
            tails=self.tails,
            leases=self.leases,
            finishers={Protocol.TUS: self.engine.finish} if finishers is None else finishers,
            node=name,
            now=clock,
            grace=GRACE,
        )
        sweeps = Sweeps(
            self.tools,
            areas=[Area(bucket=bucket, prefix=prefix, keys=keys)],
            retention=RETENTION,
            is_dead=is_dead,
            page=page,
        )
        leader = Leader(sessions, holder=f"{name}/{id(self)}", now=clock)
        self.reaper = Reaper(sweeps, leader, node=name, now=clock, publish=self.reports.append)


def counters(report: Report) -> dict[str, dict[str, int]]:
    """What was counted, without the zeros, sweeps with nothing left out."""
    found = {
        sweep.sweep.value: {name: n for name, n in sweep.counters.items() if n}
        for sweep in report.sweeps
    }
    return {name: counted for name, counted in found.items() if counted}


@cache
def _template() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tusd-template-")) / "state.db"
    migrate(f"sqlite:///{path}")
    return path


@asynccontextmanager
async def quick_store(folder: Path) -> AsyncIterator[SqlStore]:
    """A migrated SQLite database that costs a copy of a file, and no flush."""
    path = folder / "state.db"
    shutil.copy(_template(), path)
    store = SqlStore.connect(f"sqlite:///{path}", synchronous="NORMAL")
    try:
        yield store
    finally:
        await store.aclose()
