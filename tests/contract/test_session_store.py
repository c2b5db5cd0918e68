"""The promises of `ports.SessionStore`, on SQLite and PostgreSQL."""

import asyncio
import itertools
import threading
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.postgres import postgres_server
from tests.support.state import (
    LEASE,
    MIB,
    NOW,
    Database,
    a_completion,
    a_part,
    a_session,
    a_session_in,
    an_append,
    an_asset,
    database,
    later,
    lease,
    postgres_database,
    sqlite_database,
    store,
)
from tusd_storage.errors import (
    AlreadyExists,
    DiskFull,
    InvalidPart,
    InvalidTransition,
    LeaseHeld,
    LeaseLost,
    Rejected,
    SessionUnknown,
    StateUnavailable,
    StorageError,
)
from tusd_storage.lifecycle import OPEN, SESSION_EDGES, TERMINAL
from tusd_storage.records import AssetState, JobState, Kind, SessionState, UploadSession
from tusd_storage.sql import SqlStore

__all__ = ["database", "postgres_database", "sqlite_database", "store"]

ONE = "node~one"


async def outcomes(*calls: Awaitable[Any]) -> tuple[list[Any], list[StorageError]]:
    """Results and failures of calls that run at once."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(d, StorageError) or not isinstance(d, BaseException) for d in done), done
    return (
        [d for d in done if not isinstance(d, BaseException)],
        [d for d in done if isinstance(d, StorageError)],
    )


async def row(store: SqlStore, session_id: str = ONE) -> UploadSession:
    """The row, which is there."""
    session = await store.get(session_id)
    assert session is not None
    return session


# --- create, get ---------------------------------------------------------------------------------


async def test_what_was_created_is_read_back_whole(store: SqlStore) -> None:
    session = a_session(
        asset_id="asset",
        length=None,
        kind=Kind.FINAL,
        concat=("b", "a", "b"),
        concat_header="final;/files/b /files/a /files/b",
        size_promised=2**42,
        lease_epoch=7,
        tail_crc32=2**32 - 1,
        expires_at=None,
    )
    await store.create(session, an_asset())
    assert await store.get(session.id) == session
    assert await store.asset("asset") == an_asset()
    assert await store.parts(session.id) == []


async def test_what_is_unknown_is_none(store: SqlStore) -> None:
    assert await store.get("nobody") is None
    assert await store.asset("nothing") is None
    assert await store.parts("nobody") == []
    assert await store.get_many([]) == {}


async def test_create_makes_both_rows_or_none(store: SqlStore) -> None:
    await store.create(a_session("taken"), an_asset("taken"))
    with pytest.raises(AlreadyExists):
        await store.create(a_session("taken", asset_id="fresh"), an_asset("fresh"))
    assert await store.asset("fresh") is None
    with pytest.raises(AlreadyExists):
        await store.create(a_session("fresh", asset_id="taken"), an_asset("taken"))
    assert await store.get("fresh") is None


async def test_a_place_in_storage_belongs_to_one_session(store: SqlStore) -> None:
    await store.create(a_session("a", object_key="same"), None)
    with pytest.raises(AlreadyExists):
        await store.create(a_session("b", object_key="same"), None)
    await store.create(a_session("c", object_key="same", bucket="other"), None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": -1},
        {"offset": 1, "length": 0},
        {"length": -1},
        {"parts_size": 1, "parts_count": 1},
        {"parts_count": 1},
        {"tail_crc32": 2**32},
        {"lease_holder": "node/1"},
        {"lease_until": NOW},
        {"lease_stolen": True},
        {"deleted_at": NOW},
        {"state": SessionState.COMPLETED},
        {"asset_id": "nowhere"},
    ],
)
async def test_the_database_refuses_impossible_rows(
    store: SqlStore, wrong: dict[str, object]
) -> None:
    with pytest.raises(Rejected):
        await store.create(a_session(**wrong), None)  # type: ignore[arg-type]


async def test_many_rows_at_once(store: SqlStore) -> None:
    ids = [f"s{n:04}" for n in range(300)]
    await asyncio.gather(*(store.create(a_session(i), None) for i in ids))
    found = await store.get_many([*ids, *(f"unknown{n}" for n in range(5_000))])
    assert sorted(found) == ids
    assert all(session.id == i for i, session in found.items())


# --- leases --------------------------------------------------------------------------------------


async def test_a_free_lease_is_taken(store: SqlStore) -> None:
    await store.create(a_session(), None)
    session = await lease(store)
    assert (session.lease_holder, session.lease_until) == ("node/1", NOW + LEASE)
    assert (session.lease_epoch, session.lease_stolen) == (1, False)
    assert await store.get(ONE) == session


async def test_a_held_lease_is_refused_and_named(store: SqlStore) -> None:
    await store.create(a_session(), None)
    held = await lease(store)
    with pytest.raises(LeaseHeld) as refused:
        await lease(store, holder="node/2", now=later(29))
    assert (refused.value.holder, refused.value.epoch) == ("node/1", 1)
    assert refused.value.until == NOW + LEASE
    assert await store.get(ONE) == held


async def test_a_lease_that_ran_out_is_stolen(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    session = await lease(store, holder="node/2", now=NOW + LEASE, until=later(60))
    assert (session.lease_holder, session.lease_epoch) == ("node/2", 2)
    assert session.lease_stolen


async def test_over_takes_the_lease_of_that_holder_only(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    with pytest.raises(LeaseHeld):
        await lease(store, holder="node/2", over="node/3")
    session = await lease(store, holder="node/2", over="node/1")
    assert session.lease_holder == "node/2"
    assert session.lease_stolen


async def test_a_released_lease_is_not_stolen(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    await lease(store, holder="node/2", over="node/1")
    await store.release(ONE, 2)
    assert (await row(store)).lease_holder is None
    assert (await row(store)).lease_until is None
    session = await lease(store, holder="node/3")
    assert (session.lease_epoch, session.lease_stolen) == (3, False)


async def test_release_with_an_old_epoch_changes_nothing(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    held = await lease(store, holder="node/2", over="node/1")
    await store.release(ONE, 1)
    assert await store.get(ONE) == held


async def test_many_leases_are_released_at_once(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await store.create(a_session(id="two", object_key="two"), None)
    await store.create(a_session(id="three", object_key="three"), None)
    for name in (ONE, "two", "three"):
        await lease(store, name)
    await store.release_many({ONE: 1, "two": 2, "three": 1, "nobody": 1})
    holders = {name: (await row(store, name)).lease_holder for name in (ONE, "two", "three")}
    assert holders == {ONE: None, "two": "node/1", "three": None}
    await store.release_many({})


async def test_no_lease_of_an_unknown_session(store: SqlStore) -> None:
    with pytest.raises(SessionUnknown):
        await lease(store, "nobody")


@pytest.mark.parametrize("before", ["free", "run out"])
async def test_of_racing_acquires_exactly_one_wins(
    database: Database, store: SqlStore, before: str
) -> None:
    await store.create(a_session(), None)
    if before == "run out":
        await lease(store, holder="dead/1", until=later(-1))
    async with database.open() as other:
        won, lost = await outcomes(
            *(lease((store, other)[n % 2], holder=f"node/{n}") for n in range(20))
        )
    assert len(won) == 1
    assert all(isinstance(error, LeaseHeld) for error in lost)
    assert await store.get(ONE) == won[0]
    assert won[0].lease_stolen is (before == "run out")


async def test_the_newest_request_wins_once(database: Database, store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    async with database.open() as other:
        won, lost = await outcomes(
            *(lease((store, other)[n % 2], holder=f"new/{n}", over="node/1") for n in range(10))
        )
    assert (len(won), len(lost)) == (1, 9)


async def test_wanting_a_lease_tells_its_holder(store: SqlStore) -> None:
    for name in ("a", "b", "c"):
        await store.create(a_session(name), None)
        await lease(store, name)
    await store.want("a", 1)
    await store.want("a", 1)
    await store.want("b", 7)  # the epoch has moved on
    assert await store.wanted("node/1") == ["a"]
    assert await store.wanted("node/2") == []
    await store.release("a", 1)
    assert await store.wanted("node/1") == []
    await store.want("a", 1)  # nobody holds it
    assert (await lease(store, "a")).lease_epoch == 2
    assert await store.wanted("node/1") == []


async def test_a_new_lease_is_not_wanted(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    await store.want(ONE, 1)
    await lease(store, holder="node/2", over="node/1")
    assert await store.wanted("node/2") == []


async def test_renew_extends_what_is_still_held(store: SqlStore) -> None:
    for name in ("a", "b", "c"):
        await store.create(a_session(name), None)
        await lease(store, name)
    await lease(store, "b", holder="node/2", over="node/1")
    await store.release("c", 1)
    assert await store.renew("node/1", later(90)) == {"a"}
    assert (await row(store, "a")).lease_until == later(90)
    assert (await row(store, "b")).lease_until == NOW + LEASE
    assert (await row(store, "c")).lease_until is None


# --- opened, append ------------------------------------------------------------------------------


async def test_opened_is_fenced(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    await store.opened(ONE, 1, "upload-1")
    assert (await row(store)).upload_id == "upload-1"
    await lease(store, holder="node/2", over="node/1")
    with pytest.raises(LeaseLost):
        await store.opened(ONE, 1, "upload-2")
    assert (await row(store)).upload_id == "upload-1"
    with pytest.raises(SessionUnknown):
        await store.opened("nobody", 1, "upload-1")


async def test_a_session_that_is_over_opens_nothing(store: SqlStore) -> None:
    for state in TERMINAL:
        await store.create(a_session_in(state, state), None)
        with pytest.raises(InvalidTransition):
            await store.opened(state, 0, "upload")
        assert (await row(store, state)).upload_id is None


async def test_a_commit_point_moves_everything_together(store: SqlStore) -> None:
    await store.create(a_session(), None)
    session = await lease(store)
    parts = (a_part(1), a_part(2))
    await store.append(
        an_append(session, 10 * MIB + 5, *parts, expires_at=later(99), parts_crc32=42)
    )
    assert await store.parts(ONE) == list(parts)
    assert await store.get(ONE) == replace(
        session,
        offset=10 * MIB + 5,
        parts_count=2,
        parts_size=10 * MIB,
        parts_crc32=42,
        tail_node="node",
        tail_crc32=7,
        state=SessionState.UPLOADING,
        expires_at=later(99),
        updated_at=later(1),
    )
    session = await row(store)
    await store.append(an_append(session, 15 * MIB, a_part(3), release=True))
    after = await row(store)
    assert (after.offset, after.parts_count, after.tail_size) == (15 * MIB, 3, 0)
    assert (after.lease_holder, after.lease_until, after.lease_epoch) == (None, None, 1)
    assert [part.number for part in await store.parts(ONE)] == [1, 2, 3]


async def test_a_deferred_length_is_declared_once(store: SqlStore) -> None:
    await store.create(a_session(length=None), None)
    await store.append(an_append(await lease(store), 10))
    assert (await row(store)).length is None
    await store.append(an_append(await row(store), 20, length=30))
    assert (await row(store)).length == 30
    await store.append(an_append(await row(store), 30))
    assert ((await row(store)).length, (await row(store)).offset) == (30, 30)


async def test_a_rewind_is_a_commit_point_too(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await store.append(an_append(await lease(store), 6 * MIB, a_part(1)))
    await store.append(an_append(await row(store), 5 * MIB, tail_crc32=0))
    assert (await row(store)).tail_size == 0
    with pytest.raises(Rejected):  # never behind the ledger
        await store.append(an_append(await row(store), 5 * MIB - 1))


class FakeTail:
    """Counts how often it is written, in whatever thread."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written = 0
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self._error = error

    def __call__(self) -> None:
        self.begun.set()
        self.gate.wait(10)
        self.written += 1
        if self._error is not None:
            raise self._error

    async def ahead(self) -> None:
        await asyncio.to_thread(self)


@pytest.mark.parametrize("parts", [(), (a_part(1),)])
async def test_a_tail_is_written_before_its_commit(store: SqlStore, parts: tuple[Any, ...]) -> None:
    await store.create(a_session(), None)
    tail = FakeTail()
    await store.append(an_append(await lease(store), 6 * MIB, *parts), tail)
    assert tail.written == 1
    assert (await row(store)).offset == 6 * MIB


@pytest.mark.parametrize("error", [DiskFull("full"), LeaseLost(ONE)])
async def test_without_its_tail_nothing_is_committed(store: SqlStore, error: StorageError) -> None:
    await store.create(a_session(), None)
    session = await lease(store)
    with pytest.raises(type(error)):
        await store.append(an_append(session, 6 * MIB), FakeTail(error))
    assert await row(store) == session


async def test_many_commits_with_tails_at_once(store: SqlStore) -> None:
    tails = [FakeTail(DiskFull("full") if n % 3 == 0 else None) for n in range(30)]
    commits = []
    for n in range(30):
        await store.create(a_session(id=f"s{n}", object_key=f"k{n}"), None)
        commits.append(an_append(await lease(store, f"s{n}"), 6 * MIB))
    results = await asyncio.gather(
        *(store.append(commit, tail) for commit, tail in zip(commits, tails, strict=True)),
        return_exceptions=True,
    )
    for n, result in enumerate(results):
        assert isinstance(result, DiskFull) is (n % 3 == 0), result
        assert (await row(store, f"s{n}")).offset == (0 if n % 3 == 0 else 6 * MIB)
    assert [tail.written for tail in tails] == [1] * 30


async def test_a_cancelled_commit_waits_for_its_tail(store: SqlStore) -> None:
    """The bytes are the caller's: nobody may read them any more when it has gone."""
    await store.create(a_session(), None)
    tail = FakeTail()
    tail.gate.clear()
    task = asyncio.create_task(store.append(an_append(await lease(store), 6 * MIB), tail))
    await asyncio.to_thread(tail.begun.wait, 10)
    for _ in range(3):  # as cancel scopes do, until it is heard
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
    tail.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tail.written == 1


@pytest.mark.parametrize(("kind", "told"), [(Kind.FINAL, None), (Kind.SINGLE, 0)])
async def test_what_a_node_before_0008_wrote_of_a_copied_part(
    store: SqlStore, kind: Kind, told: int | None
) -> None:
    """0 for "unknown", next to nodes that know better. Told to the store as the part's checksum, it
    would refuse a good file; of bytes that this server received, 0 is a checksum like another."""
    await store.create(a_session(kind=kind), None)
    session = await lease(store)
    part = replace(a_part(1), crc32=0)
    await store.append(an_append(session, 10 * MIB, part, a_part(2)))
    assert await store.parts(ONE) == [replace(part, crc32=told), a_part(2)]


@pytest.mark.parametrize("parts", [(), (a_part(1),)])
async def test_a_fenced_commit_changes_nothing(store: SqlStore, parts: tuple[Any, ...]) -> None:
    await store.create(a_session(), None)
    old = await lease(store)
    new = await lease(store, holder="node/2", over="node/1")
    wrong = [
        an_append(old, 6 * MIB, *parts),
        an_append(new, 6 * MIB, *parts, from_offset=1),
        an_append(new, 6 * MIB, *parts, epoch=3),
    ]
    for commit in wrong:
        with pytest.raises(LeaseLost):
            await store.append(commit)
    with pytest.raises(SessionUnknown):
        await store.append(an_append(replace(new, id="nobody"), 6 * MIB, *parts))
    assert await store.get(ONE) == new
    assert await store.parts(ONE) == []


async def test_the_ledger_has_no_gap(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await store.append(an_append(await lease(store), 5 * MIB, a_part(1)))
    before = await row(store)
    for parts in ([a_part(3)], [a_part(1)], [a_part(2), a_part(4)], [a_part(3), a_part(2)]):
        with pytest.raises(InvalidPart):
            await store.append(an_append(before, 20 * MIB, *parts))
    assert await store.get(ONE) == before
    assert await store.parts(ONE) == [a_part(1)]


async def test_a_commit_the_database_refuses_changes_nothing(store: SqlStore) -> None:
    await store.create(a_session(), None)
    session = await lease(store)
    beyond = an_append(session, 100 * MIB + 1)
    empty_part = an_append(session, 10 * MIB, a_part(1), a_part(2, size=0))
    for commit in (beyond, empty_part):
        with pytest.raises(Rejected):
            await store.append(commit)
    assert await store.get(ONE) == session
    assert await store.parts(ONE) == []


@pytest.mark.parametrize("parts", [(), (a_part(1),)])
async def test_of_racing_commits_exactly_one_wins(
    database: Database, store: SqlStore, parts: tuple[Any, ...]
) -> None:
    await store.create(a_session(), None)
    session = await lease(store)
    async with database.open() as other:
        won, lost = await outcomes(
            *(
                (store, other)[n % 2].append(an_append(session, 6 * MIB + n, *parts))
                for n in range(10)
            )
        )
    assert len(won) == 1
    assert all(isinstance(error, LeaseLost) for error in lost)
    assert await store.parts(ONE) == list(parts)


@pytest.mark.parametrize("source", SessionState)
async def test_commits_follow_the_state_table(store: SqlStore, source: SessionState) -> None:
    for target in SessionState:
        name = f"{source}-{target}"
        await store.create(a_session_in(source, name), None)
        before = await row(store, name)
        commit = an_append(before, before.offset, state=target)
        if target in OPEN and (target is source or target in SESSION_EDGES[source]):
            await store.append(commit)
            assert (await row(store, name)).state is target
        else:
            with pytest.raises(InvalidTransition):
                await store.append(commit)
            assert await store.get(name) == before


model_names = itertools.count()
commit_plan = st.lists(
    st.tuples(
        st.integers(0, 3),  # parts
        st.integers(0, 1000),  # bytes of the new tail
        st.sampled_from(["good", "good", "good", "epoch", "offset", "gap"]),
        st.booleans(),  # release, and take the lease again
    ),
    max_size=8,
)


@given(plan=commit_plan)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_series_of_commits_matches_the_model(
    store: SqlStore, plan: list[tuple[int, int, str, bool]]
) -> None:
    name = f"model-{next(model_names)}"  # the examples share one database
    await store.create(a_session(name), None)
    session = await lease(store, name)
    ledger: list[int] = []
    offset = 0
    for count, tail, fault, release in plan:
        current = await row(store, name)
        first = len(ledger) + 1 + (fault == "gap")
        parts = [a_part(first + n, size=1000 + n) for n in range(count)]
        to_offset = sum(ledger) + sum(part.size for part in parts) + tail
        commit = an_append(current, to_offset, *parts, release=release)
        if fault == "epoch":
            commit = replace(commit, epoch=commit.epoch + 1)
        elif fault == "offset":
            commit = replace(commit, from_offset=commit.from_offset + 1)
        if fault == "good" or (fault == "gap" and not parts):
            await store.append(commit)
            ledger += [part.size for part in parts]
            offset = to_offset
            if release:
                session = await lease(store, name)
        else:
            with pytest.raises((LeaseLost, InvalidPart)):
                await store.append(commit)
    final = await row(store, name)
    assert final.lease_epoch == session.lease_epoch
    assert (final.offset, final.parts_count, final.parts_size) == (offset, len(ledger), sum(ledger))
    stored = await store.parts(name)
    assert [(part.number, part.size) for part in stored] == list(enumerate(ledger, start=1))


# --- complete, close, delete ---------------------------------------------------------------------


async def test_completion_is_one_step_for_session_asset_and_job(store: SqlStore) -> None:
    await store.create(a_session(asset_id="asset", length=None), an_asset())
    session = await lease(store)
    await store.append(an_append(session, 6 * MIB, a_part(1)))
    done = await store.complete(a_completion(session, size=6 * MIB))
    assert done == await store.get(ONE)
    assert (done.state, done.offset, done.length) == (SessionState.COMPLETED, 6 * MIB, 6 * MIB)
    assert (done.tail_node, done.tail_crc32) == (None, 0)
    assert (done.etag, done.crc32, done.completed_at) == ('"finished"', 12345, later(2))
    assert (done.lease_holder, done.lease_until) == (None, None)
    asset = await store.asset("asset")
    assert asset == an_asset(
        state=AssetState.VALIDATING,
        size=6 * MIB,
        content_type="application/pdf",
        updated_at=later(2),
    )
    [job] = await store.jobs()
    assert (job.id, job.kind, job.subject) == (f"job-{ONE}", "promote_asset", "asset")
    assert job.payload == {"session_id": ONE, "crc32": 12345}
    assert (job.state, job.attempts, job.run_at) == (JobState.QUEUED, 0, later(2))


async def test_an_upload_of_one_piece_completes_without_a_ledger(store: SqlStore) -> None:
    await store.create(a_session(length=0), None)
    session = await lease(store)
    done = await store.complete(a_completion(session, size=0, crc32=None, release=False))
    assert (done.offset, done.length, done.parts_count) == (0, 0, 0)
    assert done.lease_holder == "node/1"
    assert await store.jobs() == []


async def test_completing_again_changes_nothing(store: SqlStore) -> None:
    await store.create(a_session(asset_id="asset"), an_asset())
    session = await lease(store)
    done = await store.complete(a_completion(session))
    again = a_completion(session, etag='"other"', size=1, job_id="other", now=later(50))
    assert await store.complete(again) == done
    assert await store.complete(replace(again, epoch=0)) == done
    await lease(store, holder="node/2")
    assert (await store.complete(again)).etag == '"finished"'
    assert [job.id for job in await store.jobs()] == [f"job-{ONE}"]


async def test_racing_completions_promote_once(database: Database, store: SqlStore) -> None:
    await store.create(a_session(asset_id="asset"), an_asset())
    session = await lease(store)
    async with database.open() as other:
        won, lost = await outcomes(
            *(
                (store, other)[n % 2].complete(a_completion(session, job_id=f"job{n}"))
                for n in range(10)
            )
        )
    assert lost == []
    assert {session.state for session in won} == {SessionState.COMPLETED}
    assert len(await store.jobs()) == 1


async def test_a_fenced_completion_changes_nothing(store: SqlStore) -> None:
    await store.create(a_session(asset_id="asset"), an_asset())
    old = await lease(store)
    new = await lease(store, holder="node/2", over="node/1")
    with pytest.raises(LeaseLost):
        await store.complete(a_completion(old))
    with pytest.raises(SessionUnknown):
        await store.complete(a_completion(replace(new, id="nobody")))
    assert await store.get(ONE) == new
    assert await store.asset("asset") == an_asset()
    assert await store.jobs() == []


async def test_completion_needs_a_staged_asset(store: SqlStore) -> None:
    asset = an_asset(state=AssetState.AVAILABLE, size=1)
    await store.create(a_session(asset_id="asset"), asset)
    session = await lease(store)
    with pytest.raises(InvalidTransition):
        await store.complete(a_completion(session))
    assert await store.get(ONE) == session
    assert await store.jobs() == []


@pytest.mark.parametrize("source", SessionState)
async def test_completion_follows_the_state_table(store: SqlStore, source: SessionState) -> None:
    await store.create(a_session_in(source, ONE), None)
    before = await row(store)
    verifying = SessionState.VERIFYING
    if source in (verifying, SessionState.COMPLETED) or verifying in SESSION_EDGES[source]:
        assert (await store.complete(a_completion(before))).state is SessionState.COMPLETED
    else:
        with pytest.raises(InvalidTransition):
            await store.complete(a_completion(before))
        assert await store.get(ONE) == before


@pytest.mark.parametrize("source", SessionState)
async def test_closing_follows_the_state_table(store: SqlStore, source: SessionState) -> None:
    ends = TERMINAL - {SessionState.COMPLETED}
    for target in SessionState:
        name = f"{source}-{target}"
        await store.create(a_session_in(source, name), None)
        before = await lease(store, name)
        closing = store.close(
            name, 1, state=target, failure="why", cleanup_reason="mpu", now=later(3)
        )
        if target in ends and (target is source or target in SESSION_EDGES[source]):
            assert await closing == replace(
                before,
                state=target,
                failure="why",
                cleanup_reason="mpu",
                lease_holder=None,
                lease_until=None,
                updated_at=later(3),
            )
        else:
            with pytest.raises(InvalidTransition):
                await closing
            assert await store.get(name) == before


async def test_closing_is_fenced(store: SqlStore) -> None:
    await store.create(a_session(), None)
    await lease(store)
    held = await lease(store, holder="node/2", over="node/1")
    end = {"state": SessionState.ABORTED, "failure": None, "cleanup_reason": None, "now": NOW}
    with pytest.raises(LeaseLost):
        await store.close(ONE, 1, **end)  # type: ignore[arg-type]
    with pytest.raises(SessionUnknown):
        await store.close("nobody", 1, **end)  # type: ignore[arg-type]
    assert await store.get(ONE) == held


async def test_only_a_completed_session_is_deleted(store: SqlStore) -> None:
    for state in SessionState:
        await store.create(a_session_in(state, state), None)
        await lease(store, state)
        deleting = store.delete(state, 1, cleanup_reason="object", now=later(4))
        if state is SessionState.COMPLETED:
            await deleting
            after = await row(store, state)
            assert (after.deleted_at, after.lease_holder) == (later(4), None)
            assert (after.state, after.cleanup_reason) == (state, "object")
            await store.delete(state, 1, cleanup_reason=None, now=later(9))
            after = await row(store, state)
            assert (after.deleted_at, after.cleanup_reason) == (later(4), None)
        else:
            with pytest.raises(InvalidTransition):
                await deleting
            assert (await row(store, state)).deleted_at is None
    with pytest.raises(LeaseLost):
        await store.delete("completed", 0, cleanup_reason=None, now=NOW)
    with pytest.raises(SessionUnknown):
        await store.delete("nobody", 0, cleanup_reason=None, now=NOW)


# --- when the database is not there --------------------------------------------------------------


async def test_cancelled_calls_are_never_half_done(database: Database) -> None:
    names = [f"s{n:03}" for n in range(60)]
    async with database.open() as store:
        tasks = [
            asyncio.create_task(store.create(a_session(n, asset_id=n), an_asset(n))) for n in names
        ]
        await tasks[0]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with database.open() as store:
        there = await store.get_many(names)
        assert names[0] in there
        for name in names:
            assert ((await store.asset(name)) is not None) is (name in there)


async def test_a_closed_store_says_so(database: Database) -> None:
    async with database.open() as store:
        reading = asyncio.create_task(store.get(ONE))
        writing = asyncio.create_task(store.create(a_session(), None))
        await asyncio.sleep(0)
        await store.aclose()
        assert await reading in (None, a_session())
        await writing
        for call in (store.ping(), store.get(ONE), store.release(ONE, 0)):
            with pytest.raises(StateUnavailable):
                await call
    async with database.open() as again:
        assert await again.get(ONE) == a_session()


async def test_a_server_that_went_away_is_told_and_comes_back(
    postgres_database: Database,
) -> None:
    server = postgres_server()
    async with postgres_database.open() as store:
        await store.create(a_session(), None)
        server.stop()
        try:
            for call in (store.ping(), store.get(ONE), lease(store)):
                with pytest.raises(StateUnavailable):
                    await call
        finally:
            server.start()
        assert await store.get(ONE) == a_session()
        assert (await lease(store)).lease_epoch == 1


async def test_a_server_that_restarted_meanwhile_goes_unnoticed(
    postgres_database: Database,
) -> None:
    async with postgres_database.open() as store:
        await asyncio.gather(*(store.ping() for _ in range(8)))
        postgres_server().stop()
        postgres_server().start()
        await asyncio.gather(*(store.ping() for _ in range(8)))
        await store.create(a_session(), None)
