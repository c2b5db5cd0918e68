"""The database: does it answer, and does it have the schema of this version?"""

from collections.abc import Awaitable, Callable

from tusd_py.doctor.findings import Finding, broken, ok, skipped, warning
from tusd_storage.errors import StorageError


async def examine(
    ping: Callable[[], Awaitable[None]],
    is_current: Callable[[], Awaitable[bool]],
    *,
    embedded: bool,
) -> list[Finding]:
    """`embedded`: the server brings this database up to date by itself when it starts."""
    try:
        await ping()
    except StorageError as error:
        mend = "Start the database, or correct TUSD_DATABASE_URL."
        return [
            broken("database.reachable", f"The database cannot be asked: {error}.", mend),
            skipped("database.migrated", "The database cannot be asked."),
        ]
    return [
        ok("database.reachable", "The database answers."),
        await _migrated(is_current, embedded=embedded),
    ]


async def _migrated(is_current: Callable[[], Awaitable[bool]], *, embedded: bool) -> Finding:
    check, mend = "database.migrated", "Run `tusd-py migrate` with the same settings."
    try:
        if await is_current():
            return ok(check, "The schema is the one of this version.")
    except StorageError as error:
        return broken(check, f"The schema cannot be read: {error}.", mend)
    what = "The schema is not the one of this version."
    if embedded:
        return warning(check, what, "Nothing: the server brings it up to date when it starts.")
    return broken(check, what, mend)
