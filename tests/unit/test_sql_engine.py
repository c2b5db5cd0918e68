"""URLs and drivers: what is accepted, and what no message may carry."""

import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from tests.support.state import Database, a_session, database, postgres_database, sqlite_database
from tusd_storage.errors import AlreadyExists, Rejected, StateUnavailable
from tusd_storage.sql import SqlStore, migrate, schema_is_current
from tusd_storage.sql.engine import Synchronous, make_engine
from tusd_storage.sql.errors import classify, is_busy, is_retryable

__all__ = ["database", "postgres_database", "sqlite_database"]

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "dialect"),
    [
        ("sqlite:////srv/state.db", "sqlite"),
        ("postgresql://user:pw@host/db", "postgresql"),
        ("postgres://user:pw@host/db", "postgresql"),
        ("postgresql+psycopg://user:pw@host:5433/db?sslmode=require", "postgresql"),
    ],
)
def test_urls(url: str, dialect: str) -> None:
    engine = make_engine(url)
    assert engine.dialect.name == dialect
    assert engine.dialect.driver in ("pysqlite", "psycopg")


def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.db"
    with closing(make_engine(f"sqlite:///{path}").raw_connection()) as connection:
        connection.cursor().execute("CREATE TABLE t (x)")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert set(modes.values()) == {0o600} and len(modes) > 1, modes
    assert path.parent.stat().st_mode & 0o777 == 0o700


LOOK = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM t'); c.close()"
)


def test_another_connection_takes_no_lock_away(tmp_path: Path) -> None:
    """Without its locks a process is overlooked: the last to leave deletes the log under it."""
    path = tmp_path / "state.db"
    engine = make_engine(f"sqlite:///{path}")
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute("CREATE TABLE t (x)")
        with closing(engine.raw_connection()) as second:
            second.cursor().execute("SELECT * FROM t")
        subprocess.run([sys.executable, "-c", LOOK, str(path)], check=True)
        assert path.with_name("state.db-wal").exists()
        connection.cursor().execute("INSERT INTO t VALUES (1)")
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT x FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "url",
    [
        "",
        f"hunter {SECRET}",
        f"mysql://root:{SECRET}@host/db",
        f"postgresql://user:{SECRET}@host:port/db",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql+asyncpg://host/db",
    ],
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        SqlStore.connect(url)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_what_the_url_says_wins() -> None:
    engine = make_engine("postgresql://host/db?connect_timeout=60")
    assert engine.url.query["connect_timeout"] == "60"
    assert "tcp_user_timeout" in engine.url.query


def test_synchronous_is_checked() -> None:
    wrong: Synchronous = "OFF"  # type: ignore[assignment]
    with pytest.raises(ValueError):
        make_engine("sqlite:////srv/state.db", synchronous=wrong)


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ModuleNotFoundError, match=r"tusd-py\[postgres\]"):
        make_engine("postgresql://host/db")


@pytest.mark.parametrize("synchronous", [1, 2])
def test_pragmas(tmp_path: Path, synchronous: int) -> None:
    name: Synchronous = "FULL" if synchronous == 2 else "NORMAL"
    engine = make_engine(f"sqlite:///{tmp_path}/x.db", synchronous=name)
    with engine.connect() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == synchronous
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == 5000
    engine.dispose()


async def test_a_server_that_is_not_there_is_told_without_secrets(tmp_path: Path) -> None:
    url = f"postgresql://user:{SECRET}@/db?host={tmp_path}"
    store = SqlStore.connect(url)
    with pytest.raises(StateUnavailable) as unavailable:
        await store.ping()
    assert SECRET not in "".join(traceback.format_exception(unavailable.value))
    assert str(tmp_path) not in str(unavailable.value)
    await store.aclose()
    for function in (migrate, schema_is_current):
        with pytest.raises(StateUnavailable) as unavailable:
            function(url)
        assert SECRET not in "".join(traceback.format_exception(unavailable.value))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite3.OperationalError("disk I/O error"), StateUnavailable),
        (sqlite3.OperationalError("no such table: x"), StateUnavailable),
        (sqlite3.DatabaseError("malformed"), StateUnavailable),
        (sqlite3.IntegrityError("CHECK constraint failed: ck_x"), Rejected),
        (psycopg.OperationalError("gone"), StateUnavailable),
        (psycopg.errors.UndefinedTable("x"), StateUnavailable),
        (psycopg.errors.AdminShutdown("x"), StateUnavailable),
        (psycopg.errors.QueryCanceled("x"), StateUnavailable),
        (psycopg.errors.UniqueViolation("x"), AlreadyExists),
        (psycopg.errors.NotNullViolation("x"), Rejected),
        (psycopg.errors.NumericValueOutOfRange("x"), Rejected),
        (psycopg.DataError("NUL"), Rejected),
        (OverflowError("int"), Rejected),
        (FileNotFoundError("/a/path"), StateUnavailable),
        (OperationalError("SELECT", {}, psycopg.OperationalError("gone")), StateUnavailable),
    ],
)
def test_driver_errors_become_the_taxonomy(error: Exception, expected: type[Exception]) -> None:
    assert type(classify(error)) is expected


def test_what_is_no_driver_error_stays_what_it_is() -> None:
    assert classify(KeyError("x")) is None
    assert not is_busy(KeyError("x"))


def test_what_is_tried_again() -> None:
    assert is_retryable(psycopg.errors.DeadlockDetected("x"))
    assert is_retryable(psycopg.errors.SerializationFailure("x"))
    assert not is_retryable(psycopg.errors.UniqueViolation("x"))
    assert not is_retryable(sqlite3.OperationalError("x"))


async def test_values_that_do_not_fit_are_refused(database: Database) -> None:
    async with database.open() as store:
        with pytest.raises(Rejected):
            await store.release("x", 2**70)
        if database.kind == "postgresql":
            with pytest.raises(Rejected):
                await store.release("nul\0", 1)
        await store.ping()


async def test_no_refusal_quotes_the_row(database: Database) -> None:
    session = a_session(token=SECRET)
    async with database.open() as store:
        await store.create(session, None)
        for wrong in (session, a_session("other", token=SECRET, length=-1)):
            with pytest.raises(Rejected) as refused:
                await store.create(wrong, None)
            assert SECRET not in "".join(traceback.format_exception(refused.value))
