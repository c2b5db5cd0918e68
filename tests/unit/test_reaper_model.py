"""Random histories of uploads, crashes, faults and sweeps: nothing live is ever touched, and
everything dead is gone after enough sweeps."""

import asyncio
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tests.support.reaping import GRACE, IDLE, PREFIX, RETENTION, Clock, ReapedNode, quick_store
from tusd_py.protocol.errors import ProtocolError
from tusd_reaper.report import Sweep
from tusd_storage.errors import StorageError, StoreUnavailable
from tusd_storage.lifecycle import OPEN
from tusd_storage.partplan import MIB
from tusd_storage.records import Body, Kind, ObjectSpec, SessionState, UploadSession
from tusd_storage.sql import SqlStore
from tusd_storage.tail import tail_path

PATTERN = bytes(range(256)) * (12 * MIB // 256)
SMALL, LARGE = 1000, 11 * MIB
NODES = ("a", "b")
LIFETIME = timedelta(days=7)
MINUTE = timedelta(minutes=1)
FOREIGN = "elsewhere/object"

index = st.integers(0, 5)
node = st.sampled_from(NODES)
steps = st.one_of(
    st.tuples(st.just("create"), node, st.sampled_from([0, SMALL, LARGE, None])),
    st.tuples(st.just("partial"), node, st.just(SMALL)),
    st.tuples(st.just("final"), node, index, index),
    st.tuples(st.just("patch"), node, index, st.sampled_from([1, SMALL, 6 * MIB, LARGE])),
    st.tuples(st.just("patch"), node, index, st.sampled_from([SMALL, LARGE])),
    st.tuples(st.just("terminate"), node, index),
    st.tuples(st.just("die"), node, index),
    st.tuples(st.just("lose_tail"), node, index),
    st.tuples(st.just("stray_tail"), node),
    st.tuples(st.just("orphan"), index),
    st.tuples(st.just("late_object"), index),
    st.tuples(
        st.just("fault"),
        st.sampled_from(
            [
                *("put", "create_multipart", "upload_part", "complete_multipart", "copy_part"),
                *("abort_multipart", "list_parts", "list_multipart", "head", "delete", "read"),
            ]
        ),
        st.sampled_from(["before", "after"]),
    ),
    st.tuples(st.just("forward"), st.sampled_from([1, 61, 25 * 60, 8 * 1440, 31 * 1440])),
    st.tuples(st.just("sweep"), node),
    st.tuples(st.just("sweep"), node),
)


class History:
    """The world, and what must be true of it."""

    def __init__(self, sessions: SqlStore, folder: Path, stack: AsyncExitStack) -> None:
        self.clock = Clock()
        self.sessions = sessions
        self.memory = MemoryStore(now=self.clock)
        self.objects = FaultyStore(self.memory)
        self.folder = folder
        self.uploads: list[str] = []
        self.nodes = {name: self._node(name, stack) for name in NODES}

    def _node(self, name: str, stack: AsyncExitStack) -> ReapedNode:
        made = ReapedNode(
            self.sessions, self.objects, self.folder / name, clock=self.clock, name=name
        )
        stack.push_async_callback(made.aclose)
        return made

    async def run(self, history: list[tuple[object, ...]]) -> None:
        foreign = ObjectSpec(bucket="bucket", key=FOREIGN, token="foreign")
        await self.memory.create_multipart(foreign)
        await self.memory.put(foreign, Body(segments=(), size=0, crc32=0))
        for name, *arguments in history:
            with suppress(StorageError, ProtocolError):  # a client is told; the state counts
                await getattr(self, str(name))(*arguments)
        await self.come_to_rest()

    def pick(self, at: int) -> str | None:
        return self.uploads[at % len(self.uploads)] if self.uploads else None

    def tail(self, session: UploadSession, node: str) -> Path:
        return tail_path(session.id, root=self.folder / node)

    # -- What happens

    async def create(self, node: str, length: int | None, **headers: str) -> None:
        before = {row.id for row in await self.rows()}
        try:
            await self.nodes[node].create(length, **headers)
        finally:
            self.uploads += [row.id for row in await self.rows() if row.id not in before]

    async def partial(self, node: str, length: int) -> None:
        await self.create(node, length, upload_concat="partial")

    async def final(self, node: str, one: int, two: int) -> None:
        rows = [row.id for row in await self.rows() if row.kind is Kind.PARTIAL]
        if rows:
            paths = " ".join(f"/files/{rows[at % len(rows)]}" for at in (one, two))
            await self.create(node, None, upload_concat=f"final;{paths}")

    async def patch(self, node: str, at: int, size: int) -> None:
        row = await self.sessions.get(self.pick(at) or "")
        if row is not None:
            room = (row.length if row.length is not None else LARGE) - row.offset
            data = PATTERN[row.offset : row.offset + min(size, room)]
            await self.nodes[node].patch(row.id, row.offset, data)

    async def terminate(self, node: str, at: int) -> None:
        if (session_id := self.pick(at)) is not None:
            await self.nodes[node].engine.terminate(session_id)

    async def die(self, node: str, at: int) -> None:
        """A process of this node takes the upload and is never heard of again."""
        if (session_id := self.pick(at)) is not None:
            now = self.clock()
            await self.sessions.acquire(
                session_id, holder=f"{node}/dead", now=now, until=now + timedelta(seconds=15)
            )

    async def lose_tail(self, node: str, at: int) -> None:
        row = await self.sessions.get(self.pick(at) or "")
        if row is not None:
            self.tail(row, node).unlink(missing_ok=True)

    async def stray_tail(self, node: str) -> None:
        tail_path(f"{node}~stray", root=self.folder / node).write_bytes(b"?")

    async def orphan(self, at: int) -> None:
        """A crash between CreateMultipartUpload and its record."""
        row = await self.sessions.get(self.pick(at) or "")
        key = PREFIX + "nobody" if row is None else row.object_key
        await self.memory.create_multipart(ObjectSpec(bucket="bucket", key=key, token="?"))

    async def late_object(self, at: int) -> None:
        """A PutObject that was under way when its session ended."""
        row = await self.sessions.get(self.pick(at) or "")
        if row is not None and row.state not in OPEN and not is_owner(row):
            spec = ObjectSpec(bucket="bucket", key=row.object_key, token=row.token)
            await self.memory.put(spec, Body(segments=(), size=0, crc32=0))

    async def fault(self, method: str, when: str) -> None:
        self.objects.fail(method, StoreUnavailable("down"), when=when)  # type: ignore[arg-type]

    async def forward(self, minutes: int) -> None:
        self.clock.forward(minutes * MINUTE)

    async def sweep(self, node: str) -> None:
        before = await self.picture()
        await self.nodes[node].reaper.run(tuple(Sweep), apply=True)
        after = await self.picture()
        for session_id, seen in before.items():
            assert after[session_id] == seen, "something live was touched"

    # -- What must be true

    async def rows(self) -> list[UploadSession]:
        return await self.sessions.list_sessions(limit=10_000)

    async def picture(self) -> dict[str, tuple[object, ...]]:
        """Everything that belongs to an upload no sweep may touch."""
        return {row.id: self.seen(row) for row in await self.rows() if self.is_live(row)}

    def is_live(self, row: UploadSession) -> bool:
        if row.state is SessionState.COMPLETED:
            return is_owner(row) and (row.kind is not Kind.PARTIAL or not self.is_old(row, GRACE))
        finishable = row.received or row.kind is Kind.FINAL
        return row.state in OPEN and not finishable and not self.is_old(row, timedelta())

    def is_old(self, row: UploadSession, grace: timedelta) -> bool:
        # A margin: the clock runs on while the sweep does its work.
        return row.expires_at is None or row.expires_at + grace <= self.clock() + MINUTE / 2

    def seen(self, row: UploadSession) -> tuple[object, ...]:
        tail = None
        if row.tail_node is not None:
            path = self.tail(row, row.tail_node)
            tail = path.read_bytes() if path.exists() else None
        return (
            replace(row, lease_holder=None, lease_epoch=0, lease_until=None, lease_stolen=False),
            tail,
            row.upload_id in self.memory.uploads,
            self.memory.objects.get((row.bucket, row.object_key)),
        )

    async def come_to_rest(self) -> None:
        """Nothing fails any more, and time passes."""
        self.objects._planned.clear()
        for by in (LIFETIME, IDLE, IDLE, 2 * GRACE, RETENTION, 2 * GRACE, RETENTION):
            self.clock.forward(by + MINUTE)
            for name in NODES:
                report = await self.nodes[name].reaper.run(tuple(Sweep), apply=True)
                assert report.failed == 0, report
        await self.check_rest()

    async def check_rest(self) -> None:
        rows = await self.rows()
        for row in rows:
            assert is_owner(row) and row.kind is not Kind.PARTIAL, row
            assert row.lease_holder is None and row.cleanup_reason is None, row
        owned = {(row.bucket, row.object_key): row for row in rows}
        assert set(self.memory.objects) == {*owned, ("bucket", FOREIGN)}
        for key, row in owned.items():
            assert self.memory.objects[key].data == content(row), row
        assert [upload.spec.key for upload in self.memory.uploads.values()] == [FOREIGN]
        for name in NODES:
            assert list((self.folder / name / "tus").iterdir()) == []


def is_owner(row: UploadSession) -> bool:
    """Whether the row owns an object for good."""
    return row.state is SessionState.COMPLETED and row.deleted_at is None


def content(row: UploadSession) -> bytes:
    """What the object of a completed upload must hold."""
    if row.kind is Kind.FINAL:
        return PATTERN[:SMALL] * len(row.concat)
    return PATTERN[: row.length]


async def live_through(history: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            sessions = await stack.enter_async_context(quick_store(Path(folder)))
            await History(sessions, Path(folder), stack).run(history)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(steps, max_size=30))
def test_the_living_are_left_and_the_dead_are_gone(history: list[tuple[object, ...]]) -> None:
    asyncio.run(live_through(history))
