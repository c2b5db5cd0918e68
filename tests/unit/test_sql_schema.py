"""Migrations and metadata say the same, on both databases."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from tests.support.postgres import postgres_server
from tests.support.state import (
    Database,
    database,
    empty_url,
    postgres_database,
    sqlite_database,
)
from tusd_storage.sql import TablesInUse, migrate, schema, schema_is_current
from tusd_storage.sql.engine import make_engine
from tusd_storage.sql.indexes import metadata
from tusd_storage.sql.schema import _config, current_revision, newest_revision

__all__ = ["database", "empty_url", "postgres_database", "sqlite_database"]

_POSTGRES_DDL = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
     WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT table_name, column_name,
           concat_ws(' ', data_type, is_nullable, column_default, collation_name)
      FROM information_schema.columns WHERE table_schema = 'public'
"""


def ddl(connection: Connection) -> set[tuple[str, ...]]:
    """Everything the database knows about our tables, in its own words."""
    if connection.dialect.name == "postgresql":
        rows = connection.execute(text(_POSTGRES_DDL)).fetchall()
        return {tuple(row) for row in rows if not row[0].startswith("alembic")}
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master")).fetchall()
    found: set[tuple[str, ...]] = set()
    for name, sql in rows:
        if not name.startswith("alembic"):
            # A column that was added later stands behind the constraints, on their line.
            found |= {(name, piece.strip(" \t)")) for piece in re.split("[,\n]", sql or "")}
    return found


def test_migrating_from_empty_gives_the_metadata(empty_url: str) -> None:
    assert not schema_is_current(empty_url)
    migrate(empty_url)
    assert schema_is_current(empty_url)
    engine = make_engine(empty_url)
    with engine.connect() as connection:
        assert current_revision(connection) == newest_revision()
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        migrated = ddl(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        assert ddl(connection) == migrated
    engine.dispose()


def test_migrating_again_changes_nothing(database: Database) -> None:
    migrate(database.url)
    assert schema_is_current(database.url)


def test_several_processes_may_migrate_at_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [empty_url] * 4))
    assert schema_is_current(empty_url)


def test_a_migration_that_fails_leaves_nothing(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = command.upgrade

    def upgrade_and_fail(config: Config, revision: str) -> None:
        real(config, revision)
        raise RuntimeError("killed")

    monkeypatch.setattr(command, "upgrade", upgrade_and_fail)
    with pytest.raises(RuntimeError):
        migrate(empty_url)
    monkeypatch.undo()
    assert not schema_is_current(empty_url)
    migrate(empty_url)
    assert schema_is_current(empty_url)


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgres_server().database() as url:
        yield url


def test_a_migration_stands_in_nobodys_way(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a long transaction, such as a backup's, and all others would wait behind it."""
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(schema, "PAUSE_S", 0.2)
    look = text("SELECT count(*) FROM upload_sessions")
    migrate(postgres_url)
    engine = make_engine(postgres_url)
    with engine.begin() as connection:
        _alembic(connection, command.downgrade, "0006")
    waits: list[float] = []
    with (
        engine.connect() as backup,
        engine.connect() as traffic,
        ThreadPoolExecutor(1) as pool,
    ):
        backup.exec_driver_sql("BEGIN")
        backup.execute(look)
        with pytest.raises(TablesInUse):
            migrate(postgres_url, patience_s=0)
        assert not schema_is_current(postgres_url)
        migrating = pool.submit(migrate, postgres_url)
        until = time.monotonic() + 1.5
        while (began := time.monotonic()) < until:
            traffic.execute(look)
            waits.append(time.monotonic() - began)
        assert not migrating.done()
        backup.exec_driver_sql("COMMIT")
        migrating.result(timeout=30)
    engine.dispose()
    assert schema_is_current(postgres_url)
    assert max(waits) < 1.0 and len(waits) > 20, (max(waits), len(waits))
    assert max(waits) > 0.05, "the migration did ask for its lock meanwhile"


def test_the_crc32_that_0_stood_for_is_known_or_not(empty_url: str) -> None:
    migrate(empty_url)
    engine = make_engine(empty_url)
    kinds = {"sent": ("single", "tus"), "copied": ("final", "tus"), "direct": ("single", "s3")}
    with engine.begin() as connection:
        _alembic(connection, command.downgrade, "0008-1")
        for name, (kind, protocol) in kinds.items():
            _insert(
                connection,
                "upload_sessions",
                id=name,
                protocol=protocol,
                kind=kind,
                object_key=name,
                **dict.fromkeys(("token", "metadata", "profile", "bucket"), "x"),
                strategy="multipart",
                state="uploading",
                concat="[]",
                **dict.fromkeys(("part_size", "part_growth", "parts_crc32", "tail_crc32"), 0),
                offset=5,
                parts_count=1,
                parts_size=5,
                length=9,
                **dict.fromkeys(("lease_epoch", "lease_stolen", "created_at", "updated_at"), 0),
            )
            for number, crc32 in ((1, 0), (2, 7)):
                part = {"session_id": name, "number": number, "size": 5, "etag": "e"}
                _insert(connection, "upload_parts", **part, crc32=crc32)
    migrate(empty_url)
    with engine.begin() as connection:
        rows = connection.execute(
            text("SELECT session_id, crc32 FROM upload_parts ORDER BY session_id, number")
        )
        assert [tuple(row) for row in rows] == [
            *(("copied", None), ("copied", 7)),
            *(("direct", None), ("direct", 7)),
            *(("sent", 0), ("sent", 7)),
        ]
        _alembic(connection, command.downgrade, "0008-1")
        zeros = connection.execute(text("SELECT count(*) FROM upload_parts WHERE crc32 = 0"))
        assert zeros.scalar() == 3
    engine.dispose()


def _alembic(connection: Connection, run: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    run(config, revision)


def _insert(connection: Connection, table: str, **values: object) -> None:
    columns = ", ".join(f'"{name}"' for name in values)
    params = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({params})"), values)


def test_the_newest_revision_is_alembics_head() -> None:
    assert newest_revision() == ScriptDirectory.from_config(_config()).get_current_head()
