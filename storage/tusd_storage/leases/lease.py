"""The right to write one upload, as the request that has it sees it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from tusd_storage.errors import LeaseLost
from tusd_storage.records import UploadSession


class Interruption(StrEnum):
    """Why a writer is asked to stop."""

    WANTED = "wanted"
    LOST = "lost"
    SHUTDOWN = "shutdown"


class Lease:
    """The right to write one upload, until released or lost."""

    def __init__(
        self,
        session: UploadSession,
        interrupt: Callable[[Interruption], None],
        *,
        keeps: bool = False,
    ) -> None:
        self.session = session
        self.epoch = session.lease_epoch
        self.released = asyncio.Event()
        self.alive_until = 0.0
        """Monotonic time after which nothing may be written any more."""
        self.ends: datetime | None = None
        """The same by the clock on the wall, which may jump; for leases that stay."""
        self.given_back = False
        """Set by whoever released the lease inside a transaction of its own."""
        self.stays = False
        self.stayed = False
        """Whether it was here before: its row is known from then, and was not read again."""
        self._keeps = keeps
        self._interrupt: Callable[[Interruption], None] | None = interrupt

    @property
    def may_stay(self) -> bool:
        """Whether it may stay after its request: not where somebody waits for it."""
        return self._keeps and self._interrupt is not None

    def stay(self, session: UploadSession) -> None:
        """Has the lease stay with this process after the request, if it may.

        Only when every commit was answered: `session` is the row as the last one left it.
        """
        self.session = session
        self.stays = True

    def interrupt(self, why: Interruption) -> None:
        """Asks the writer to stop; only the first call counts."""
        ask, self._interrupt = self._interrupt, None
        if ask is not None:
            ask(why)

    def fence(self) -> None:
        """Raises LeaseLost when the lease may have run out. Safe to call from a thread."""
        if time.monotonic() >= self.alive_until:
            raise LeaseLost(self.session.id)

    def lasts(self, now: datetime) -> bool:
        """Whether nobody else can have it yet; who takes it over goes by the clock on the wall."""
        by_the_wall = self.ends is not None and now < self.ends
        return by_the_wall and time.monotonic() < self.alive_until

    def again(self, interrupt: Callable[[Interruption], None]) -> "Lease":
        """The same for the next request: what was begun under it has ended."""
        session = self.session
        if session.lease_stolen:  # its tail was moved by the request before this one
            session = replace(session, lease_stolen=False)
        lease = Lease(session, interrupt, keeps=True)
        lease.alive_until, lease.ends = self.alive_until, self.ends
        lease.stayed = True
        return lease
