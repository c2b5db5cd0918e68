"""How a process takes leases, keeps them alive, and gives them back.

Owns the table of those that its requests hold, and one task that renews all of them and answers
whoever else wants an upload.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta

import structlog

from tusd_storage.errors import LeaseHeld, StorageError, Unavailable
from tusd_storage.frozen import changed
from tusd_storage.leases.kept import KeptLeases
from tusd_storage.leases.lease import Interruption, Lease
from tusd_storage.ports import SessionStore
from tusd_storage.records import Asset, UploadSession

log = structlog.get_logger(__name__)

POLL_S = 0.3
"""How often a holder looks whether somebody wants its upload, and a taker whether it is free."""

PATIENCE_S = 10.0
"""How long a request waits for the holder to let go before it is told to come back."""

_MARGIN = 0.8
"""Share of the lease's time after which a holder that could not renew stops writing."""


class LeaseManager:
    """The leases of one process. `holder` is `<node>/<instance>`."""

    def __init__(
        self,
        store: SessionStore,
        *,
        node: str,
        instance: str,
        ttl: timedelta,
        now: Callable[[], datetime],
        is_dead: Callable[[str], bool],
        keep_s: float = 0.0,
    ) -> None:
        """`keep_s`: how long a lease that nobody asks for stays after its request; 0 keeps none."""
        self.holder = f"{node}/{instance}"
        self._store = store
        self._node = node
        self._ttl = ttl
        self._now = now
        self._is_dead = is_dead
        self._held: dict[str, Lease] = {}
        self._kept = KeptLeases(keep_s, now)
        self._acquiring: Counter[str] = Counter()
        self._forgotten: dict[str, int] = {}
        self._newest: dict[str, object] = {}
        self._unsure_until = 0.0
        """Monotonic time until when there may be a lease of ours whose taking nobody answered."""
        self._keeper: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """Number of leases that requests of this process hold."""
        return len(self._held)

    @property
    def keeps(self) -> bool:
        """Whether a lease may stay after its request."""
        return self._kept.has_room

    def known(self, session_id: str) -> UploadSession | None:
        """The row of an upload whose lease stays with this process: nobody else can change it."""
        return self._kept.row(session_id)

    @asynccontextmanager
    async def hold(
        self,
        session_id: str,
        *,
        interrupt: Callable[[Interruption], None],
        patience_s: float = PATIENCE_S,
    ) -> AsyncIterator[Lease]:
        """Takes the lease, from its holder if need be, and gives it back at the end.

        `interrupt` is called at most once, on the event loop: the body of the `with` must then
        stop reading, keep what it has, and leave. With `patience_s=0` no holder is disturbed.

        Raises: LeaseHeld, SessionUnknown, StateUnavailable.
        """
        lease = await self._take(session_id, interrupt, patience_s)
        try:
            yield lease
        finally:
            await self._let_go(lease)

    async def create(self, session: UploadSession, asset: Asset | None) -> UploadSession:
        """Inserts a row with our lease in it, for `adopt` or `keep`: that saves taking it.

        Raises: what `SessionStore.create` raises.
        """
        session = changed(
            session, lease_holder=self.holder, lease_epoch=1, lease_until=self.until()
        )
        with self._on_its_way(session.id):
            await self._store.create(session, asset)
        return session

    @asynccontextmanager
    async def adopt(
        self, session: UploadSession, *, interrupt: Callable[[Interruption], None]
    ) -> AsyncIterator[Lease]:
        """As `hold`, for a row that `create` has just inserted."""
        lease = self._register(session, interrupt)
        try:
            yield lease
        finally:
            await self._let_go(lease)

    def keep(self, session: UploadSession) -> None:
        """As `adopt`, for a row nobody writes to yet: its lease stays for who does."""
        self._kept.put(self._leased(session, _ignore))

    def until(self) -> datetime:
        """When a lease taken now runs out."""
        return self._now() + self._ttl

    async def aclose(self) -> None:
        """Ends the keeper and gives back what stayed; leases still held run out by themselves."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        self._kept.close()
        with suppress(StorageError):
            await self._release_kept(self._kept.leases())
            await self._release_all(self._take_forgotten())

    async def _take(
        self, session_id: str, interrupt: Callable[[Interruption], None], patience_s: float
    ) -> Lease:
        if (lease := self._take_kept(session_id, interrupt)) is not None:
            self._newest.pop(session_id, None)  # of those that wait none is the newest any more
            return lease
        ticket = object()
        if patience_s:
            self._newest[session_id] = ticket
        try:
            async with asyncio.timeout(patience_s or None):
                await self._wait_for_sibling(session_id, ticket, disturb=bool(patience_s))
                return await self._take_row(session_id, ticket, interrupt, bool(patience_s))
        except TimeoutError as error:
            raise self._busy(session_id) from error
        finally:
            if self._newest.get(session_id) is ticket:
                del self._newest[session_id]

    def _take_kept(
        self, session_id: str, interrupt: Callable[[Interruption], None]
    ) -> Lease | None:
        """The lease that stayed here, under the same epoch."""
        kept = self._kept.pop(session_id)
        if kept is None:
            return None
        if not kept.lasts(self._now()):
            self._forgotten[session_id] = kept.epoch
            return None
        lease = self._held[session_id] = kept.again(interrupt)
        return lease

    async def _wait_for_sibling(self, session_id: str, ticket: object, *, disturb: bool) -> None:
        """Waits until no other request of this process holds the upload."""
        while (held := self._held.get(session_id)) is not None:
            if not disturb:
                raise self._busy(session_id)
            held.interrupt(Interruption.WANTED)
            await held.released.wait()
            self._check_newest(session_id, ticket)

    async def _take_row(
        self,
        session_id: str,
        ticket: object,
        interrupt: Callable[[Interruption], None],
        disturb: bool,
    ) -> Lease:
        asked = -1
        while True:
            try:
                return await self._acquire(session_id, interrupt)
            except LeaseHeld as held:
                if (kept := self._take_kept(session_id, interrupt)) is not None:
                    return kept  # a sibling had it when we asked, and is done
                if self._is_abandoned(held):
                    return await self._acquire(session_id, interrupt, over=held.holder)
                if not disturb:
                    raise
                if held.epoch != asked:
                    await self._store.want(session_id, held.epoch)
                    asked = held.epoch
            await asyncio.sleep(POLL_S)
            if disturb:
                self._check_newest(session_id, ticket)

    async def _acquire(
        self,
        session_id: str,
        interrupt: Callable[[Interruption], None],
        over: str | None = None,
    ) -> Lease:
        now = self._now()
        started = time.monotonic()
        with self._on_its_way(session_id):
            session = await self._store.acquire(
                session_id, holder=self.holder, now=now, until=now + self._ttl, over=over
            )
            return self._register(session, interrupt, started)

    @contextmanager
    def _on_its_way(self, session_id: str) -> Iterator[None]:
        """Meanwhile the row may name us without our knowing it yet; after a failure, too."""
        self._acquiring[session_id] += 1
        try:
            yield
        except (Unavailable, asyncio.CancelledError):
            self._unsure_until = time.monotonic() + self._ttl.total_seconds()
            self._start_keeper()
            raise
        finally:
            self._acquiring[session_id] -= 1
            if not self._acquiring[session_id]:
                del self._acquiring[session_id]

    def _is_abandoned(self, held: LeaseHeld) -> bool:
        """Whether nobody writes under this lease any more.

        Its holder is a process of this node that no longer lives; or it is this process, which
        could not give the lease back when the database was away.
        """
        if held.holder == self.holder:
            return held.session_id not in self._held and held.session_id not in self._acquiring
        node, _, instance = held.holder.partition("/")
        return node == self._node and self._is_dead(instance)

    def _check_newest(self, session_id: str, ticket: object) -> None:
        if self._newest.get(session_id) is not ticket:
            raise self._busy(session_id)

    def _busy(self, session_id: str) -> LeaseHeld:
        return LeaseHeld(session_id, holder=self.holder, epoch=0, until=self._now() + self._ttl)

    def _register(
        self,
        session: UploadSession,
        interrupt: Callable[[Interruption], None],
        started: float | None = None,
    ) -> Lease:
        lease = self._leased(session, interrupt, started)
        self._kept.pop(session.id)  # of an earlier epoch
        self._held[session.id] = lease
        return lease

    def _leased(
        self,
        session: UploadSession,
        interrupt: Callable[[Interruption], None],
        started: float | None = None,
    ) -> Lease:
        lease = Lease(session, interrupt, keeps=self.keeps)
        until, now = session.lease_until or self.until(), self._now()
        # A row may have waited for its transaction with our lease in it.
        waited = max(timedelta(), self._ttl - (until - now)).total_seconds()
        begun = time.monotonic() - waited if started is None else started
        lease.alive_until = begun + self._ttl.total_seconds() * _MARGIN
        lease.ends = until - self._ttl * (1 - _MARGIN)
        self._start_keeper()
        return lease

    def _start_keeper(self) -> None:
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="lease-keeper")

    async def _let_go(self, lease: Lease) -> None:
        try:
            if lease.given_back:
                pass
            elif lease.stays and lease.may_stay and self.keeps:
                self._kept.put(lease)
            else:
                await self._release(lease.session.id, lease.epoch)
        finally:
            if self._held.get(lease.session.id) is lease:
                del self._held[lease.session.id]
            lease.released.set()

    async def _release(self, session_id: str, epoch: int) -> None:
        """What cannot be given back now is tried again by the keeper, until it runs out."""
        try:
            await self._store.release(session_id, epoch)
        except Unavailable:
            self._forgotten[session_id] = epoch
        except BaseException:  # also when the request is cancelled in between
            self._forgotten[session_id] = epoch
            raise

    async def _keep(self) -> None:
        """Answers those who want an upload, renews all leases, notices lost ones."""
        renew_every_s = self._ttl.total_seconds() / 3
        next_renewal = time.monotonic() + renew_every_s
        while True:
            await asyncio.sleep(POLL_S)
            if not self._has_something():
                next_renewal = time.monotonic() + renew_every_s
                continue
            try:
                if time.monotonic() >= next_renewal:
                    await self._renew()
                    next_renewal = time.monotonic() + renew_every_s
                await self._release_all(self._take_forgotten())
                await self._answer()
                await self._release_kept(self._kept.idle())
            except StorageError:
                pass  # the next round tries again; leases that ran out are noticed below
            except Exception:  # without a keeper every lease of the process would run out
                log.exception("lease_keeper_failed")
            self._notice_lost()

    def _has_something(self) -> bool:
        """Whether there may be a lease of ours, known to us or not."""
        known = self._held or self._kept or self._forgotten
        return bool(known) or time.monotonic() < self._unsure_until

    def _take_forgotten(self) -> dict[str, int]:
        forgotten, self._forgotten = self._forgotten, {}
        return forgotten

    async def _answer(self) -> None:
        for session_id in await self._store.wanted(self.holder):
            lease = self._held.get(session_id)
            if lease is not None:
                lease.interrupt(Interruption.WANTED)
            elif session_id in self._kept:
                await self._release_kept([session_id])
            else:
                await self._give_back_unknown(session_id)

    async def _give_back_unknown(self, session_id: str) -> None:
        """A lease that we took without learning of it: it would be renewed with the others."""
        if self._knows(session_id):
            return
        row = await self._store.get(session_id)
        if self._knows(session_id):
            return
        if row is not None and row.lease_holder == self.holder:
            await self._store.release(session_id, row.lease_epoch)

    def _knows(self, session_id: str) -> bool:
        """Whether it is ours, or may become so at any time."""
        on_its_way = session_id in self._acquiring
        return on_its_way or session_id in self._held or session_id in self._kept

    async def _release_kept(self, session_ids: Iterable[str]) -> None:
        """Gives back what stayed. Raises: StateUnavailable; then the keeper tries again."""
        await self._release_all(self._kept.pop_all(session_ids))

    async def _release_all(self, leases: dict[str, int]) -> None:
        """All in one statement; what is not given back is not lost. Raises: StateUnavailable."""
        if not leases:
            return
        try:
            await self._store.release_many(leases)
        except BaseException:  # also when the keeper is ended in between
            self._forgotten = leases | self._forgotten
            raise

    async def _renew(self) -> None:
        before = self._current()
        started, ends = time.monotonic(), self._now() + self._ttl * _MARGIN
        renewed = await self._store.renew(self.holder, self.until())
        for session_id, lease in self._current().items():
            earlier = before.get(session_id)
            if earlier is None or earlier.epoch != lease.epoch:
                continue  # taken meanwhile
            if session_id in renewed:
                lease.alive_until = started + self._ttl.total_seconds() * _MARGIN
                lease.ends = ends
            elif not lease.given_back:
                self._lost(lease)
        for session_id in renewed - before.keys() - self._forgotten.keys():
            await self._give_back_unknown(session_id)

    def _current(self) -> dict[str, Lease]:
        """Everything that this process has, used or not."""
        return self._kept.leases() | self._held

    def _lost(self, lease: Lease) -> None:
        session_id = lease.session.id
        if session_id not in self._held:
            self._kept.pop(session_id)
            self._forgotten[session_id] = lease.epoch  # it would be renewed with the others
        lease.interrupt(Interruption.LOST)

    def _notice_lost(self) -> None:
        now = time.monotonic()
        for lease in self._current().values():
            if now >= lease.alive_until:
                self._lost(lease)


def _ignore(_: Interruption) -> None:
    """Nobody writes: there is nothing to stop."""
