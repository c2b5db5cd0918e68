"""Executes on PostgreSQL: threads that hold one connection each.

Owns round trips, retries and broken connections. Knows no table. A single statement is its own
transaction (autocommit, one round trip), and the hot paths are single statements. Isolation is
READ COMMITTED: every write here is one compare-and-swap on one row. A server that has no further
connection to give (`max_connections`) is used with those that we have.
"""

import asyncio
from collections.abc import Callable
from select import POLLIN, poll
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from tusd_storage.errors import StateUnavailable
from tusd_storage.ports import Writing
from tusd_storage.sql.calls import Answer, Call, Connection, Patience, Threads, join
from tusd_storage.sql.errors import classify, closed, is_retryable

T = TypeVar("T")

_TRIES = 5  # a deadlock or serialization failure was rolled back whole; then again


class _Worker:
    """Runs calls on its own connection, and gets a new one when that has broken."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: PoolProxiedConnection | None = None

    def run(self, call: Call[Any]) -> Answer:
        try:
            self._open()
        except Exception as error:
            return Answer(call, error=classify(error) or error, begun=False)
        if (failed := call.prepare()) is not None:
            return failed
        for left in reversed(range(_TRIES)):
            try:
                return Answer(call, self._once(call))
            except Exception as error:
                if left and is_retryable(error):
                    continue
                failure = classify(error) or error
                if isinstance(failure, StateUnavailable):
                    # Broken, or on a server that has become a read-only standby.
                    self.close()
                return Answer(call, error=failure)
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _once(self, call: Call[Any]) -> object:
        assert self._held is not None
        connection: Any = self._held.driver_connection
        if not call.atomic:
            return call.work(connection)
        with connection.transaction():
            return call.work(connection)

    def _open(self) -> None:
        """Makes the connection good; a server that went away since the last call is noticed."""
        if self._held is not None and self._is_stale(self._held.driver_connection):
            self.close()
        if self._held is None:
            self._held = self._engine.raw_connection()

    @staticmethod
    def _is_stale(connection: Any) -> bool:
        """Whether the server has closed an idle connection. Costs one system call.

        An idle connection has nothing to say but a notice or its end.
        """
        if connection.closed:
            return True
        waiting = poll()  # not select(): that fails beyond 1024 open files
        waiting.register(connection.fileno(), POLLIN)
        return bool(waiting.poll(0))


class PostgresExecutor:
    """`Executor` on one PostgreSQL database."""

    def __init__(self, engine: Engine, *, pool_size: int, patience: Patience) -> None:
        self._engine = engine
        self._threads = Threads("sql", pool_size, lambda: _Worker(engine), patience)

    async def read(self, work: Callable[[Connection], T], *, refusable: bool = False) -> T:
        return await self._run(work, atomic=False, refusable=refusable)

    async def write(
        self,
        work: Callable[[Connection], T],
        *,
        flush: bool = True,
        refusable: bool = False,
        before: Writing | None = None,
    ) -> T:
        # Always flushed: nodes outlive a power loss of the database.
        return await self._run(work, atomic=False, refusable=refusable, before=before)

    async def transaction(
        self,
        work: Callable[[Connection], T],
        *,
        refusable: bool = False,
        before: Writing | None = None,
    ) -> T:
        return await self._run(work, atomic=True, refusable=refusable, before=before)

    def check_room(self) -> None:
        self._threads.check_room()

    async def aclose(self) -> None:
        await join(self._threads.close())
        self._engine.dispose()

    async def _run(
        self,
        work: Callable[[Connection], T],
        *,
        atomic: bool,
        refusable: bool,
        before: Writing | None = None,
    ) -> T:
        future = asyncio.get_running_loop().create_future()
        call: Call[T] = Call(work, future, atomic, refusable=refusable, before=before)
        if not self._threads.submit(call):
            raise closed()
        return await call.end()
