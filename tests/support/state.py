"""Records, databases and stores for tests of the SQL state.

Import the fixtures into a test module by name. `database` and `store` run each test on SQLite and
on a real PostgreSQL; they need `sqlite_database` and `postgres_database` beside them.
"""

import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.postgres import postgres_server
from tusd_storage.outbox import Outbox
from tusd_storage.records import (
    Append,
    Asset,
    AssetState,
    Completion,
    Kind,
    Part,
    Protocol,
    SessionState,
    Strategy,
    UploadSession,
)
from tusd_storage.sql import SqlStore, migrate

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LEASE = timedelta(seconds=30)
MIB = 1024 * 1024


def later(seconds: float) -> datetime:
    """`NOW` and some seconds."""
    return NOW + timedelta(seconds=seconds)


def a_session(session_id: str = "node~one", **changes: object) -> UploadSession:
    """A fresh tus upload of 100 MiB without an asset."""
    session = UploadSession(
        id=session_id,
        asset_id=None,
        protocol=Protocol.TUS,
        strategy=Strategy.RESUMABLE,
        state=SessionState.SIGNED,
        kind=Kind.SINGLE,
        profile="default",
        owner="alice",
        bucket="bucket",
        object_key=f"uploads/{session_id}",
        token="token",
        length=100 * MIB,
        part_size=5 * MIB,
        metadata="filename TWVuw7wucGRm",
        filename="Menü.pdf",
        content_type="application/pdf",
        created_at=NOW,
        updated_at=NOW,
        expires_at=later(86_400),
    )
    return replace(session, **changes)  # type: ignore[arg-type]


def a_session_in(state: SessionState, session_id: str) -> UploadSession:
    """A session as a row in that state may look."""
    if state is SessionState.COMPLETED:
        return a_session(session_id, state=state, offset=100 * MIB, etag='"etag"', completed_at=NOW)
    return a_session(session_id, state=state)


def an_asset(asset_id: str = "asset", **changes: object) -> Asset:
    """A staged asset."""
    asset = Asset(
        id=asset_id,
        state=AssetState.STAGED,
        profile="default",
        owner="alice",
        bucket="bucket",
        object_key=f"uploads/{asset_id}",
        filename="Menü.pdf",
        content_type=None,
        size=None,
        reason=None,
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(asset, **changes)  # type: ignore[arg-type]


def a_part(number: int, size: int = 5 * MIB) -> Part:
    """A ledger row."""
    return Part(number=number, size=size, etag=f'"etag-{number}"', crc32=4_294_967_295 - number)


def an_append(session: UploadSession, to_offset: int, *parts: Part, **changes: object) -> Append:
    """A commit point on top of this row."""
    commit = Append(
        id=session.id,
        epoch=session.lease_epoch,
        from_offset=session.offset,
        to_offset=to_offset,
        parts=parts,
        parts_crc32=1 if parts else session.parts_crc32,
        tail_node="node",
        tail_crc32=7,
        expires_at=session.expires_at,
        now=later(1),
    )
    return replace(commit, **changes)  # type: ignore[arg-type]


def a_completion(session: UploadSession, **changes: object) -> Completion:
    """The end of this upload."""
    completion = Completion(
        id=session.id,
        epoch=session.lease_epoch,
        size=100 * MIB,
        etag='"finished"',
        crc32=12345,
        content_type="application/pdf",
        now=later(2),
        job_id=f"job-{session.id}",
    )
    return replace(completion, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated, empty database."""

    kind: str
    url: str

    @asynccontextmanager
    async def open(self, outbox: Outbox | None = None) -> AsyncIterator[SqlStore]:
        """A store on it: each is what another process would have."""
        store = SqlStore.connect(self.url, outbox=outbox)
        try:
            yield store
        finally:
            await store.aclose()


@functools.cache
def _migrated_postgres() -> str:
    server = postgres_server()
    server.execute("CREATE DATABASE migrated")
    migrate(server.url("migrated"))
    return server.url("migrated")


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Database:
    """An empty SQLite database at the newest revision."""
    url = f"sqlite:///{tmp_path}/state.db"
    migrate(url)
    return Database("sqlite", url)


@pytest.fixture
def postgres_database() -> Database:
    """An empty PostgreSQL database at the newest revision."""
    url = _migrated_postgres()
    tables = "assets, upload_sessions, upload_parts, jobs, nodes, leaders, reaper_runs"
    postgres_server().execute(f"TRUNCATE {tables} CASCADE", database="migrated")
    return Database("postgresql", url)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """An empty database at the newest revision, on each engine in turn."""
    found = request.getfixturevalue(f"{request.param}_database")
    assert isinstance(found, Database)
    return found


@pytest.fixture
async def store(database: Database) -> AsyncIterator[SqlStore]:
    """A store on the database."""
    async with database.open() as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database that has never been migrated."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/made/on/demand/state.db"
    else:
        with postgres_server().database() as url:
            yield url


async def lease(store: SqlStore, session_id: str = "node~one", **changes: object) -> UploadSession:
    """Takes the lease as `node/1` for 30 seconds."""
    wanted: dict[str, object] = {"holder": "node/1", "now": NOW, "until": NOW + LEASE}
    return await store.acquire(session_id, **(wanted | changes))  # type: ignore[arg-type]
