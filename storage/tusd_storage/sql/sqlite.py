"""Executes on SQLite: one writer thread with group commit, a few readers.

Owns the writer's transaction and its savepoints. Knows no table. The flush to disk is what a
commit costs; all writes that wait while one flush runs share the next. Other processes on the
same file are waited for (busy timeout), a bounded number of times.
"""

import asyncio
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from tusd_storage.sql.calls import Answer, Call, Connection, Threads, join, resolve
from tusd_storage.sql.errors import classify, closed, is_busy

T = TypeVar("T")

_READERS = 2
_GROUP = 256  # calls in one commit: bounds how long the first of them waits
_BUSY_TRIES = 3  # times the busy timeout of the connection
_NORMAL = 1  # PRAGMA synchronous: commits are flushed with a later one that is, or a checkpoint


class _Link:
    """A thread's connection, opened when first used and after it broke."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: PoolProxiedConnection | None = None

    def open(self) -> Any:
        if self._held is None:
            self._held = self._engine.raw_connection()
        return self._held.driver_connection

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


class _Reader:
    """Runs one read on its own connection."""

    def __init__(self, engine: Engine) -> None:
        self._link = _Link(engine)

    def run(self, call: Call[Any]) -> Answer:
        try:
            return Answer(call, call.work(self._link.open()))
        except Exception as error:
            self._link.close()  # whatever was wrong with it, the next call begins afresh
            return Answer(call, error=classify(error) or error)

    def close(self) -> None:
        self._link.close()


class _Writer:
    """Runs a group of writes in one transaction, each inside a savepoint of its own."""

    def __init__(self, engine: Engine) -> None:
        self._link = _Link(engine)
        self._configured: int | None = None
        self._current: int | None = None

    def run(self, group: list[Call[Any]]) -> list[Answer]:
        try:
            connection = self._begin(flush=any(call.flush for call in group))
            answers = [self._step(connection, call, alone=len(group) == 1) for call in group]
            if connection.in_transaction:
                connection.execute("COMMIT")
        except Exception as error:
            self.close()  # rolls back whatever was begun
            return [Answer(call, error=classify(error) or error) for call in group]
        return answers

    def close(self) -> None:
        self._link.close()
        self._configured = self._current = None

    def _begin(self, *, flush: bool) -> Any:
        for left in reversed(range(_BUSY_TRIES)):
            try:
                connection = self._link.open()
                self._set_flush(connection, flush)
                connection.execute("BEGIN IMMEDIATE")
                return connection
            except Exception as error:
                if not (is_busy(error) and left):
                    raise
        raise AssertionError("unreachable")

    def _set_flush(self, connection: Any, flush: bool) -> None:
        """Has the next commit flushed as configured, or not at once. A flush costs milliseconds."""
        if self._configured is None:
            configured: int = connection.execute("PRAGMA synchronous").fetchone()[0]
            self._configured = self._current = configured
        wanted = self._configured if flush else min(self._configured, _NORMAL)
        if wanted != self._current:
            connection.execute(f"PRAGMA synchronous = {wanted}")
            self._current = wanted

    def _step(self, connection: Any, call: Call[Any], *, alone: bool) -> Answer:
        """One call of the group; its failure undoes it and leaves the others."""
        if not alone:
            connection.execute("SAVEPOINT step")
        try:
            answer = Answer(call, call.work(connection))
        except Exception as error:
            if not connection.in_transaction:
                raise  # SQLite gave up the whole transaction: disk full, I/O error
            connection.execute("ROLLBACK" if alone else "ROLLBACK TO step")
            answer = Answer(call, error=classify(error) or error)
            if alone:
                return answer
        if not alone:
            connection.execute("RELEASE step")
        return answer


class SqliteExecutor:
    """`Executor` on one SQLite file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._readers = Threads("sql-read", _READERS, lambda: _Reader(engine))
        self._queue: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._lock = Lock()
        self._writer: Thread | None = None
        self._closed = False

    async def read(self, work: Callable[[Connection], T]) -> T:
        call: Call[T] = Call(work, asyncio.get_running_loop().create_future())
        if not self._readers.submit(call):
            raise closed()
        return await call.future

    async def write(self, work: Callable[[Connection], T], *, flush: bool = True) -> T:
        call: Call[T] = Call(work, asyncio.get_running_loop().create_future(), flush=flush)
        with self._lock:
            if self._closed:
                raise closed()
            if self._writer is None:
                self._writer = Thread(target=self._serve, name="sql-write", daemon=True)
                self._writer.start()
            self._queue.put(call)
        return await call.future

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        return await self.write(work)

    async def aclose(self) -> None:
        with self._lock:
            self._closed = True
            threads = self._readers.close()
            if self._writer is not None:
                self._queue.put(None)
                threads.append(self._writer)
        await join(threads)
        self._engine.dispose()

    def _serve(self) -> None:
        writer = _Writer(self._engine)
        ended = False
        while not ended:
            waiting = self._take()
            ended = None in waiting
            if group := [call for call in waiting if call is not None and not call.abandoned]:
                resolve(writer.run(group))
        writer.close()

    def _take(self) -> list[Call[Any] | None]:
        """Waits for one call, then takes all that wait."""
        group = [self._queue.get()]
        try:
            while group[-1] is not None and len(group) < _GROUP:
                group.append(self._queue.get_nowait())
        except Empty:
            pass
        return group
