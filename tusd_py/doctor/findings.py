"""What a check says: which one, how it stands, what is wrong, and how to mend it. Values only."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and will not always."""
    BROKEN = "broken"
    SKIPPED = "skipped"
    """It could not be looked at, or does not apply here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    id: str
    """Stable, as in `store.put`."""
    status: Status
    what: str
    """What was seen, in a sentence."""
    mend: str = ""
    """What to do about it; empty where there is nothing to do."""


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(id=check, status=Status.OK, what=what)


def warning(check: str, what: str, mend: str) -> Finding:
    """It works for now."""
    return Finding(id=check, status=Status.WARNING, what=what, mend=mend)


def broken(check: str, what: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(id=check, status=Status.BROKEN, what=what, mend=mend)


def skipped(check: str, why: str) -> Finding:
    """It was not looked at."""
    return Finding(id=check, status=Status.SKIPPED, what=why)


def is_broken(findings: Iterable[Finding]) -> bool:
    """Whether anything is."""
    return any(finding.status is Status.BROKEN for finding in findings)
