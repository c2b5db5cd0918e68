"""A database that is slower than what is asked of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.support.hook_server import HookServer
from tests.support.hooked import TUS, Serve, serve, server
from tests.support.state import Database
from tusd_storage.errors import StateOverloaded
from tusd_storage.sql.calls import Connection, Patience
from tusd_storage.sql.engine import make_engine
from tusd_storage.sql.postgresql import PostgresExecutor

__all__ = ["serve", "server"]

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


async def test_nobody_is_asked_about_what_cannot_be_created(
    serve: Serve, server: HookServer
) -> None:
    """No hook, and no store; on both databases."""
    settings = {"hooks_http": server.url, "database_pool_size": 1}
    async with serve(database_wait_timeout=f"{WAIT_S}s", **settings) as (app, client):
        sessions = app.state.services.sessions
        released = threading.Event()
        stuck = [
            asyncio.create_task(sessions._executor.write(lambda _: released.wait(20)))
            for _ in range(2)
        ]
        await asyncio.sleep(2 * WAIT_S)
        answers = [
            await client.post("/files/", headers=TUS | {"Upload-Length": "3"}),
            await client.post("/sessions", json={"strategy": "multipart"}),
            await client.post("/s3/multipart", json={"filename": "a", "type": "text/plain"}),
        ]
        released.set()
        await asyncio.gather(*stuck)
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "state_overloaded")
            assert answer.headers["retry-after"] == "2"
        assert server.calls == []
        made = await client.post("/files/", headers=TUS | {"Upload-Length": "3"})
        assert made.status_code == 201
        assert [call.type for call in server.calls][:1] == ["pre-create"]
