"""Brings a database to the schema of this version, and tells whether it is there.

Owns the use of Alembic. The migrations are inside the package; no ini file is needed. Several
processes may migrate at once: one does it, the others wait and find it done.

On PostgreSQL a change of a table waits for every transaction that has looked at it, and whatever
comes later waits behind the change: so it waits for a moment only, steps back, and tries again.

Alembic is imported only to migrate: it would stay in a server's memory (12 MiB) for nothing.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from tusd_storage.errors import StateUnavailable
from tusd_storage.sql.engine import SQLITE, make_engine
from tusd_storage.sql.errors import classify

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = "alembic_version"
# Any fixed number; it keeps two migrations of one PostgreSQL database apart.
_ADVISORY_LOCK = 0x7475_7364

LOCK_TIMEOUT_MS = 1_000
"""A table is waited for so long: all who use it wait behind us."""

PAUSE_S = 2.0
"""Between two tries: so long they have it to themselves."""

PATIENCE_S = 120.0
"""For all tries together."""

_LOCK_NOT_AVAILABLE = "55P03"


class TablesInUse(StateUnavailable):
    """A transaction holds the tables for longer than a migration waits."""


def migrate(url: str, *, patience_s: float = PATIENCE_S) -> None:
    """Upgrades to the newest revision; does nothing when it is there. Blocks.

    Raises: TablesInUse (nothing was changed); StateUnavailable; ValueError and ModuleNotFoundError
    as `make_engine`.
    """
    deadline = time.monotonic() + patience_s

    def upgrade(connection: Connection) -> None:
        while current_revision(connection) != newest_revision():
            try:
                _upgrade(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
                connection.exec_driver_sql("ROLLBACK")
                if time.monotonic() >= deadline:
                    raise TablesInUse(
                        "a transaction holds its tables for too long; nothing was changed"
                    ) from error
                time.sleep(PAUSE_S)

    _connected(url, upgrade)


def _upgrade(connection: Connection) -> None:
    """All that is missing, in one transaction."""
    from alembic import command

    sqlite = connection.dialect.name == SQLITE
    connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "BEGIN")
    if not sqlite:
        # A wait for another migration is no hang; a rewrite of a large table neither.
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.exec_driver_sql("COMMIT")


def schema_is_current(url: str) -> bool:
    """Whether the database is at the newest revision. Changes nothing. Blocks.

    Raises: as `migrate`.
    """
    return _connected(url, current_revision) == newest_revision()


def current_revision(connection: Connection) -> str | None:
    """The database's revision; None when it has never been migrated."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    revision: str | None = connection.exec_driver_sql(
        f"SELECT version_num FROM {_VERSION_TABLE}"  # noqa: S608 - a constant
    ).scalar()
    return revision


def newest_revision() -> str | None:
    """The revision this version of the program needs: files are named `v<revision>_<title>.py`."""
    names = [path.stem for path in (_MIGRATIONS / "versions").glob("v[0-9]*_*.py")]
    return max((name[1:].split("_")[0] for name in names), default=None)


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    # Percent signs are doubled because the value goes through ConfigParser.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _connected(url: str, work: Callable[[Connection], T]) -> T:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return work(connection)
    except Exception as error:
        if (failure := classify(error)) is not None:
            raise failure from failure.__cause__
        raise
    finally:
        engine.dispose()
