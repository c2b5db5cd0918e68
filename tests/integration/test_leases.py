"""Leases on a real database: one writer, the newest request wins, the dead give way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from tests.support.harness import create_request
from tusd_py.clock import utc_now
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import new_upload
from tusd_storage.errors import LeaseHeld, LeaseLost, SessionUnknown, StateUnavailable
from tusd_storage.leases import Interruption, LeaseManager, kept
from tusd_storage.records import Asset, UploadSession
from tusd_storage.sql import SqlStore

TTL = timedelta(seconds=15)
Make = Callable[..., LeaseManager]


@pytest.fixture
async def make(store: SqlStore) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def make(
            node: str,
            instance: str,
            ttl: timedelta = TTL,
            *,
            dead: tuple[str, ...] = (),
            keep_s: float = 0.0,
        ) -> LeaseManager:
            manager = LeaseManager(
                store,
                node=node,
                instance=instance,
                ttl=ttl,
                now=utc_now,
                is_dead=dead.__contains__,
                keep_s=keep_s,
            )
            stack.push_async_callback(manager.aclose)
            return manager

        yield make


@pytest.fixture
async def upload(store: SqlStore) -> UploadSession:
    config = UploadConfig(bucket="b", node="a")
    session, asset = new_upload(create_request(100), config, owner=None, length=100, now=utc_now())
    await store.create(session, asset)
    return session


class Writer:
    """Holds a lease until told to let go, as an appender does."""

    def __init__(self, manager: LeaseManager, upload: UploadSession) -> None:
        self.asked: list[Interruption] = []
        self.holding = asyncio.Event()
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._hold(manager, upload.id))

    async def _hold(self, manager: LeaseManager, session_id: str) -> int:
        async with manager.hold(session_id, interrupt=self._interrupted) as lease:
            self.holding.set()
            await self._leave.wait()
            lease.fence()
            return lease.epoch

    def _interrupted(self, why: Interruption) -> None:
        self.asked.append(why)
        self._leave.set()

    def leave(self) -> None:
        self._leave.set()


async def test_the_newest_request_of_a_process_wins(make: Make, upload: UploadSession) -> None:
    manager = make("a", "1")
    first = Writer(manager, upload)
    await first.holding.wait()
    second = Writer(manager, upload)
    await second.holding.wait()
    assert first.asked == [Interruption.WANTED]
    second.leave()
    assert await first.task < await second.task


async def test_of_several_that_wait_only_the_newest_gets_it(
    make: Make, upload: UploadSession
) -> None:
    manager = make("a", "1")
    gate = asyncio.Event()

    async def stubborn() -> None:
        async with manager.hold(upload.id, interrupt=lambda _: None):
            held.set()
            await gate.wait()

    held = asyncio.Event()
    holder = asyncio.create_task(stubborn())
    await held.wait()
    older = Writer(manager, upload)
    await asyncio.sleep(0)
    newest = Writer(manager, upload)
    await asyncio.sleep(0)
    gate.set()
    await newest.holding.wait()
    with pytest.raises(LeaseHeld):
        await older.task
    newest.leave()
    await newest.task
    await holder


async def test_another_process_is_asked_and_lets_go(make: Make, upload: UploadSession) -> None:
    first = Writer(make("a", "1"), upload)
    await first.holding.wait()
    second = Writer(make("b", "1"), upload)
    async with asyncio.timeout(5):
        await second.holding.wait()
    assert first.asked == [Interruption.WANTED]
    second.leave()
    await asyncio.gather(first.task, second.task)


async def test_without_patience_nobody_is_disturbed(make: Make, upload: UploadSession) -> None:
    here, there = make("a", "1"), make("b", "1")
    first = Writer(here, upload)
    await first.holding.wait()
    for manager in (here, there):
        with pytest.raises(LeaseHeld):
            async with manager.hold(upload.id, interrupt=lambda _: None, patience_s=0):
                pass
    assert not first.asked
    first.leave()
    await first.task


async def test_a_dead_process_of_this_node_gives_way_at_once(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    now = utc_now()
    await store.acquire(upload.id, holder="a/dead", now=now, until=now + timedelta(hours=1))
    async with (
        asyncio.timeout(5),
        make("a", "1", dead=("dead",)).hold(upload.id, interrupt=lambda _: None) as lease,
    ):
        assert lease.session.lease_stolen


async def test_a_dead_process_of_another_node_is_waited_for(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    now = utc_now()
    await store.acquire(upload.id, holder="a/dead", now=now, until=now + timedelta(hours=1))
    with pytest.raises(LeaseHeld):
        async with make("b", "1", dead=("dead",)).hold(
            upload.id, interrupt=lambda _: None, patience_s=0.1
        ):
            pass


async def test_a_holder_that_hangs_loses_the_lease_and_knows(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    short = timedelta(seconds=1)
    hanging = make("a", "1", short)
    async with hanging.hold(upload.id, interrupt=lambda _: None) as old:
        await hanging.aclose()  # nobody renews any more, as in a process that was stopped
        async with (
            asyncio.timeout(10),
            make("b", "1").hold(upload.id, interrupt=lambda _: None) as new,
        ):
            assert new.session.lease_stolen
            assert new.epoch > old.epoch
            with pytest.raises(LeaseLost):
                old.fence()
            new.fence()


async def test_a_lease_is_renewed_while_it_is_held(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    manager = make("a", "1", timedelta(seconds=1))
    async with manager.hold(upload.id, interrupt=lambda _: None) as lease:
        before = lease.session.lease_until
        assert before is not None
        async with asyncio.timeout(10):
            while True:
                row = await store.get(upload.id)
                assert row is not None
                if row.lease_until is not None and row.lease_until > before:
                    break
                await asyncio.sleep(0.05)
        lease.fence()


async def test_a_lost_lease_is_noticed(make: Make, store: SqlStore, upload: UploadSession) -> None:
    writer = Writer(make("a", "1", timedelta(seconds=1)), upload)
    await writer.holding.wait()
    await store.acquire(
        upload.id,
        holder="b/1",
        now=utc_now() + timedelta(hours=1),
        until=utc_now() + timedelta(hours=2),
    )
    async with asyncio.timeout(10):
        await asyncio.wait([writer.task])
    assert writer.asked == [Interruption.LOST]


async def test_unknown_uploads_are_told(make: Make) -> None:
    with pytest.raises(SessionUnknown):
        async with make("a", "1").hold("a~nothing", interrupt=lambda _: None):
            pass


class _Forgetful:
    """A store that is away whenever a lease should be given back."""

    def __init__(self, inner: SqlStore) -> None:
        self.inner = inner
        self.away = True

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def release(self, session_id: str, epoch: int) -> None:
        if self.away:
            raise StateUnavailable("away")
        await self.inner.release(session_id, epoch)

    async def release_many(self, leases: dict[str, int]) -> None:
        if self.away:
            raise StateUnavailable("away")
        await self.inner.release_many(leases)


@pytest.mark.parametrize("taker", ["the same process", "another"])
async def test_a_lease_that_could_not_be_given_back_is_not_kept_for_ever(
    make: Make, store: SqlStore, upload: UploadSession, taker: str
) -> None:
    forgetful = _Forgetful(store)
    first = LeaseManager(
        forgetful,  # type: ignore[arg-type]
        node="a",
        instance="1",
        ttl=timedelta(hours=1),
        now=utc_now,
        is_dead=lambda _: False,
    )
    try:
        async with first.hold(upload.id, interrupt=lambda _: None):
            pass
        row = await store.get(upload.id)
        assert row is not None
        assert row.lease_holder == "a/1"
        forgetful.away = False
        manager = first if taker == "the same process" else make("b", "1")
        # Another lease of the first process keeps its keeper at work.
        async with asyncio.timeout(5), manager.hold(upload.id, interrupt=lambda _: None) as lease:
            assert lease.session.lease_stolen or taker == "another"
    finally:
        await first.aclose()


async def test_the_keeper_outlives_what_nobody_foresaw(
    make: Make, upload: UploadSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make("a", "1", timedelta(seconds=2))
    writer = Writer(manager, upload)
    await writer.holding.wait()
    store, failed = manager._store, asyncio.Event()
    wanted = store.wanted

    async def unforeseen(holder: str) -> list[str]:
        monkeypatch.setattr(store, "wanted", wanted)
        failed.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(store, "wanted", unforeseen)
    await failed.wait()
    await asyncio.sleep(3)  # longer than the lease lasts without being renewed
    writer.leave()
    assert await writer.task == 1


async def used(manager: LeaseManager, upload: UploadSession) -> int:
    """One request that ends well; its epoch."""
    async with manager.hold(upload.id, interrupt=lambda _: None) as lease:
        lease.stay(lease.session)
        return lease.epoch


async def holder(store: SqlStore, upload: UploadSession) -> str | None:
    row = await store.get(upload.id)
    assert row is not None
    return row.lease_holder


async def test_a_lease_stays_for_the_next_request_of_its_process(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    manager = make("a", "1", keep_s=60)
    epoch = await used(manager, upload)
    assert await holder(store, upload) == "a/1"
    assert manager.known(upload.id) == await store.get(upload.id)
    assert await used(manager, upload) == epoch
    assert manager.held == 0


async def test_what_stayed_is_given_back_after_a_while(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    manager = make("a", "1", keep_s=0.1)
    epoch = await used(manager, upload)
    async with asyncio.timeout(10):
        while await holder(store, upload) is not None:
            await asyncio.sleep(0.05)
    assert manager.known(upload.id) is None
    assert await used(manager, upload) == epoch + 1


async def test_what_stayed_is_given_back_at_the_end(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    manager = make("a", "1", keep_s=60)
    await used(manager, upload)
    await manager.aclose()
    assert await holder(store, upload) is None


async def test_what_stayed_goes_to_whoever_wants_it(make: Make, upload: UploadSession) -> None:
    manager = make("a", "1", keep_s=60)
    await used(manager, upload)
    async with asyncio.timeout(5):
        await used(make("b", "1"), upload)
    assert manager.known(upload.id) is None


async def test_a_request_that_ended_badly_keeps_nothing(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    manager = make("a", "1", keep_s=60)
    async with manager.hold(upload.id, interrupt=lambda _: None):
        pass
    assert await holder(store, upload) is None


async def test_nothing_stays_with_a_writer_that_was_asked_to_stop(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    manager = make("a", "1", keep_s=60)
    async with manager.hold(upload.id, interrupt=lambda _: None) as lease:
        assert lease.may_stay
        lease.interrupt(Interruption.WANTED)
        assert not lease.may_stay
        lease.stay(lease.session)
    assert await holder(store, upload) is None


async def test_what_stayed_is_renewed(make: Make, store: SqlStore, upload: UploadSession) -> None:
    manager = make("a", "1", timedelta(seconds=1), keep_s=60)
    epoch = await used(manager, upload)
    await asyncio.sleep(3)
    assert manager.known(upload.id) is not None
    assert await used(manager, upload) == epoch


async def test_a_lease_used_again_and_again_is_renewed(make: Make, upload: UploadSession) -> None:
    """Requests that follow at once leave the keeper no pause between them."""
    manager = make("a", "1", timedelta(seconds=1), keep_s=60)
    loop = asyncio.get_running_loop()
    epoch, end = await used(manager, upload), loop.time() + 3
    while loop.time() < end:
        async with manager.hold(upload.id, interrupt=lambda _: None) as lease:
            await asyncio.sleep(0.001)
            lease.fence()
            assert lease.epoch == epoch
            lease.stay(lease.session)


async def test_what_stayed_and_was_lost_is_not_used(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    """A process that stood still: somebody else has the upload now."""
    manager = make("a", "1", timedelta(seconds=1), keep_s=60)
    epoch = await used(manager, upload)
    later = utc_now() + timedelta(hours=1)
    await store.acquire(upload.id, holder="b/1", now=later, until=later)
    async with asyncio.timeout(10):
        while manager.known(upload.id) is not None:
            await asyncio.sleep(0.05)
    await store.release(upload.id, epoch + 1)
    assert await used(manager, upload) == epoch + 2


async def test_what_stayed_ends_by_the_clock_on_the_wall_too(
    store: SqlStore, upload: UploadSession
) -> None:
    """Others take the lease over by their clocks: where ours has jumped, theirs may have."""
    jump = timedelta()
    manager = LeaseManager(
        store,
        node="a",
        instance="1",
        ttl=TTL,
        now=lambda: utc_now() + jump,
        is_dead=lambda _: False,
        keep_s=60,
    )
    try:
        epoch = await used(manager, upload)
        jump = TTL
        assert manager.known(upload.id) is None
        assert await used(manager, upload) == epoch + 1
    finally:
        await manager.aclose()


async def test_no_request_gets_ahead_of_a_newer_one_by_what_stayed(
    make: Make, upload: UploadSession
) -> None:
    manager = make("a", "1", keep_s=60)
    first = Writer(manager, upload)
    await first.holding.wait()
    older = Writer(manager, upload)
    await asyncio.sleep(0)
    newest = Writer(manager, upload)
    async with asyncio.timeout(5):
        await newest.holding.wait()
        with pytest.raises(LeaseHeld):
            await older.task
        newest.leave()
        await asyncio.gather(first.task, newest.task)


async def test_what_stayed_goes_to_the_sibling_that_has_asked_for_it(
    make: Make, store: SqlStore, upload: UploadSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked the row while the first request still had it; there is one lease, not two."""
    manager = make("a", "1", keep_s=60)
    acquire, answered, go_on = store.acquire, asyncio.Event(), asyncio.Event()

    async def slow(*args: object, **options: object) -> UploadSession:
        try:
            return await acquire(*args, **options)  # type: ignore[arg-type]
        except LeaseHeld:
            answered.set()
            await go_on.wait()
            raise

    # The first has the row already, but not yet its answer.
    now = utc_now()
    row = await store.acquire(upload.id, holder=manager.holder, now=now, until=manager.until())
    monkeypatch.setattr(store, "acquire", slow)
    second = asyncio.create_task(used(manager, upload))
    await answered.wait()
    manager.keep(row)
    go_on.set()
    async with asyncio.timeout(5):
        assert await second == row.lease_epoch
    assert manager.held == 0
    assert manager.known(upload.id) == await store.get(upload.id)


async def test_what_stayed_and_ran_out_is_given_back(
    make: Make, store: SqlStore, upload: UploadSession
) -> None:
    """Its renewal failed; with the next one of the others it would be the process's for ever."""
    manager = make("a", "1", timedelta(seconds=1), keep_s=60)
    await used(manager, upload)
    manager._kept.leases()[upload.id].alive_until = 0.0
    async with asyncio.timeout(10):
        while await holder(store, upload) is not None:
            await asyncio.sleep(0.05)


def new_row() -> tuple[UploadSession, Asset | None]:
    config = UploadConfig(bucket="b", node="a")
    return new_upload(create_request(9), config, owner=None, length=9, now=utc_now())


async def test_a_new_upload_may_keep_its_lease(make: Make, store: SqlStore) -> None:
    manager = make("a", "1", keep_s=60)
    session = await manager.create(*new_row())
    manager.keep(session)
    assert manager.known(session.id) == await store.get(session.id)
    assert await used(manager, session) == 1


async def test_a_creation_without_an_answer_leaves_no_lease(
    make: Make, store: SqlStore, upload: UploadSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be renewed with the others for as long as the process has any."""
    manager = make("a", "1", timedelta(seconds=1), keep_s=60)
    await used(manager, upload)
    create = store.create

    async def unanswered(*args: object) -> None:
        await create(*args)  # type: ignore[arg-type]
        raise StateUnavailable("the connection is gone")

    monkeypatch.setattr(store, "create", unanswered)
    session, asset = new_row()
    with pytest.raises(StateUnavailable):
        await manager.create(session, asset)
    assert await holder(store, session) == "a/1"
    async with asyncio.timeout(10):
        while await holder(store, session) is not None:
            await asyncio.sleep(0.05)
    assert await holder(store, upload) == "a/1"


@pytest.mark.parametrize("ending", ["cancelled", "unanswered"])
async def test_a_lease_that_was_taken_unnoticed_goes_to_whoever_wants_it(
    make: Make,
    store: SqlStore,
    upload: UploadSession,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    """By a process that has no other: nothing else would wake its keeper."""
    manager, taken = make("a", "1", timedelta(minutes=1)), asyncio.Event()
    acquire = store.acquire

    async def unanswered(session_id: str, **how: object) -> UploadSession:
        await acquire(session_id, **how)  # type: ignore[arg-type]
        monkeypatch.setattr(store, "acquire", acquire)
        taken.set()
        if ending == "cancelled":
            await asyncio.Event().wait()
        raise StateUnavailable("the connection is gone")

    monkeypatch.setattr(store, "acquire", unanswered)
    taking = asyncio.create_task(used(manager, upload))
    await taken.wait()
    taking.cancel()
    with pytest.raises((StateUnavailable, asyncio.CancelledError)):
        await taking
    assert await holder(store, upload) == "a/1"
    async with asyncio.timeout(5):
        assert await used(make("b", "1"), upload) == 2


async def test_a_request_cancelled_while_it_gives_back_leaves_no_lease(
    make: Make, store: SqlStore, upload: UploadSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, giving = make("a", "1", timedelta(minutes=1)), asyncio.Event()

    async def never(_session_id: str, _epoch: int) -> None:
        giving.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "release", never)
    writer = Writer(manager, upload)
    writer.leave()
    await giving.wait()
    writer.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer.task
    async with asyncio.timeout(5):
        while await holder(store, upload) is not None:
            await asyncio.sleep(0.05)


async def test_what_could_not_be_given_back_is_tried_again_all_at_once(
    store: SqlStore, upload: UploadSession
) -> None:
    forgetful = _Forgetful(store)
    manager = LeaseManager(
        forgetful,  # type: ignore[arg-type]
        node="a",
        instance="1",
        ttl=TTL,
        now=utc_now,
        is_dead=lambda _: False,
    )
    sessions = [upload]
    for _ in range(5):
        session, asset = new_row()
        await store.create(session, asset)
        sessions.append(session)
    for session in sessions:
        async with manager.hold(session.id, interrupt=lambda _: None):
            pass
    calls: list[int] = []
    release_many = forgetful.release_many

    async def counted(leases: dict[str, int]) -> None:
        calls.append(len(leases))
        await release_many(leases)

    forgetful.release_many = counted  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        while not calls:
            await asyncio.sleep(0.05)
        forgetful.away = False
        while await holder(store, upload) is not None:
            await asyncio.sleep(0.05)
    assert set(calls) == {6}
    await manager.aclose()


async def test_a_creation_that_waits_for_its_answer_keeps_its_lease(
    make: Make, store: SqlStore, upload: UploadSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make("a", "1", timedelta(seconds=1), keep_s=60)
    await used(manager, upload)
    create = store.create

    async def slow(*args: object) -> None:
        await create(*args)  # type: ignore[arg-type]
        await asyncio.sleep(1.5)

    monkeypatch.setattr(store, "create", slow)
    session = await manager.create(*new_row())
    assert await holder(store, session) == "a/1"


async def test_only_so_many_leases_stay(
    make: Make, store: SqlStore, upload: UploadSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_KEPT", 0)
    manager = make("a", "1", keep_s=60)
    await used(manager, upload)
    assert await holder(store, upload) is None
