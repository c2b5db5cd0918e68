"""A database that gives too few connections, or stands: requests get 503 and Retry-After early,
what has arrived is committed, and it heals by itself.

The real program, a real PostgreSQL that allows few connections, and a SQLite file that another
process has locked.
"""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.blackbox.conftest import Site, open_site
from tests.blackbox.test_limits import patch_head, refusal, rows, until
from tests.support.engines import Engine
from tests.support.postgres import PostgresServer, postgres_server
from tusd_storage.sql import migrate

ALL, RESERVED = 8, 3
"""Connections of the PostgreSQL server, and those among them that only superusers get."""
MANY = 150
DATA = b"x" * 1000


@pytest.fixture(scope="module")
def small_postgres() -> Iterator[PostgresServer]:
    """A few connections, and a guest that is no superuser."""
    postgres_server()  # skips where there is none
    server = PostgresServer(max_connections=str(ALL), superuser_reserved_connections=str(RESERVED))
    server.start()
    try:
        server.execute("CREATE ROLE guest LOGIN")
        server.execute("CREATE DATABASE guests OWNER guest")
        yield server
    finally:
        server.remove()


def guest_url(server: PostgresServer) -> str:
    return server.url("guests").replace("postgres@", "guest@")


@pytest.fixture(scope="module")
def cramped(
    small_postgres: PostgresServer, seaweed: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server that would like ten connections."""
    migrate(guest_url(small_postgres))
    settings = {"TUSD_DATABASE_URL": guest_url(small_postgres)}
    yield from open_site(seaweed, tmp_path_factory, settings)


async def ask(site: Site, head: bytes, body: bytes = b"") -> bytes:
    """All that is answered to a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
    told = await reader.read()
    writer.close()
    return told


def create_head(site: Site) -> bytes:
    return (
        f"POST {site.path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Length: {len(DATA)}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


async def create_and_send(site: Site) -> bytes:
    """The answer to the last of two requests."""
    created = await ask(site, create_head(site))
    if b" 201 " not in created.splitlines()[0]:
        return created
    (location,) = [line for line in created.splitlines() if line.lower().startswith(b"location:")]
    path = location.split(b":", 1)[1].strip().decode()
    return await ask(site, patch_head(path, len(DATA)), DATA)


async def test_few_connections_are_enough_for_many(cramped: Site) -> None:
    """Threads that get no connection leave their work to those that have one."""
    answers = await asyncio.gather(*(create_and_send(cramped) for _ in range(MANY)))
    assert Counter(answer.split(b" ")[1] for answer in answers) == {b"204": MANY}


@contextmanager
def taken(server: PostgresServer) -> Iterator[None]:
    """All connections are somebody else's."""
    with ExitStack() as stack:
        held: list[psycopg.Connection[Any]] = []
        while len(held) < ALL:
            try:
                connection = psycopg.connect(server.url(), autocommit=True)
            except psycopg.OperationalError:
                held[0].execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guest'"
                )
            else:
                held.append(stack.enter_context(connection))
        yield


async def test_no_connection_at_all_is_told_and_heals(
    cramped: Site, small_postgres: PostgresServer
) -> None:
    url = cramped.tus.create(len(DATA))
    with taken(small_postgres):
        # The lease of a new upload stays for a while: its bytes come before anybody is asked.
        late = ask(cramped, patch_head(url, len(DATA)), DATA)
        answers = await asyncio.gather(
            late, *(ask(cramped, create_head(cramped)) for _ in range(20))
        )
        for answer in answers:
            assert refusal(answer) == (503, "state_unavailable"), answer
            assert b"\r\nretry-after: 2\r\n" in answer.lower()
        answer = cramped.tus.request("HEAD", url)
        assert (answer.status, answer["Upload-Error"]) == (423, "state_unavailable")
    assert cramped.tus.offset(url) == 0
    assert b" 204 " in await ask(cramped, patch_head(url, len(DATA)), DATA)


@pytest.fixture(scope="module")
def hurried(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """On SQLite; nobody waits longer than half a second for a turn."""
    settings = {"TUSD_DATABASE_WAIT_TIMEOUT": "0.5s", "TUSD_WORK": "false", "TUSD_REAP": "false"}
    yield from open_site(seaweed, tmp_path_factory, settings)


async def test_a_locked_file_refuses_what_begins_and_keeps_what_has_arrived(hurried: Site) -> None:
    running, *idle = [hurried.tus.create(len(DATA)) for _ in range(21)]
    before = rows(hurried)
    file = hurried.server.data_dir / "tusd.sqlite3"
    for url in idle:  # what stays for the next request is used without asking
        await asyncio.to_thread(until, lambda url=url: not has_lease(file, url))
    reader, writer = await asyncio.open_connection("127.0.0.1", hurried.server.port)
    writer.write(patch_head(running, len(DATA)) + DATA[:-1])
    await asyncio.to_thread(until, lambda: has_lease(file, running))
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # These come before anybody knows: the first of them finds out.
        first = [asyncio.create_task(ask(hurried, create_head(hurried))) for _ in range(MANY)]
        writer.write(DATA[-1:])
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        begun = time.monotonic()
        heads = [create_head(hurried), *(patch_head(url, len(DATA)) for url in idle)]
        later = await asyncio.gather(*(ask(hurried, head) for head in heads))
        took = time.monotonic() - begun
        answers = await asyncio.gather(*first) + later
        for answer in answers:
            assert refusal(answer) == (503, "state_overloaded"), answer
            assert b"\r\nretry-after: 2\r\n" in answer.lower()
        assert hurried.server.log().count('"state_overloaded"') == len(answers)  # a line for each
        assert took < 5, took  # they were not made to wait for the lock
        assert hurried.tus.offset(idle[0]) == 0  # who only reads is not in the way of a writer
        other.execute("ROLLBACK")
    told = await reader.read(1000)
    assert b" 204 " in told, told
    writer.close()
    assert rows(hurried) == before
    assert hurried.bucket.read(running) == DATA
    assert b" 204 " in await ask(hurried, patch_head(idle[0], len(DATA)), DATA)
    assert b" 201 " in await ask(hurried, create_head(hurried))


def has_lease(file: Path, url: str) -> bool:
    """Whether a request writes the upload."""
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT lease_holder FROM upload_sessions WHERE id = ?"
        row = connection.execute(query, (url.rpartition("/")[2],)).fetchone()
    return row is not None and row[0] is not None
