"""Brings a database to the schema of this version, and tells whether it is there.

Owns the use of Alembic. The migrations are inside the package; no ini file is needed. Several
processes may migrate at once: one does it, the others wait and find it done.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tusd_storage.sql.engine import SQLITE, make_engine
from tusd_storage.sql.errors import classify

T = TypeVar("T")

_MIGRATIONS = Path(__file__).with_name("migrations")
# Any fixed number; it keeps two migrations of one PostgreSQL database apart.
_ADVISORY_LOCK = 0x7475_7364


def migrate(url: str) -> None:
    """Upgrades to the newest revision; does nothing when it is there. Blocks.

    Raises: StateUnavailable; ValueError and ModuleNotFoundError as `make_engine`.
    """

    def upgrade(connection: Connection) -> None:
        sqlite = connection.dialect.name == SQLITE
        connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "BEGIN")
        if not sqlite:
            # A wait for another migration is no hang; a rewrite of a large table neither.
            connection.exec_driver_sql(
                "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0"
            )
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.exec_driver_sql("COMMIT")

    _connected(url, upgrade)


def schema_is_current(url: str) -> bool:
    """Whether the database is at the newest revision. Changes nothing. Blocks.

    Raises: as `migrate`.
    """
    return _connected(url, current_revision) == newest_revision()


def current_revision(connection: Connection) -> str | None:
    """The database's revision; None when it has never been migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str | None:
    """The revision this version of the program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
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
