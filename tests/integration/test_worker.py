"""The worker on real queues: at least once, never twice at once, and nothing is lost at a stop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from tests.support.reaping import Clock
from tests.support.state import Database, a_completion, a_session, an_asset
from tusd_py.settings import Settings
from tusd_reaper.worker import Handler, Hopeless, Worker, WorkerConfig
from tusd_storage.errors import StateUnavailable
from tusd_storage.outbox import Announce, Announcement, Change, NewJob
from tusd_storage.records import Asset, Job, JobState, UploadSession
from tusd_storage.sql import SqlStore

KIND = "promote_asset"
SLOW = "hook:slow"
QUICK = WorkerConfig(poll_s=0.01, lock=timedelta(seconds=0.3), drain_s=5)
DEADLINE_S = 20


class Queue:
    """Jobs in the order of their names, a clock, and workers on it."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.clock = Clock()

    async def add(self, *names: str) -> None:
        for name in names:
            session = a_session(f"session-{name}", asset_id=name)
            await self.store.create(session, an_asset(name))
            done = a_completion(session, job_id=name, now=self.clock())
            await self.store.complete(done)

    async def job(self, name: str) -> Job:
        job = await self.store.job(name)
        assert job is not None
        return job

    def worker(
        self, handler: Handler, *, name: str = "w", config: WorkerConfig = QUICK, kind: str = KIND
    ) -> Worker:
        return Worker(
            self.store,
            {kind: handler},
            name=name,
            now=self.clock,
            config=config,
            uniform=lambda low, high: high,
        )

    async def states(self) -> dict[str, JobState]:
        return {job.id: job.state for job in await self.store.jobs()}


@pytest.fixture
def queue(store: SqlStore) -> Queue:
    return Queue(store)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """The worker's loop, stopped in good order."""
    task = asyncio.create_task(worker.run())
    try:
        yield task
        worker.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_due_jobs_are_run_once_each(queue: Queue) -> None:
    ran: list[str] = []

    async def handle(job: Job) -> None:
        ran.append(job.subject)

    await queue.add(*(f"j{n}" for n in range(9)))
    assert await queue.worker(handle).run_due() == 9
    assert sorted(ran) == [f"j{n}" for n in range(9)]
    assert set((await queue.states()).values()) == {JobState.DONE}


async def test_two_workers_share_and_never_meet(database: Database) -> None:
    ran: list[tuple[str, str]] = []
    async with database.open() as one, database.open() as two:
        await Queue(one).add(*(f"j{n:02}" for n in range(30)))

        def worker(store: SqlStore, name: str) -> Worker:
            async def handle(job: Job) -> None:
                await asyncio.sleep(0)
                ran.append((name, job.id))

            return Queue(store).worker(handle, name=name)

        async with running(worker(one, "one")), running(worker(two, "two")):
            await until(lambda: len(ran) >= 30)
        assert sorted(job for _, job in ran) == [f"j{n:02}" for n in range(30)]


async def test_a_failed_job_comes_back_later_and_later(queue: Queue) -> None:
    async def handle(_: Job) -> None:
        raise RuntimeError("not yet")

    await queue.add("a")
    worker = queue.worker(handle, config=WorkerConfig(first_delay_s=2, longest_delay_s=7))
    for attempt, delay_s in enumerate([2, 4, 7, 7], start=1):
        assert await worker.run_due() == 1
        job = await queue.job("a")
        assert (job.state, job.attempts) == (JobState.QUEUED, attempt)
        assert job.error == "RuntimeError: not yet"
        wait = job.run_at - queue.clock()
        assert timedelta(seconds=delay_s - 1) < wait <= timedelta(seconds=delay_s)
        assert await worker.run_due() == 0
        queue.clock.forward(timedelta(seconds=delay_s))


async def test_the_delay_is_spread(queue: Queue) -> None:
    worker = Worker(
        queue.store, {}, name="w", now=queue.clock, uniform=lambda low, high: low / high
    )
    assert worker._delay_s(1) == 0.5


async def test_after_too_many_tries_it_is_dead_until_revived(queue: Queue) -> None:
    broken = True

    async def handle(_: Job) -> None:
        if broken:
            raise RuntimeError("broken")

    await queue.add("a")
    worker = queue.worker(handle, config=WorkerConfig(max_attempts=2))
    await worker.run_due()
    queue.clock.forward(timedelta(hours=1))
    await worker.run_due()
    assert (await queue.job("a")).state is JobState.DEAD
    queue.clock.forward(timedelta(days=1))
    assert await worker.run_due() == 0
    broken = False
    assert await queue.store.revive("a", now=queue.clock())
    assert await worker.run_due() == 1
    assert (await queue.job("a")).state is JobState.DONE


@pytest.mark.parametrize(("by_chance", "least_h"), [("shortest", 4.5), ("longest", 9.0)])
async def test_the_tries_outlast_hours_of_an_outage(
    queue: Queue, by_chance: str, least_h: float
) -> None:
    """With the delays and the number of tries that a server has."""
    tries = Settings.model_fields["job_attempts"].default
    began: list[timedelta] = []

    async def away(_: Job) -> None:
        began.append(queue.clock.ahead)
        raise ConnectionError("the hook's server is away")

    await queue.add("a")
    worker = Worker(
        queue.store,
        {KIND: away},
        name="w",
        now=queue.clock,
        config=WorkerConfig(max_attempts=tries),
        uniform=min if by_chance == "shortest" else max,
    )
    while (job := await queue.job("a")).state is JobState.QUEUED:
        queue.clock.forward(max(job.run_at - queue.clock(), timedelta()) + timedelta(seconds=0.01))
        assert await worker.run_due() == 1
    assert (job.state, job.attempts, len(began)) == (JobState.DEAD, tries, tries)
    assert least_h < (began[-1] - began[0]) / timedelta(hours=1) < least_h + 0.5
    pauses = [later - sooner for sooner, later in pairwise(began)]
    assert max(pauses) <= timedelta(hours=1, seconds=2), "back within the hour after the outage"


class Both:
    """Writes a second job with every completion, as a hook's event is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def bind(self) -> Announce:
        def announce(change: Change, session: UploadSession, _: Asset | None) -> Announcement:
            if change is not Change.COMPLETED:
                return Announcement()
            job = NewJob(
                id=f"event-{session.id}",
                kind=SLOW,
                subject=session.id,
                payload={},
                run_at=self._clock() - timedelta(hours=1),  # due before all others
            )
            return Announcement(jobs=(job,))

        return announce


async def test_a_kind_that_hangs_leaves_room_for_the_others(database: Database) -> None:
    hold, hanging, ran = asyncio.Event(), 0, []

    async def hang(_: Job) -> None:
        nonlocal hanging
        hanging += 1
        await hold.wait()

    async def promote(job: Job) -> None:
        ran.append(job.id)

    clock = Clock()
    async with database.open(Both(clock)) as store:
        queue = Queue(store)
        names = [f"j{n}" for n in range(9)]
        await queue.add(*names)
        worker = Worker(store, {SLOW: hang, KIND: promote}, name="w", now=clock, config=QUICK)
        async with running(worker):
            await until(lambda: len(ran) == len(names))
            assert hanging == QUICK.parallel // 2, "half of the places, and no more"
            await queue.add("late")
            await until(lambda: "late" in ran)
            hold.set()
            await until(lambda: hanging == len(names) + 1)
        assert set((await queue.states()).values()) == {JobState.DONE}
    assert sorted(ran) == sorted([*names, "late"]), "each once"


async def test_a_hopeless_job_is_not_tried_again(queue: Queue) -> None:
    async def handle(_: Job) -> None:
        raise Hopeless("there is no such asset")

    await queue.add("a")
    await queue.worker(handle).run_due()
    job = await queue.job("a")
    assert (job.state, job.attempts, job.error) == (
        JobState.DEAD,
        1,
        "Hopeless: there is no such asset",
    )


async def test_a_job_that_takes_its_workers_along_is_dead_in_the_end(queue: Queue) -> None:
    ran = []

    async def handle(job: Job) -> None:
        ran.append(job)

    await queue.add("a")
    for _ in range(2):  # two workers that died with it
        now = queue.clock()
        until_ = now + timedelta(seconds=1)
        await queue.store.claim(worker="dead", kinds=[KIND], now=now, until=until_, limit=1)
        queue.clock.forward(timedelta(seconds=2))
    await queue.worker(handle, config=WorkerConfig(max_attempts=2)).run_due()
    assert (await queue.job("a")).state is JobState.DEAD
    assert ran == []


async def test_other_kinds_are_left_alone(queue: Queue) -> None:
    async def handle(_: Job) -> None:
        raise AssertionError

    await queue.add("a")
    assert await queue.worker(handle, kind="another").run_due() == 0
    assert (await queue.job("a")).attempts == 0


async def test_a_long_job_keeps_its_lock(queue: Queue) -> None:
    going = asyncio.Event()
    ran: list[str] = []

    async def handle(job: Job) -> None:
        ran.append(job.id)
        await going.wait()

    await queue.add("a")
    async with running(queue.worker(handle)):
        await until(lambda: bool(ran))
        first = (await queue.job("a")).locked_until
        assert first is not None
        async with asyncio.timeout(DEADLINE_S):
            while (await queue.job("a")).locked_until in (first, None):
                await asyncio.sleep(0.01)
        assert await queue.worker(handle, name="other").run_due() == 0
        going.set()
    assert (await queue.job("a")).state is JobState.DONE
    assert ran == ["a"]


async def test_a_job_that_was_lost_is_broken_off(queue: Queue) -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def handle(_: Job) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await queue.add("a")
    async with running(queue.worker(handle)):
        await begun.wait()
        now = queue.clock() + timedelta(hours=1)
        taken = await queue.store.claim(
            worker="other", kinds=[KIND], now=now, until=now + timedelta(hours=1), limit=1
        )
        assert taken
        async with asyncio.timeout(DEADLINE_S):
            await cancelled.wait()
    assert (await queue.job("a")).locked_by == "other", "it did not settle what is not its own"


async def test_stopping_lets_running_jobs_end_and_begins_none(queue: Queue) -> None:
    going, begun = asyncio.Event(), asyncio.Event()

    async def handle(_: Job) -> None:
        begun.set()
        await going.wait()

    await queue.add("a", "b")
    worker = queue.worker(handle, config=WorkerConfig(parallel=1, poll_s=0.01, drain_s=10))
    async with running(worker) as task:
        await begun.wait()
        worker.stop()
        await asyncio.sleep(0)
        assert not task.done()
        going.set()
    assert await queue.states() == {"a": JobState.DONE, "b": JobState.QUEUED}


async def test_what_does_not_end_in_time_goes_back_to_the_queue(queue: Queue) -> None:
    begun = asyncio.Event()

    async def handle(_: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    await queue.add("a")
    worker = queue.worker(handle, config=WorkerConfig(poll_s=0.01, drain_s=0.01))
    async with running(worker):
        await begun.wait()
    job = await queue.job("a")
    assert (job.state, job.error) == (JobState.QUEUED, "the worker was stopped")
    assert job.run_at <= queue.clock()


class Flaky(SqlStore):
    """A database that is away for a while."""

    away = 0

    async def claim(self, **options: object) -> list[Job]:
        if self.away:
            self.away -= 1
            raise StateUnavailable("away")
        return await super().claim(**options)  # type: ignore[arg-type]


async def test_a_database_that_is_away_stops_nothing(queue: Queue) -> None:
    ran: list[str] = []

    async def handle(job: Job) -> None:
        ran.append(job.id)

    await queue.add("a")
    queue.store.__class__ = Flaky
    queue.store.away = 3  # type: ignore[attr-defined]
    async with running(queue.worker(handle)):
        await until(lambda: bool(ran))
    assert ran == ["a"]


async def test_a_crash_between_work_and_word_runs_it_again(queue: Queue) -> None:
    ran: list[str] = []

    async def handle(job: Job) -> None:
        ran.append(job.id)

    await queue.add("a")
    real = queue.store.succeed

    async def lost(*_: object, **__: object) -> bool:
        raise StateUnavailable("the answer was lost")

    queue.store.succeed = lost  # type: ignore[method-assign]
    await queue.worker(handle).run_due()
    queue.store.succeed = real  # type: ignore[method-assign]
    queue.clock.forward(timedelta(minutes=5))
    await queue.worker(handle).run_due()
    assert ran == ["a", "a"]
    assert (await queue.job("a")).state is JobState.DONE


async def test_what_needs_no_handler_is_not_claimed(queue: Queue) -> None:
    ran: list[str] = []
    down = [StateUnavailable("down")]

    async def handle(job: Job) -> None:
        ran.append(job.id)

    async def shortcut(now: datetime) -> int:
        if down:
            raise down.pop()
        mine = await queue.store.claim(
            worker="short", kinds=[KIND], now=now, until=now + timedelta(seconds=9), limit=2
        )
        for job in mine:
            await queue.store.succeed(job.id, worker="short", now=now)
        return len(mine)

    await queue.add("a")
    worker = Worker(queue.store, {KIND: handle}, name="w", now=queue.clock, shortcut=shortcut)
    assert await worker.run_due() == 1
    assert ran == ["a"]
    await queue.add("b", "c", "d")
    assert await worker.run_due() == 3
    assert ran == ["a", "d"]
    assert set((await queue.states()).values()) == {JobState.DONE}
