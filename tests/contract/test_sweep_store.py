"""The promises of `ports.sweeps`, on SQLite and PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.state import (
    MIB,
    NOW,
    Database,
    a_completion,
    a_part,
    a_session,
    a_session_in,
    an_append,
    an_asset,
    later,
    lease,
)
from tusd_storage.lifecycle import OPEN, TERMINAL
from tusd_storage.records import Job, JobState, Kind, SessionState, UploadSession
from tusd_storage.sql import SqlStore

S = SessionState
ENDED = TERMINAL - {S.COMPLETED}


async def add(store: SqlStore, session_id: str, **changes: object) -> UploadSession:
    session = a_session(session_id, **changes)
    await store.create(session, None)
    return session


async def all_states(store: SqlStore, **changes: object) -> None:
    for state in S:
        row = replace(a_session_in(state, state.value), **changes)  # type: ignore[arg-type]
        await store.create(row, None)


def ids(sessions: list[UploadSession]) -> list[str]:
    return [session.id for session in sessions]


# -- Leadership


async def test_one_leads_until_its_time_is_over(store: SqlStore) -> None:
    async def lead(holder: str, at: float) -> bool:
        return await store.lead("bucket", holder=holder, now=later(at), until=later(at + 10))

    assert await lead("a", 0)
    assert not await lead("b", 5)
    assert await lead("a", 8), "the leader renews"
    assert not await lead("b", 17)
    assert await lead("b", 18)
    assert not await lead("a", 19)
    assert await store.lead("another", holder="a", now=NOW, until=later(1))


async def test_who_resigns_leaves_it_to_the_next(store: SqlStore) -> None:
    assert await store.lead("bucket", holder="a", now=NOW, until=later(10))
    await store.resign("bucket", holder="b")
    assert not await store.lead("bucket", holder="b", now=NOW, until=later(10))
    await store.resign("bucket", holder="a")
    assert await store.lead("bucket", holder="b", now=NOW, until=later(10))


async def test_one_of_many_at_once_leads(database: Database) -> None:
    async with database.open() as one, database.open() as two:
        won = await asyncio.gather(
            *(
                store.lead("bucket", holder=f"h{n}", now=NOW, until=later(10))
                for n, store in enumerate([one, two] * 10)
            )
        )
    assert sum(won) == 1


# -- What may be due


async def test_received_sessions_of_this_node(store: SqlStore) -> None:
    whole: dict[str, object] = {"length": 9, "offset": 9, "state": S.UPLOADING}
    await add(store, "here", **whole, tail_node="a")
    await add(store, "there", **whole, tail_node="b")
    await add(store, "empty", length=0)
    await add(store, "half", length=9, offset=8, state=S.UPLOADING, tail_node="a")
    await add(store, "deferred", length=None, offset=0)
    await add(store, "verifying", **(whole | {"state": S.VERIFYING}), tail_node="a")
    await add(store, "gone", **(whole | {"state": S.EXPIRED}), tail_node="a")
    busy = {"lease_holder": "a/1", "lease_epoch": 1}
    await add(store, "busy", **whole, **busy, lease_until=later(9), tail_node="a")
    await add(store, "left", **whole, **busy, lease_until=later(1), tail_node="a")
    assert ids(await store.list_received(node="a", now=later(5))) == ["empty", "here", "left"]
    page = await store.list_received(node="a", now=later(5), after="empty", limit=1)
    assert ids(page) == ["here"]


async def test_expired_partials(store: SqlStore) -> None:
    done = a_session_in(S.COMPLETED, "x")
    for name, changes in {
        "old": {},
        "older": {"expires_at": later(1)},
        "young": {"expires_at": later(99)},
        "eternal": {"expires_at": None},
        "terminated": {"deleted_at": NOW},
        "single": {"kind": Kind.SINGLE},
        "open": {"state": S.UPLOADING, "completed_at": None},
    }.items():
        row = {"kind": Kind.PARTIAL, "expires_at": later(2)} | changes
        key = {"id": name, "object_key": name}
        await store.create(replace(done, **key, **row), None)  # type: ignore[arg-type]
    found = await store.list_partials(before=later(50))
    assert ids(found) == ["older", "old"]
    assert ids(await store.list_partials(before=later(50), after=found[0])) == ["old"]


async def test_open_finals(store: SqlStore) -> None:
    await all_states(store, kind=Kind.FINAL, concat=("p1", "p2"))
    await add(store, "single")
    found = await store.list_open_finals()
    assert ids(found) == sorted(OPEN)
    assert {final.concat for final in found} == {("p1", "p2")}
    assert ids(await store.list_open_finals(after="signed", limit=2)) == ["uploaded", "uploading"]


async def test_ended_sessions_are_unswept_until_marked(store: SqlStore) -> None:
    await all_states(store)
    await store.create(
        replace(a_session_in(S.COMPLETED, "terminated"), deleted_at=NOW, updated_at=later(-5)),
        None,
    )
    assert await store.list_unswept(before=later(-6)) == []
    found = await store.list_unswept(before=NOW)
    assert ids(found) == ["terminated", *sorted(ENDED)]
    assert ids(await store.list_unswept(before=NOW, after=found[1], limit=1)) == [found[2].id]
    for session in found:
        assert await store.swept(session.id, now=later(7))
        assert await store.get(session.id) == session, "updated_at stays"
    assert await store.list_unswept(before=NOW) == []
    for state in {S.COMPLETED, *OPEN}:
        assert not await store.swept(state, now=later(7))


async def test_swept_sessions_can_be_forgotten(store: SqlStore) -> None:
    await all_states(store)
    await add(store, "unclean", state=S.EXPIRED, cleanup_reason="the store was down")
    assert await store.list_forgettable(before=later(9)) == []
    for name in [*S, "unclean"]:
        await store.swept(name, now=later(1))
    found = await store.list_forgettable(before=NOW)
    assert ids(found) == sorted(ENDED)
    assert await store.list_forgettable(before=later(-1)) == []
    assert ids(await store.list_forgettable(before=NOW, after=found[0])) == ids(found[1:])


async def test_forgetting_takes_ledger_and_asset_along(store: SqlStore) -> None:
    session = a_session(asset_id="asset", length=5 * MIB)
    await store.create(session, an_asset())
    held = await lease(store)
    await store.append(an_append(held, 5 * MIB, a_part(1)))
    await store.close(
        held.id, held.lease_epoch, state=S.EXPIRED, failure=None, cleanup_reason=None, now=NOW
    )
    assert not await store.forget(held.id, held.lease_epoch), "it is not swept yet"
    await store.swept(held.id, now=NOW)
    assert not await store.forget(held.id, held.lease_epoch - 1), "another epoch"
    assert await store.forget(held.id, held.lease_epoch)
    assert await store.get(held.id) is None
    assert await store.parts(held.id) == []
    assert await store.asset("asset") is None
    assert not await store.forget(held.id, held.lease_epoch)


@pytest.mark.parametrize("state", [*OPEN, S.COMPLETED])
async def test_what_is_not_ended_is_never_forgotten(store: SqlStore, state: SessionState) -> None:
    await store.create(a_session_in(state, "x"), None)
    await store.swept("x", now=NOW)
    held = await lease(store, "x")
    assert not await store.forget("x", held.lease_epoch)
    assert await store.get("x") is not None


# -- Leases of the dead


async def test_leases_that_ran_out_can_be_ended(store: SqlStore) -> None:
    for name in ("a", "b", "free"):
        await add(store, name)
    dead = await lease(store, "a", until=later(1))
    alive = await lease(store, "b", until=later(50))
    assert ids(await store.list_run_out(before=later(9))) == ["a"]
    assert await store.list_run_out(before=later(9), after="a") == []
    assert not await store.end_lease("b", alive.lease_epoch, before=later(9))
    assert not await store.end_lease("a", dead.lease_epoch - 1, before=later(9))
    assert await store.end_lease("a", dead.lease_epoch, before=later(9))
    ended = await store.get("a")
    assert ended is not None
    assert (ended.lease_holder, ended.lease_until) == (None, None)
    assert ended.lease_epoch == dead.lease_epoch + 1, "the holder is fenced off"
    assert await store.list_run_out(before=later(9)) == []


# -- Jobs


async def a_job(store: SqlStore, name: str) -> Job:
    await store.create(a_session(f"s-{name}", asset_id=name), an_asset(name))
    await store.complete(a_completion(a_session(f"s-{name}"), job_id=name, now=NOW))
    job = await store.job(name)
    assert job is not None
    return job


async def claim(store: SqlStore, at: float = 0, until: float = 10) -> list[Job]:
    return await store.claim(
        worker="w", kinds=["promote_asset"], now=later(at), until=later(until), limit=9
    )


async def test_jobs_whose_lock_ran_out_go_back(store: SqlStore) -> None:
    await a_job(store, "a")
    await a_job(store, "b")
    assert await store.list_lost_jobs(now=later(99)) == []
    await claim(store)
    assert await store.list_lost_jobs(now=later(9)) == []
    assert not await store.requeue("a", now=later(9))
    lost = await store.list_lost_jobs(now=later(10))
    assert [job.id for job in lost] == ["a", "b"]
    assert [j.id for j in await store.list_lost_jobs(now=later(10), after=lost[0])] == ["b"]
    assert await store.requeue("a", now=later(10))
    job = await store.job("a")
    assert job is not None
    assert (job.state, job.locked_by, job.attempts) == (JobState.QUEUED, None, 1)
    assert job.run_at == later(10)
    assert not await store.succeed("a", worker="w", now=later(11)), "it is no longer its job"


async def test_done_jobs_can_be_forgotten(store: SqlStore) -> None:
    for name in ("a", "b", "c"):
        await a_job(store, name)
    await claim(store)
    await store.succeed("b", worker="w", now=later(2))
    await store.succeed("a", worker="w", now=later(3))
    assert await store.list_done_jobs(before=later(1)) == []
    done = await store.list_done_jobs(before=later(5))
    assert [job.id for job in done] == ["b", "a"]
    assert [j.id for j in await store.list_done_jobs(before=later(5), after=done[0])] == ["a"]
    assert await store.forget_job("a")
    assert not await store.forget_job("c"), "it runs"
    assert await store.job("a") is None
    assert await store.job("c") is not None


async def test_a_dead_job_is_revived(store: SqlStore) -> None:
    await a_job(store, "a")
    await claim(store)
    assert not await store.revive("a", now=later(1)), "it runs"
    await store.retry("a", worker="w", error="broken", run_at=None, now=later(1))
    assert await store.revive("a", now=later(2))
    job = await store.job("a")
    assert job is not None
    assert (job.state, job.attempts, job.run_at) == (JobState.QUEUED, 0, later(2))
    assert [job.id for job in await claim(store, at=3)] == ["a"]
    await store.succeed("a", worker="w", now=later(4))
    assert not await store.revive("a", now=later(5)), "it is done"
    assert not await store.revive("unknown", now=later(5))


# -- Keys


async def test_sessions_are_found_by_key(store: SqlStore) -> None:
    await add(store, "a")
    await add(store, "b")
    many = [f"none/{n}" for n in range(40_000)]
    found = await store.find_keys("bucket", ["uploads/a", *many])
    assert {key: session.id for key, session in found.items()} == {"uploads/a": "a"}
    assert await store.find_keys("another", ["uploads/a"]) == {}
    assert await store.find_keys("bucket", []) == {}


async def test_pages_cover_rows_of_the_same_moment(store: SqlStore) -> None:
    names = [f"n{n:02}" for n in range(25)]
    for name in names:
        await add(store, name, state=S.ABORTED)
    seen: list[str] = []
    after = None
    while page := await store.list_unswept(before=NOW, after=after, limit=7):
        seen += ids(page)
        after = page[-1]
    assert seen == names
