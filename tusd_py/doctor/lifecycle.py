"""The second safety net: a rule of the bucket that aborts what the reaper never saw."""

from typing import Protocol

from tusd_py.doctor.findings import Finding, ok, skipped, warning
from tusd_storage.errors import NoSuchObject, StorageError, StoreRefused

CHECK = "store.lifecycle"
_MEND = (
    "Add a lifecycle rule to the bucket, for our prefix, that aborts incomplete multipart uploads"
    " some days after max_lifetime."
)


class Rules(Protocol):
    """Reads the bucket's rules."""

    async def abort_days(self, bucket: str, prefix: str) -> int | None:
        """After how many days the store aborts multipart uploads under the prefix, if ever."""
        ...


async def examine(rules: Rules, *, bucket: str, prefix: str, lifetime_days: float) -> Finding:
    """One check. `lifetime_days`: how long an upload may take."""
    try:
        days = await rules.abort_days(bucket, prefix)
    except NoSuchObject:
        days = None
    except StoreRefused as error:
        if error.code != "NoSuchLifecycleConfiguration":
            return skipped(CHECK, f"The store does not tell its lifecycle rules: {error}.")
        days = None
    except StorageError as error:
        return skipped(CHECK, f"The lifecycle rules cannot be read: {error}.")
    if days is None:
        what = "No lifecycle rule aborts multipart uploads that were left behind."
        return warning(CHECK, what, _MEND)
    if days <= lifetime_days:
        what = f"A lifecycle rule aborts multipart uploads after {days} days: that hits live ones."
        return warning(CHECK, what, _MEND)
    return ok(CHECK, f"A lifecycle rule aborts multipart uploads after {days} days.")
