"""Makes the SQLAlchemy engine for a URL, and sets every connection up alike.

Owns URL rules, PRAGMAs and session settings. Knows no table. Whoever executes holds connections
itself (`executors`), so the engine pools nothing; all connections are in autocommit, and
transactions are begun in so many words.
"""

import os
import secrets
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

Synchronous = Literal["FULL", "NORMAL", "EXTRA"]
SQLITE = "sqlite"

_BUSY_TIMEOUT_MS = 5_000
_WAL_RETRY_S = 0.02
# A statement that hangs would hold a thread for ever; ours take milliseconds.
_POSTGRES_SETTINGS = {
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
}
# libpq: notice a dead network instead of waiting for it. A URL's own parameters win.
_POSTGRES_CONNECT = {"connect_timeout": "5", "tcp_user_timeout": "15000"}


def make_engine(url: str, *, synchronous: Synchronous = "FULL") -> Engine:
    """The engine for `sqlite:////path.db` or `postgresql://…`. Connects to nothing yet.

    Raises: ValueError for any other URL; ModuleNotFoundError when psycopg is not installed.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == SQLITE:
        return _sqlite(parsed, synchronous)
    return _postgresql(parsed)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without the cause: it may quote the URL, and with it the password.
        raise ValueError("the database URL cannot be read") from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return parsed.set(drivername="sqlite+pysqlite")
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError("the database URL must begin with sqlite:/// or postgresql://")


def _create_private(path: Path) -> None:
    """An empty file, under its name only once it is closed.

    Whoever opens and closes the file of a database that the same process has open takes all its
    locks away: they are the process's, not the descriptor's (SQLite: How To Corrupt, 2.2).
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _sqlite(url: URL, synchronous: str) -> Engine:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("SQLite needs a file: sqlite:////absolute/path.db")
    if synchronous not in ("FULL", "NORMAL", "EXTRA"):
        raise ValueError("synchronous must be FULL, NORMAL or EXTRA")
    path = Path(url.database)
    engine = create_engine(
        url,
        poolclass=NullPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000, "cached_statements": 256},
    )

    @event.listens_for(engine, "do_connect")
    def make_private(*_: object) -> None:
        """A new database is its owner's alone; SQLite's other files take after it."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(OSError):  # SQLite will say it better
                _create_private(path)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        _switch_to_wal(connection)
        for pragma in (
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _postgresql(url: URL) -> Engine:
    try:
        from psycopg.types.numeric import Int8Dumper
    except ImportError as error:
        raise ModuleNotFoundError(
            "PostgreSQL needs psycopg: pip install 'tusd-py[postgres]'", name="psycopg"
        ) from error
    engine = create_engine(
        url.update_query_dict({**_POSTGRES_CONNECT, **url.query}),
        poolclass=NullPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        connection.autocommit = True
        # One type for every integer, so that a statement is prepared once, not once per width.
        connection.adapters.register_dumper(int, Int8Dumper)
        settings = "; ".join(
            f"SET {name} = '{value}'" for name, value in _POSTGRES_SETTINGS.items()
        )
        connection.execute(settings)

    return engine


def _switch_to_wal(connection: Any) -> None:
    """The switch of a new file does not wait as other statements do: SQLite answers "locked" at
    once while another process makes it."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_WAL_RETRY_S)
        else:
            return
