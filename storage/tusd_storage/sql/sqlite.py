"""Executes on SQLite: one writer thread with group commit, a few readers.

Owns the writer's transaction and its savepoints. Knows no table. The flush to disk is what a
commit costs; all writes that wait while one flush runs share the next. What is asked for in one
turn of the event loop is handed over at its end: the first of many would wake the writer for itself
alone, and be waited for. Other processes on the same file are waited for (busy timeout), a bounded
number of times.
"""

import asyncio
import math
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from tusd_storage.errors import StateUnavailable
from tusd_storage.ports import Writing
from tusd_storage.sql.calls import (
    Answer,
    Call,
    Connection,
    Patience,
    Threads,
    join,
    resolve,
    started,
)
from tusd_storage.sql.errors import classify, closed, is_busy

T = TypeVar("T")

_READERS = 2
_GROUP = 256  # calls in one commit: bounds how long the first of them waits
_BUSY_TIMEOUT_MS = 1000  # of one try of the writer: then it looks who has waited too long
_BUSY_TRIES = 15
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
    """Runs a group of writes in one transaction, so that one flush serves them all.

    Nearly always all of them succeed. When one does not, everything is undone and done again with
    a savepoint for each, so that its failure stays its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._link = _Link(engine)
        self._configured: int | None = None
        self._current: int | None = None

    def run(self, group: list[Call[Any]], *, last_try: bool) -> list[Answer] | None:
        """None when another process writes just now; not for the last try. Nothing was done."""
        flush = any(call.flush for call in group)
        try:
            try:
                if len(group) == 1 and not group[0].atomic:
                    return [self._at_once(group[0], flush=flush)]
                connection = self._begin(flush=flush)
                answers = self._all(connection, group)
                if answers is None:
                    connection = self._begin(flush=flush)
            except Exception as error:
                if is_busy(error) and not last_try:
                    return None
                raise
            if answers is None:
                answers = [self._step(connection, call) for call in group]
            if connection.in_transaction:
                connection.execute("COMMIT")
        except Exception as error:
            return self._failed(group, error)
        return answers

    def close(self) -> None:
        self._link.close()
        self._configured = self._current = None

    def _failed(self, group: list[Call[Any]], error: Exception) -> list[Answer]:
        self.close()  # rolls back whatever was begun
        return [Answer(call, error=classify(error) or error) for call in group]

    def _begin(self, *, flush: bool) -> Any:
        connection = self._opened(flush=flush)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _at_once(self, call: Call[Any], *, flush: bool) -> Answer:
        """One statement is a transaction by itself."""
        connection = self._opened(flush=flush)
        try:
            return Answer(call, call.work(connection))
        except Exception as error:
            failure = classify(error) or error
            if isinstance(failure, StateUnavailable):
                raise
            return Answer(call, error=failure)

    def _opened(self, *, flush: bool) -> Any:
        connection = self._link.open()
        self._set_flush(connection, flush)
        return connection

    def _set_flush(self, connection: Any, flush: bool) -> None:
        """Has the next commit flushed as configured, or not at once. A flush costs milliseconds."""
        if self._configured is None:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            configured: int = connection.execute("PRAGMA synchronous").fetchone()[0]
            self._configured = self._current = configured
        wanted = self._configured if flush else min(self._configured, _NORMAL)
        if wanted != self._current:
            connection.execute(f"PRAGMA synchronous = {wanted}")
            self._current = wanted

    def _all(self, connection: Any, group: list[Call[Any]]) -> list[Answer] | None:
        """None where one of several failed: nothing was done, and the transaction is over."""
        if len(group) == 1:
            return [self._alone(connection, group[0])]
        try:
            return [Answer(call, call.work(connection)) for call in group]
        except Exception:
            if not connection.in_transaction:
                raise  # SQLite gave up the whole transaction: disk full, I/O error
            connection.execute("ROLLBACK")
            return None

    @staticmethod
    def _alone(connection: Any, call: Call[Any]) -> Answer:
        try:
            return Answer(call, call.work(connection))
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK")
            return Answer(call, error=classify(error) or error)

    @staticmethod
    def _step(connection: Any, call: Call[Any]) -> Answer:
        """One call of the group; its failure undoes it and leaves the others."""
        connection.execute("SAVEPOINT step")
        try:
            answer = Answer(call, call.work(connection))
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO step")
            answer = Answer(call, error=classify(error) or error)
        connection.execute("RELEASE step")
        return answer


def _prepared(group: list[Call[Any]]) -> tuple[list[Call[Any]], list[Answer]]:
    """The calls whose work can begin, and the answers of the others."""
    ready, failed = [], []
    for call in group:
        answer = call.prepare()
        if answer is None:
            ready.append(call)
        else:
            failed.append(answer)
    return ready, failed


class SqliteExecutor:
    """`Executor` on one SQLite file."""

    def __init__(self, engine: Engine, patience: Patience | None = None) -> None:
        self._engine = engine
        self._patience = patience or Patience()
        self._readers = Threads("sql-read", _READERS, lambda: _Reader(engine), self._patience)
        self._queue: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._lock = Lock()
        self._asked: dict[asyncio.AbstractEventLoop, list[Call[Any]]] = {}
        """In this turn of a loop."""
        self._pending: list[Call[Any]] = []
        """Taken from the queue by the writer, and not yet run."""
        self._ended = False
        self._writer: Thread | None = None
        self._standing_since: float | None = None
        """When the writer last began something that it has not ended well."""
        self._closed = False

    async def read(self, work: Callable[[Connection], T], *, refusable: bool = False) -> T:
        future = asyncio.get_running_loop().create_future()
        call: Call[T] = Call(work, future, refusable=refusable)
        if not self._readers.submit(call):
            raise closed()
        return await call.future

    async def write(
        self,
        work: Callable[[Connection], T],
        *,
        flush: bool = True,
        refusable: bool = False,
        before: Writing | None = None,
        atomic: bool = False,
    ) -> T:
        if refusable:
            self.check_room()
        if before is not None and self._busy:  # whoever waits for the writer flushes by himself
            await before.ahead()
            before = None
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        call: Call[T] = Call(work, future, atomic, flush, refusable, monotonic(), before)
        with self._lock:
            if self._closed:
                raise closed()
            asked = self._asked.setdefault(loop, [])
            asked.append(call)
        if len(asked) == 1:
            loop.call_soon(self._hand_over, loop)
        return await call.end()

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            calls = self._asked.pop(loop, [])
            if calls and self._writer is None:
                try:
                    self._writer = started(self._serve, "sql-write")
                except StateUnavailable as error:
                    resolve([Answer(call, error=error) for call in calls])
                    return
            for call in calls:
                self._queue.put(call)

    async def transaction(
        self,
        work: Callable[[Connection], T],
        *,
        refusable: bool = False,
        before: Writing | None = None,
    ) -> T:
        return await self.write(work, refusable=refusable, before=before, atomic=True)

    @property
    def _busy(self) -> bool:
        """Whether the writer does something, or will."""
        return self._standing_since is not None or self._waiting > 0

    @property
    def _waiting(self) -> int:
        asked = sum(len(calls) for calls in list(self._asked.values()))
        return asked + self._queue.qsize() + len(self._pending)

    def check_room(self) -> None:
        self._patience.check(self._waiting, self._standing_since)

    async def aclose(self) -> None:
        for loop in list(self._asked):
            self._hand_over(loop)
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
        while group := self._take():
            if self._standing_since is None:
                self._standing_since = monotonic()
            answers = self._run(writer, group)
            moved = any(not isinstance(answer.error, StateUnavailable) for answer in answers)
            if moved or not (self._pending or self._queue.qsize()):
                self._standing_since = None  # with nobody left, the next one finds out
            resolve(answers)
        writer.close()

    def _run(self, writer: _Writer, group: list[Call[Any]]) -> list[Answer]:
        """What the database did for those of the group that had the patience."""
        group, failed = _prepared(group)
        for left in reversed(range(_BUSY_TRIES)):
            group = self._patience.sift(group)
            answers = writer.run(group, last_try=not left) if group else []
            if answers is not None:
                return failed + answers
            self._receive()
            self._pending = self._patience.sift(self._pending)
        raise AssertionError("unreachable")

    def _take(self) -> list[Call[Any]]:
        """Waits for one call, then takes all that wait; none at the end."""
        if not self._pending and not self._ended:
            self._accept(self._queue.get())
        self._receive(_GROUP)
        group, self._pending = self._pending[:_GROUP], self._pending[_GROUP:]
        return group

    def _receive(self, limit: float = math.inf) -> None:
        """Takes what is in the queue, until `limit` calls are pending."""
        try:
            while len(self._pending) < limit:
                self._accept(self._queue.get_nowait())
        except Empty:
            return

    def _accept(self, call: Call[Any] | None) -> None:
        if call is None:
            self._ended = True
        else:
            self._pending.append(call)
