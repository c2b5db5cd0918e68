"""Contracts beside `ports`: what is written together with a state change, for others to be told.

Same rules as in `ports`. An announcement is part of the transaction of the change it speaks of:
both happen or none. A store without an outbox runs not one statement more.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tusd_storage.records import Asset, UploadSession


class Change(StrEnum):
    """What can happen to a session or to its asset. Each happens at most once."""

    CREATED = "created"
    COMPLETED = "completed"
    ABORTED = "aborted"
    EXPIRED = "expired"
    FAILED = "failed"
    DELETED = "deleted"
    """Completed, and then terminated."""
    AVAILABLE = "available"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be queued. One whose id is there already is not queued again."""

    id: str
    kind: str
    subject: str
    payload: dict[str, object]
    run_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What goes into the database with a change."""

    jobs: tuple[NewJob, ...] = ()
    awaits_answer: bool = False
    """Make room for a final answer, see `AnswerStore`; only with `COMPLETED`."""


Announce = Callable[[Change, UploadSession, Asset | None], Announcement]
"""Called inside the transaction, perhaps again, in any thread: it only computes. The rows are as
the change leaves them; the asset is given where the change is one of its own."""


class Outbox(Protocol):
    """Says what to write with each change."""

    def bind(self) -> Announce:
        """Called on the event loop by whoever asks for a change, right before its transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalAnswer:
    """What the client is told at the end of its upload, once the application has said it."""

    content: dict[str, object] | None
    """None: the application has not said it yet."""


class AnswerStore(Protocol):
    """Final answers: said once, told as often as the client asks."""

    async def final_answer(self, session_id: str) -> FinalAnswer | None:
        """None: no answer is wanted for this session."""
        ...

    async def keep_answer(
        self,
        session_id: str,
        content: dict[str, object],
        *,
        hasten: Collection[str],
        now: datetime,
    ) -> FinalAnswer | None:
        """Keeps the first answer; the one that is kept, which may be another's, or None as above.

        In the same transaction the jobs of these ids become due, unless they have been tried.
        """
        ...
