"""The one place where driver errors become the taxonomy of `tusd_storage.errors`.

Owns the classification: what the same call would meet again is `Rejected`, everything else leaves
the outcome unknown and is `StateUnavailable`. Messages carry the kind of failure and at most the
name of a constraint: never a statement, a parameter, a host or a URL (URLs hold passwords).
"""

import re
import sqlite3
import sys
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tusd_storage.errors import AlreadyExists, Rejected, StateUnavailable, StorageError

if TYPE_CHECKING:
    import psycopg

_NOT_MIGRATED = "the database schema is missing or out of date: run `tusd-py migrate`"
_RETRYABLE = ("40001", "40P01")  # serialization_failure, deadlock_detected: rolled back, unharmed
_SQLITE_TAKEN = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")
_SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def classify(error: Exception) -> StorageError | None:
    """The taxonomy's word for a driver error; None for anything that is not one.

    A new exception each time, so that several callers may get one. What is unavailable keeps the
    driver's error as its cause, for whoever runs the database; what is rejected does not: there
    the driver quotes the row, and with it names and tokens.
    """
    if isinstance(error, StorageError):
        return error
    failure = _translate(error)
    if isinstance(failure, StateUnavailable):
        failure.__cause__ = error
    return failure


def _translate(error: Exception) -> StorageError | None:
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        return _translate(error.orig)
    if isinstance(error, sqlite3.Error):
        return _from_sqlite(error)
    if isinstance(error, OSError):
        return StateUnavailable(f"the database cannot be reached ({type(error).__name__})")
    if isinstance(error, (OverflowError, UnicodeEncodeError)):
        return Rejected(f"a value does not fit into the database ({type(error).__name__})")
    if _is_psycopg(error):
        return _from_psycopg(error)
    if isinstance(error, SQLAlchemyError):
        return StateUnavailable(f"the database did not do it ({type(error).__name__})")
    return None


def is_busy(error: Exception) -> bool:
    """Whether another SQLite writer was in the way; nothing has happened."""
    return (
        isinstance(error, sqlite3.OperationalError)
        and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_BUSY
    )


def is_retryable(error: Exception) -> bool:
    """Whether PostgreSQL rolled the transaction back only because of its neighbours."""
    return _is_psycopg(error) and getattr(error, "sqlstate", None) in _RETRYABLE


def closed() -> StateUnavailable:
    """For a call that comes after `aclose`."""
    return StateUnavailable("the database has been closed")


def _from_sqlite(error: sqlite3.Error) -> StorageError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if isinstance(error, sqlite3.IntegrityError):
        # "CHECK constraint failed: ck_…", "UNIQUE constraint failed: table.column": no values.
        found = re.search(r"constraint failed: ([\w., ]+)$", str(error))
        kind = AlreadyExists if name in _SQLITE_TAKEN else Rejected
        return kind(f"the database refused it: {found[1] if found else name}")
    if isinstance(error, sqlite3.DataError):
        return Rejected(f"the database refused a value ({name})")
    if "no such table" in str(error) or "no such column" in str(error):
        return StateUnavailable(_NOT_MIGRATED)
    return StateUnavailable(f"the database did not answer ({name})")


def _is_psycopg(error: Exception) -> bool:
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(error, driver.Error)


def _from_psycopg(error: "psycopg.Error | Exception") -> StorageError:
    import psycopg

    assert isinstance(error, psycopg.Error)
    name = error.sqlstate or type(error).__name__
    if isinstance(error, psycopg.IntegrityError):
        kind = AlreadyExists if isinstance(error, psycopg.errors.UniqueViolation) else Rejected
        return kind(f"the database refused it: {error.diag.constraint_name or name}")
    if isinstance(error, psycopg.DataError):
        return Rejected(f"the database refused a value ({name})")
    if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
        return StateUnavailable(_NOT_MIGRATED)
    return StateUnavailable(f"the database did not answer ({name})")
