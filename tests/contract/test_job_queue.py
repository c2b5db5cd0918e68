"""The promises of `ports.JobQueue`, on SQLite and PostgreSQL."""

import asyncio

from tests.support.state import (
    NOW,
    Database,
    a_completion,
    a_session,
    an_asset,
    database,
    later,
    postgres_database,
    sqlite_database,
    store,
)
from tusd_storage.records import Job, JobState
from tusd_storage.sql import SqlStore
from tusd_storage.sql.jobs import ERROR_LENGTH

__all__ = ["database", "postgres_database", "sqlite_database", "store"]

KINDS = ["promote_asset"]


async def add(store: SqlStore, name: str, *, at: float = 0) -> None:
    """A job of this id and subject, as a completed upload makes it."""
    session = a_session(f"session-{name}", asset_id=name)
    await store.create(session, an_asset(name))
    await store.complete(a_completion(session, job_id=name, now=later(at)))


async def claim(
    store: SqlStore, worker: str = "w", *, at: float = 0, limit: int = 10, kinds: list[str] = KINDS
) -> list[Job]:
    return await store.claim(
        worker=worker, kinds=kinds, now=later(at), until=later(at + 60), limit=limit
    )


async def only(store: SqlStore) -> Job:
    [job] = await store.jobs()
    return job


async def test_a_due_job_is_claimed_and_locked(store: SqlStore) -> None:
    await add(store, "a")
    [job] = await claim(store, at=5)
    assert job == await only(store)
    assert (job.id, job.state, job.attempts) == ("a", JobState.RUNNING, 1)
    assert (job.locked_by, job.locked_until) == ("w", later(65))
    assert (job.run_at, job.updated_at) == (NOW, later(5))
    assert await claim(store, "other", at=5) == []


async def test_the_oldest_come_first(store: SqlStore) -> None:
    for name, at in (("c", 1), ("a", 3), ("b", 2), ("d", 1), ("future", 99)):
        await add(store, name, at=at)
    assert [job.id for job in await claim(store, at=10, limit=3)] == ["c", "d", "b"]
    assert [job.id for job in await claim(store, at=10, limit=3)] == ["a"]


async def test_only_the_kinds_asked_for(store: SqlStore) -> None:
    await add(store, "a")
    assert await claim(store, kinds=["something_else"]) == []
    assert await claim(store, kinds=[]) == []
    assert len(await claim(store, kinds=["something_else", "promote_asset"])) == 1


async def test_no_job_is_claimed_twice(database: Database, store: SqlStore) -> None:
    names = [f"job{n:02}" for n in range(40)]
    await asyncio.gather(*(add(store, name) for name in names))
    async with database.open() as other:
        claimed = await asyncio.gather(
            *(claim((store, other)[n % 2], f"w{n}", at=1, limit=3) for n in range(12))
        )
        rest = await claim(other, "rest", at=1, limit=40)
    taken = [job.id for jobs in [*claimed, rest] for job in jobs]
    assert sorted(taken) == names


async def test_a_lock_that_ran_out_is_taken_over(store: SqlStore) -> None:
    await add(store, "a")
    await claim(store, "dead")
    assert await claim(store, "w", at=59) == []
    [job] = await claim(store, "w", at=60)
    assert (job.locked_by, job.attempts) == ("w", 2)
    assert not await store.succeed("a", worker="dead", now=later(61))
    assert not await store.extend("a", worker="dead", until=later(999))
    assert not await store.retry("a", worker="dead", error="e", run_at=None, now=later(61))
    assert await only(store) == job


async def test_a_heartbeat_keeps_the_job(store: SqlStore) -> None:
    await add(store, "a")
    await claim(store)
    assert await store.extend("a", worker="w", until=later(300))
    assert (await only(store)).locked_until == later(300)
    assert await claim(store, "other", at=299) == []
    assert len(await claim(store, "other", at=300)) == 1


async def test_a_done_job_is_over(store: SqlStore) -> None:
    await add(store, "a")
    await claim(store)
    assert await store.succeed("a", worker="w", now=later(7))
    job = await only(store)
    assert (job.state, job.locked_by, job.locked_until) == (JobState.DONE, None, None)
    assert job.updated_at == later(7)
    assert not await store.succeed("a", worker="w", now=later(8))
    assert await claim(store, at=10**6) == []


async def test_a_failed_job_comes_again(store: SqlStore) -> None:
    await add(store, "a")
    await claim(store)
    assert await store.retry("a", worker="w", error="x" * 5000, run_at=later(30), now=later(1))
    job = await only(store)
    assert (job.state, job.run_at, job.attempts) == (JobState.QUEUED, later(30), 1)
    assert job.error == "x" * ERROR_LENGTH
    assert await claim(store, at=29) == []
    [job] = await claim(store, at=30)
    assert job.attempts == 2


async def test_a_job_without_another_try_is_dead(store: SqlStore) -> None:
    await add(store, "a")
    await claim(store)
    assert await store.retry("a", worker="w", error="boom", run_at=None, now=later(1))
    job = await only(store)
    assert (job.state, job.error, job.locked_by) == (JobState.DEAD, "boom", None)
    assert await claim(store, at=10**6) == []


async def test_what_is_not_running_is_nobodys(store: SqlStore) -> None:
    await add(store, "a")
    for name in ("a", "unknown"):
        assert not await store.extend(name, worker="w", until=later(1))
        assert not await store.succeed(name, worker="w", now=NOW)
        assert not await store.retry(name, worker="w", error="", run_at=NOW, now=NOW)
    assert (await only(store)).state is JobState.QUEUED


async def test_pages_of_jobs(store: SqlStore) -> None:
    for name in ("c", "a", "b", "d"):
        await add(store, name)
    [first] = await claim(store, limit=1)
    assert [job.id for job in await store.jobs(limit=2)] == ["a", "b"]
    assert [job.id for job in await store.jobs(after="b", limit=5)] == ["c", "d"]
    assert [job.id for job in await store.jobs(state=JobState.RUNNING)] == [first.id]
    assert len(await store.jobs(state="queued")) == 3


async def test_a_long_backlog_is_worked_off_in_order(store: SqlStore) -> None:
    backlog = 300
    await asyncio.gather(*(add(store, f"j{n:03}", at=n) for n in range(backlog)))
    seen = []
    while jobs := await claim(store, at=backlog, limit=200):
        seen += [job.id for job in jobs]
    assert seen == [f"j{n:03}" for n in range(backlog)]
