"""Brings a database to the schema of this version, and tells whether it is there.

Owns the use of Alembic. The migrations are inside the package; no ini file is needed. Several
processes may migrate at once: one does it, the others wait and find it done.

Alembic is imported only to migrate: it would stay in a server's memory (12 MiB) for nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, inspect

from tusd_storage.sql.engine import SQLITE, make_engine
from tusd_storage.sql.errors import classify

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = "alembic_version"
# Any fixed number; it keeps two migrations of one PostgreSQL database apart.
_ADVISORY_LOCK = 0x7475_7364


def migrate(url: str) -> None:
    """Upgrades to the newest revision; does nothing when it is there. Blocks.

    Raises: StateUnavailable; ValueError and ModuleNotFoundError as `make_engine`.
    """

    def upgrade(connection: Connection) -> None:
        if current_revision(connection) == newest_revision():
            return
        from alembic import command

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
