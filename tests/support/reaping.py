"""Nodes with a clock that can be put forward, and the reaper of each: for tests of the sweeps.

Owns the wiring; the database, the store and the tails are whatever the test brings, or those of a
`World`. Import its fixtures, `world` and `node`, by name.
"""

import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from tests.support.faulty_store import FaultyStore
from tests.support.harness import Node
from tests.support.memory_store import MemoryStore
from tusd_py.clock import utc_now
from tusd_reaper.actions import Finish, Tools
from tusd_reaper.leader import Leader
from tusd_reaper.reaper import Reaper
from tusd_reaper.report import Report, Sweep
from tusd_reaper.sweeps import Area, Sweeps
from tusd_storage.partplan import MIB
from tusd_storage.ports import ObjectStore
from tusd_storage.records import Body, ObjectSpec, Protocol, UploadSession
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.tail import tail_path

GRACE = timedelta(hours=1)
RETENTION = timedelta(days=30)
IDLE = timedelta(hours=24)
"""When an upload that nobody continues expires."""
PREFIX = "up/"
SECOND = timedelta(seconds=1)
PART = bytes(5 * MIB)
EMPTY = Body(segments=(), size=0, crc32=0)


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


class World:
    """One database and one bucket; nodes on demand."""

    def __init__(self, sessions: SqlStore, folder: Path, stack: AsyncExitStack) -> None:
        self.clock = Clock()
        self.sessions = sessions
        self.memory = MemoryStore(now=self.clock)
        self.objects = FaultyStore(self.memory)
        self._folder = folder
        self._stack = stack

    def node(self, name: str = "a", **options: object) -> ReapedNode:
        node = ReapedNode(
            self.sessions,
            self.objects,
            self._folder / name,
            clock=self.clock,
            name=name,
            **options,  # type: ignore[arg-type]
        )
        self._stack.push_async_callback(node.aclose)
        return node

    def tail(self, node: ReapedNode, session_id: str) -> Path:
        return tail_path(session_id, root=self._folder / node.config.node)

    async def row(self, session: UploadSession | str) -> UploadSession:
        row = await self.sessions.get(session if isinstance(session, str) else session.id)
        assert row is not None
        return row

    async def orphan(self, key: str) -> str:
        return await self.memory.create_multipart(ObjectSpec(bucket="bucket", key=key, token="t"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(quick_store(tmp_path))
        yield World(sessions, tmp_path, stack)


@pytest.fixture
def node(world: World) -> ReapedNode:
    return world.node()


async def sweep(node: ReapedNode, *only: Sweep, apply: bool = True) -> Report:
    return await node.reaper.run(only or tuple(Sweep), apply=apply)


async def clean_sweep(node: ReapedNode, *only: Sweep) -> dict[str, dict[str, int]]:
    report = await sweep(node, *only)
    assert report.failed == 0, report
    return counters(report)


async def large(node: ReapedNode) -> UploadSession:
    """An upload with one part in the store and a tail."""
    upload = await node.create(20 * MIB)
    return await node.patch(upload, 0, PART + b"tail")


async def partial(node: ReapedNode, data: bytes) -> UploadSession:
    upload = await node.create(len(data), upload_concat="partial")
    return await node.patch(upload, 0, data)
