"""One process at a time does what only one has to do: a lease on a name.

Owns taking, renewing and giving up. It saves work, and guards nothing: whatever is done under it
must be safe when two do it, for a process that hangs does not know that its time is over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from tusd_storage.errors import StorageError
from tusd_storage.ports.sweeps import Leadership

TERM = timedelta(seconds=60)
"""A leader that died is followed by another after this time."""


class Term:
    """Whether this process leads, now."""

    def __init__(self, leads: bool) -> None:
        self.leads = leads


class Leader:
    """Stands for election. `holder` names this process."""

    def __init__(
        self,
        store: Leadership,
        *,
        holder: str,
        now: Callable[[], datetime],
        term: timedelta = TERM,
    ) -> None:
        self._store = store
        self._holder = holder
        self._now = now
        self._term = term

    @asynccontextmanager
    async def term(self, name: str) -> AsyncIterator[Term]:
        """Leads until the end of the block, if nobody else does. Raises: StateUnavailable."""
        term = Term(await self._stand(name))
        if not term.leads:
            yield term
            return
        renewing = asyncio.create_task(self._renew(name, term), name=f"leader-{name}")
        try:
            yield term
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            with suppress(StorageError):  # it then runs out by itself
                await self._store.resign(name, holder=self._holder)

    async def _renew(self, name: str, term: Term) -> None:
        while term.leads:
            await asyncio.sleep(self._term.total_seconds() / 3)
            try:
                term.leads = await self._stand(name)
            except StorageError:
                term.leads = False  # nothing can be swept without the database either

    async def _stand(self, name: str) -> bool:
        now = self._now()
        return await self._store.lead(name, holder=self._holder, now=now, until=now + self._term)
