"""Threads and group commit: what one failing or slow call does to its neighbours."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.state import a_session, an_asset
from tusd_storage.errors import Rejected, StateOverloaded, StateUnavailable
from tusd_storage.sql import SqlStore, calls, migrate, sqlite
from tusd_storage.sql.calls import Connection, Patience
from tusd_storage.sql.engine import make_engine
from tusd_storage.sql.sqlite import SqliteExecutor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A SQLite file with one table."""
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, CHECK (n < 1000))")
        connection.commit()
    return path


@pytest.fixture
async def executor(path: Path) -> AsyncIterator[SqliteExecutor]:
    """The executor on it."""
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"))
    yield executor
    await executor.aclose()


def insert(*numbers: int, then: Exception | None = None) -> Any:
    """Work that inserts rows, and may fail after that."""

    def work(connection: Connection) -> int:
        for number in numbers:
            connection.execute("INSERT INTO t VALUES (:n)", {"n": number})
        if then is not None:
            raise then
        return sum(numbers)

    return work


def numbers(connection: Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n", {}).fetchall()]


class Gate:
    """Work that holds the writer until it is opened: what comes meanwhile is one group."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.reached.set()
        assert self.open.wait(10)


async def group(executor: SqliteExecutor, *works: Any) -> list[Any]:
    """Runs the works in one group."""
    gate = Gate()
    first = asyncio.create_task(executor.write(gate))
    await asyncio.to_thread(gate.reached.wait, 10)
    calls = [asyncio.create_task(executor.write(work)) for work in works]
    await asyncio.sleep(0)
    gate.open.set()
    await first
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_failing_call_is_undone_and_its_group_is_not(executor: SqliteExecutor) -> None:
    boom = RuntimeError("boom")
    done = await group(executor, insert(1, 2), insert(3, 4, then=boom), insert(5, 1), insert(6))
    assert done[0] == 3
    assert done[1] is boom
    assert isinstance(done[2], Rejected)
    assert done[3] == 6
    assert await executor.read(numbers) == [1, 2, 6]


async def test_a_group_is_one_commit(executor: SqliteExecutor) -> None:
    changes: set[int] = set()

    def work(n: int) -> Any:
        def insert_and_look(connection: Any) -> None:
            assert connection.in_transaction
            connection.execute("INSERT INTO t VALUES (:n)", {"n": n})
            # Changes once another connection has committed; and ours is not yet visible.
            changes.add(connection.execute("PRAGMA data_version").fetchone()[0])

        return insert_and_look

    def outside(connection: Connection) -> int:
        return len(numbers(connection))

    seen: list[int] = []

    def look(connection: Any) -> None:
        with closing(
            sqlite3.connect(connection.execute("PRAGMA database_list").fetchone()[2])
        ) as c:
            seen.append(outside(c))

    await group(executor, work(1), work(2), look, work(3))
    assert seen == [0]
    assert await executor.read(outside) == 3


async def test_what_is_asked_for_in_one_turn_of_the_loop_is_one_group(
    executor: SqliteExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = sqlite._Writer.run

    def counted(self: Any, group: list[Any], *, last_try: bool) -> Any:
        sizes.append(len(group))
        return run(self, group, last_try=last_try)

    async def ask(n: int) -> None:
        time.sleep(0.002)  # the writer could begin now
        await executor.write(insert(n))

    monkeypatch.setattr(sqlite._Writer, "run", counted)
    await asyncio.gather(*(ask(n) for n in range(20)))
    assert sizes == [20]
    await executor.write(insert(20))
    await executor.write(insert(21))
    assert sizes == [20, 1, 1]


async def test_what_was_asked_for_before_the_end_is_done(executor: SqliteExecutor) -> None:
    asked = asyncio.create_task(executor.write(insert(1)))
    await asyncio.sleep(0)  # it is asked for, and not yet handed over
    await executor.aclose()
    assert await asked == 1
    with pytest.raises(StateUnavailable):
        await executor.write(insert(2))


async def test_who_asks_beside_another_flushes_his_tail_himself(executor: SqliteExecutor) -> None:
    """Two flushes in the writer would follow one another; beside it they do not."""
    places: list[str] = []

    class Flush:
        def __call__(self) -> None:
            places.append("writer")

        async def ahead(self) -> None:
            places.append("ahead")

    await asyncio.gather(
        executor.write(insert(1), before=Flush()), executor.write(insert(2), before=Flush())
    )
    assert sorted(places) == ["ahead", "writer"]


async def test_a_group_that_cannot_commit_fails_whole(executor: SqliteExecutor, path: Path) -> None:
    def give_up(connection: Any) -> None:
        connection.execute("ROLLBACK")  # as SQLite itself does when the disk is full
        raise sqlite3.OperationalError("disk I/O error")

    done = await group(executor, insert(1), give_up, insert(2))
    assert all(isinstance(answer, StateUnavailable) for answer in done)
    assert await executor.read(numbers) == []
    assert await executor.write(insert(7)) == 7  # on a new connection
    assert await executor.read(numbers) == [7]


async def test_another_process_that_writes_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_MS", 20)
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"))
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            await executor.write(insert(1))
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StateUnavailable):  # a bounded number of times
                await executor.write(insert(2))
            assert await executor.read(numbers) == [1]  # readers are never in the way
            other.execute("COMMIT")
            assert await executor.write(insert(3)) == 3
    finally:
        await executor.aclose()


async def test_an_abandoned_call_is_not_begun(executor: SqliteExecutor) -> None:
    gate = Gate()
    first = asyncio.create_task(executor.write(gate))
    await asyncio.to_thread(gate.reached.wait, 10)
    abandoned = asyncio.create_task(executor.write(insert(1)))
    await asyncio.sleep(0)
    abandoned.cancel()
    gate.open.set()
    await first
    await executor.write(insert(2))
    assert await executor.read(numbers) == [2]


async def test_closing_finishes_what_was_asked_for(path: Path) -> None:
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"))
    calls = [asyncio.create_task(executor.write(insert(n))) for n in range(20)]
    await asyncio.sleep(0)
    await executor.aclose()
    assert [await call for call in calls] == list(range(20))
    assert not [t for t in threading.enumerate() if t.name.startswith(("sql-read", "sql-write"))]
    await executor.aclose()
    with pytest.raises(StateUnavailable):
        await executor.write(insert(99))
    with pytest.raises(StateUnavailable):
        await executor.read(numbers)


def test_a_store_serves_several_event_loops(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    migrate(url)
    store = SqlStore.connect(url)

    async def use(name: str) -> None:
        await store.create(a_session(name, asset_id=name), an_asset(name))
        assert await store.get(name) is not None

    asyncio.run(use("a"))
    threads = [threading.Thread(target=asyncio.run, args=(use(name),)) for name in "bcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asyncio.run(store.get_many("abcd"))) == 4
    asyncio.run(store.aclose())


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SqlStore.connect(f"sqlite:///{tmp_path}/file/state.db")
    for call in (store.ping(), store.release("x", 0)):
        with pytest.raises(StateUnavailable) as refused:
            await call
        assert str(tmp_path) not in str(refused.value)
    await store.aclose()


async def test_a_database_that_was_never_migrated(tmp_path: Path) -> None:
    store = SqlStore.connect(f"sqlite:///{tmp_path}/new/state.db")
    with pytest.raises(StateUnavailable, match="migrate"):
        await store.get("x")
    await store.aclose()


async def test_only_commits_that_need_it_are_flushed(executor: SqliteExecutor) -> None:
    def level(connection: Connection) -> int:
        (value,) = connection.execute("PRAGMA synchronous", {}).fetchone()
        return int(value)

    full, normal = 2, 1
    assert await executor.write(level) == full
    assert await executor.write(level, flush=False) == normal
    assert await executor.write(level, flush=False) == normal
    assert await executor.write(level) == full
    with pytest.raises(Rejected):
        await executor.write(insert(1, 1), flush=False)
    assert await executor.write(level) == full


async def test_one_commit_that_needs_a_flush_has_its_group_flushed(
    executor: SqliteExecutor,
) -> None:
    def level(connection: Connection) -> int:
        (value,) = connection.execute("PRAGMA synchronous", {}).fetchone()
        return int(value)

    gate = Gate()
    first = asyncio.create_task(executor.write(gate, flush=False))
    await asyncio.to_thread(gate.reached.wait, 10)
    calls = [asyncio.create_task(executor.write(level, flush=flush)) for flush in (False, True)]
    await asyncio.sleep(0)
    gate.open.set()
    await first
    assert await asyncio.gather(*calls) == [2, 2]


async def test_what_begins_a_request_waits_only_so_long(path: Path) -> None:
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"), Patience(0.2))
    gate = Gate()
    first = asyncio.create_task(executor.write(gate))
    await asyncio.to_thread(gate.reached.wait, 10)
    waiting = asyncio.create_task(executor.write(insert(1), refusable=True))
    commit = asyncio.create_task(executor.write(insert(2)))
    await asyncio.sleep(0.3)  # longer than its patience: what is tested is the clock
    with pytest.raises(StateOverloaded):  # at once: the writer has stood for longer
        await executor.write(insert(3), refusable=True)
    late = asyncio.create_task(executor.write(insert(4)))
    gate.open.set()
    await first
    with pytest.raises(StateOverloaded):
        await waiting
    assert [await commit, await late] == [2, 4]
    assert await executor.read(numbers, refusable=True) == [2, 4]
    assert await executor.write(insert(5), refusable=True) == 5
    await executor.aclose()


async def test_readers_that_are_busy_refuse_what_begins(path: Path) -> None:
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"), Patience(0.2))
    gates = [Gate(), Gate()]
    busy = [asyncio.create_task(executor.read(gate)) for gate in gates]
    for gate in gates:
        await asyncio.to_thread(gate.reached.wait, 10)
    waiting = asyncio.create_task(executor.read(numbers, refusable=True))
    commit = asyncio.create_task(executor.read(numbers))
    await asyncio.sleep(0.3)
    with pytest.raises(StateOverloaded):
        await executor.read(numbers, refusable=True)
    for gate in gates:
        gate.open.set()
    await asyncio.gather(*busy)
    with pytest.raises(StateOverloaded):
        await waiting
    assert await commit == []
    assert await executor.read(numbers, refusable=True) == []
    await executor.aclose()


async def test_a_queue_has_an_end(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(calls, "MOST_WAITING", 3)
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"), Patience(60))
    gate = Gate()
    first = asyncio.create_task(executor.write(gate))
    await asyncio.to_thread(gate.reached.wait, 10)
    works = [asyncio.create_task(executor.write(insert(n), refusable=True)) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StateOverloaded):
        await executor.write(insert(8), refusable=True)
    commit = asyncio.create_task(executor.write(insert(9)))
    await asyncio.sleep(0)
    gate.open.set()
    await first
    assert await asyncio.gather(*works, commit) == [0, 1, 2, 9]
    await executor.aclose()


async def test_a_file_that_is_locked_for_long_refuses_early(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_MS", 500)
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"), Patience(0.1))
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            await executor.write(insert(1))
            other.execute("BEGIN IMMEDIATE")
            commit = asyncio.create_task(executor.write(insert(2)))
            with pytest.raises(StateOverloaded):  # with the first of the tries
                await executor.write(insert(3), refusable=True)
            assert not commit.done()
            other.execute("COMMIT")
            assert await commit == 2
            assert await executor.write(insert(4), refusable=True) == 4
    finally:
        await executor.aclose()


def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


async def test_without_a_thread_nothing_is_done_and_later_all_is_well(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"))
    with monkeypatch.context() as refused:
        no_threads(refused)
        async with asyncio.timeout(5):
            for _ in range(3):
                with pytest.raises(StateUnavailable):
                    await executor.write(insert(1))
                with pytest.raises(StateUnavailable):
                    await executor.read(numbers)
    async with asyncio.timeout(5):
        await executor.write(insert(2))
        assert await executor.read(numbers) == [2]
        await executor.aclose()


async def test_where_no_further_thread_is_granted_those_there_are_do_the_work(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = SqliteExecutor(make_engine(f"sqlite:///{path}"))
    gate = threading.Event()

    def held(_connection: Connection) -> str:
        gate.wait(5)
        return "held"

    first = asyncio.create_task(executor.read(held))
    await asyncio.sleep(0.05)
    with monkeypatch.context() as refused:
        no_threads(refused)
        others = [asyncio.create_task(executor.read(numbers)) for _ in range(3)]
        await asyncio.sleep(0.05)
        gate.set()
        async with asyncio.timeout(5):
            assert await first == "held"
            assert await asyncio.gather(*others) == [[], [], []]
    async with asyncio.timeout(5):
        await executor.aclose()
