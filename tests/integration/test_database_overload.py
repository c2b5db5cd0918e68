"""PostgreSQL that is slower than what is asked of it, and its threads and connections."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.support.state import Database
from tusd_storage.errors import StateOverloaded
from tusd_storage.sql.calls import Connection, Patience
from tusd_storage.sql.engine import make_engine
from tusd_storage.sql.postgresql import PostgresExecutor

WAIT_S = 0.2
THREADS = 2


@pytest.fixture
async def executor(postgres_database: Database) -> AsyncIterator[PostgresExecutor]:
    """Two connections, and little patience."""
    engine = make_engine(postgres_database.url)
    executor = PostgresExecutor(engine, pool_size=THREADS, patience=Patience(WAIT_S))
    yield executor
    await executor.aclose()


@contextmanager
def standing(url: str) -> Iterator[None]:
    """Whoever takes the lock waits for the end of this."""
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(1)")
        yield


def take_lock(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_lock(1)", {})
    connection.execute("SELECT pg_advisory_unlock(1)", {})


def answer(connection: Connection) -> int:
    (value,) = connection.execute("SELECT 42", {}).fetchone()
    return int(value)


async def test_when_all_threads_stand_what_begins_is_refused(
    executor: PostgresExecutor, postgres_database: Database
) -> None:
    with standing(postgres_database.url):
        stuck = [asyncio.create_task(executor.write(take_lock)) for _ in range(THREADS)]
        waiting = asyncio.create_task(executor.read(answer, refusable=True))
        commit = asyncio.create_task(executor.write(answer))
        await asyncio.sleep(2 * WAIT_S)  # longer than its patience: what is tested is the clock
        with pytest.raises(StateOverloaded):  # at once
            await executor.read(answer, refusable=True)
        assert not waiting.done() and not commit.done()
    await asyncio.gather(*stuck)
    with pytest.raises(StateOverloaded):  # as soon as its turn has come
        await waiting
    assert await commit == 42
    assert await executor.read(answer, refusable=True) == 42
