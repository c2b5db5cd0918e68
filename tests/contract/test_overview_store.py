"""What every `Overview` and `ReaperDiary` must do, on SQLite and on PostgreSQL."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.state import (
    LEASE,
    NOW,
    a_completion,
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
from tusd_storage.ports.overview import Browsed, Pulse, ReaperRun, Stuck, Survey, Wanted
from tusd_storage.records import JobState, Kind, SessionState, UploadSession
from tusd_storage.sql import SqlStore, overview

__all__ = ["database", "postgres_database", "sqlite_database", "store"]

LONG = later(3600)
"""An hour on: every lease has run out."""
STUCK = Stuck(idle_before=later(60), failed_after=later(-60))


async def pulse(store: SqlStore, *known: str, **changes: object) -> Pulse:
    wanted: dict[str, object] = {"now": NOW, "limit": 10, "cap": 100}
    return await store.pulse(known=known, **(wanted | changes))  # type: ignore[arg-type]


async def survey(store: SqlStore, **changes: object) -> Survey:
    wanted: dict[str, object] = {
        "now": LONG,
        "idle_before": later(60),
        "failed_after": later(-60),
        "gone": [],
        "limit": 10,
        "cap": 100,
    }
    return await store.survey(**(wanted | changes))  # type: ignore[arg-type]


async def create(store: SqlStore, *sessions: UploadSession) -> None:
    for session in sessions:
        await store.create(session, None)


def ids(sessions: tuple[UploadSession, ...]) -> list[str]:
    return [session.id for session in sessions]


async def test_of_an_empty_database(store: SqlStore) -> None:
    beat = await pulse(store, "nobody")
    assert (beat.writing_count, beat.writing, beat.known, beat.dead) == (0, (), (), ())
    seen = await survey(store, gone=["elsewhere"])
    assert (seen.open, seen.open_size, seen.idle, seen.tails) == (0, 0, 0, ())
    assert await store.browse(Wanted(), now=NOW) == Browsed(sessions=(), next=None)
    assert await store.find("n") == []


async def test_a_live_lease_is_writing_and_one_that_ran_out_is_not(store: SqlStore) -> None:
    await create(store, a_session("a"), a_session("b"))
    await lease(store, "a")
    beat = await pulse(store)
    assert ids(beat.writing) == ["a"]
    assert beat.writing_count == 1
    late = await pulse(store, now=NOW + LEASE)
    assert late.writing == ()


async def test_counts_and_lists_are_bounded(store: SqlStore) -> None:
    for number in range(5):
        await create(store, a_session(f"s{number}"))
        await lease(store, f"s{number}")
    beat = await pulse(store, limit=2, cap=3)
    assert (len(beat.writing), len(beat.recent), beat.writing_count) == (2, 2, 3)
    assert (await survey(store, cap=4)).open == 4


async def test_what_was_active_last_comes_first(store: SqlStore) -> None:
    await create(
        store,
        a_session("early", expires_at=later(10)),
        a_session("late", expires_at=later(30)),
        a_session_in(SessionState.COMPLETED, "done"),
    )
    beat = await pulse(store, "done", "unknown")
    assert ids(beat.recent) == ["late", "early"]
    assert ids(beat.known) == ["done"]


async def test_completed_ones_newest_first_and_no_partials(store: SqlStore) -> None:
    done = a_session_in(SessionState.COMPLETED, "done")
    await create(
        store,
        done,
        replace(done, id="newer", object_key="k1", completed_at=later(5)),
        replace(done, id="partial", object_key="k2", kind=Kind.PARTIAL, completed_at=later(9)),
        a_session("open"),
    )
    assert ids((await pulse(store)).completed) == ["newer", "done"]


async def test_jobs_due_and_dead(store: SqlStore) -> None:
    for name in ("a", "b", "c"):
        await store.create(a_session(name, asset_id=name), an_asset(name, object_key=name))
        row = await lease(store, name)
        await store.complete(a_completion(row))
    (job,) = await store.claim(
        worker="w", kinds=["promote_asset"], now=later(3), until=LONG, limit=1
    )
    await store.retry(job.id, worker="w", error="no", run_at=None, now=later(4))
    await store.claim(worker="w", kinds=["promote_asset"], now=later(3), until=LONG, limit=1)
    beat = await pulse(store)
    assert [job.state for job in beat.due] == [JobState.QUEUED, JobState.RUNNING]
    assert [(dead.id, dead.error) for dead in beat.dead] == [(job.id, "no")]
    seen = await survey(store)
    assert (seen.queued, seen.running, seen.dead) == (1, 1, 1)


async def test_a_survey_sums_up_what_is_open(store: SqlStore) -> None:
    await create(
        store,
        a_session("tail", offset=100, tail_node="a"),
        a_session("no-tail", offset=0),
        a_session("boundary", offset=50, parts_size=50, parts_count=1, tail_node="a"),
        a_session("elsewhere", offset=7, tail_node="b"),
        a_session("fresh", updated_at=later(100)),
    )
    await lease(store, "elsewhere", until=LONG + LEASE)
    seen = await survey(store, gone=["b", "c"])
    assert (seen.open, seen.open_size, seen.idle) == (5, 157, 3)
    assert [(tail.node, tail.uploads, tail.size) for tail in seen.tails] == [
        ("a", 1, 100),
        ("b", 1, 7),
    ]
    assert sorted(ids(seen.longest_idle)) == ["boundary", "no-tail", "tail"]
    assert ids(seen.orphaned) == ["elsewhere"]


async def test_a_survey_finds_what_needs_somebody(store: SqlStore) -> None:
    await create(
        store,
        a_session("received", offset=10, length=10),
        a_session_in(SessionState.VERIFYING, "verifying"),
        a_session("unclean", state=SessionState.ABORTED, cleanup_reason="no"),
        a_session("failed", state=SessionState.FAILED, failure="why", updated_at=later(1)),
        a_session("failed-before", state=SessionState.FAILED, updated_at=later(-100)),
    )
    seen = await survey(store)
    assert sorted(ids(seen.unfinished)) == ["received", "verifying"]
    assert ids(seen.uncleaned) == ["unclean"]
    assert ids(seen.failures) == ["failed"]
    assert (seen.finishing, seen.unclean, seen.failed) == (1, 1, 1)
    await lease(store, "received", until=LONG + LEASE)
    assert ids((await survey(store)).unfinished) == ["verifying"]


async def test_browsing_in_order_of_id_by_pages(store: SqlStore) -> None:
    await create(store, *(a_session(f"a~{number}") for number in (3, 1, 2)))
    first = await store.browse(Wanted(), now=NOW, limit=2)
    assert (ids(first.sessions), first.next) == (["a~1", "a~2"], "a~2")
    rest = await store.browse(Wanted(), now=NOW, after=first.next, limit=2)
    assert (ids(rest.sessions), rest.next) == (["a~3"], None)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(state=SessionState.FAILED), ["a~4", "b~1"]),
        (Wanted(owner="bob"), ["b~1"]),
        (Wanted(node="a"), ["a~1", "a~2", "a~3", "a~4"]),
        (Wanted(node="a", state=SessionState.FAILED), ["a~4"]),
        (Wanted(stuck=STUCK), ["a~1", "a~2", "a~4"]),
        (Wanted(stuck=STUCK, node="b"), []),
    ],
)
async def test_browsing_what_is_wanted(store: SqlStore, wanted: Wanted, found: list[str]) -> None:
    await create(
        store,
        a_session("a~1"),
        a_session("a~2", state=SessionState.EXPIRED, cleanup_reason="no"),
        a_session("a~3", updated_at=later(90)),
        a_session("a~4", state=SessionState.FAILED),
        a_session("ab~1", state=SessionState.ABORTED),
        a_session("b~1", state=SessionState.FAILED, owner="bob", updated_at=later(-100)),
    )
    page = await store.browse(wanted, now=LONG)
    assert (ids(page.sessions), page.next) == (found, None)


async def test_a_page_looks_at_few_rows_and_goes_on(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few are wanted, no page reads the whole table."""
    monkeypatch.setattr(overview, "LOOK", 3)
    await create(store, *(a_session(f"s{number}") for number in range(7)))
    await create(store, a_session("s9", owner="bob"))
    seen, after, pages = [], None, 0
    while pages == 0 or after is not None:
        page = await store.browse(Wanted(owner="bob"), now=NOW, after=after)
        seen += ids(page.sessions)
        after, pages = page.next, pages + 1
    assert (seen, pages) == (["s9"], 3)


async def test_finding_by_the_beginning_of_an_id(store: SqlStore) -> None:
    await create(store, a_session("a~xyz1"), a_session("a~xyz12"), a_session("a~w"))
    assert [one.id for one in await store.find("a~w")] == ["a~w"]
    assert [one.id for one in await store.find("a~xyz1")] == ["a~xyz1", "a~xyz12"]
    assert [one.id for one in await store.find("a~xyz1", limit=1)] == ["a~xyz1"]
    assert len(await store.find("a~x")) == 2
    assert await store.find("a~z") == []
    assert await store.find("%") == []


async def test_a_moving_upload_is_not_idle(store: SqlStore) -> None:
    await create(store, a_session())
    row = await lease(store)
    await store.append(an_append(row, 10, now=LONG, release=True))
    seen = await survey(store, now=LONG + timedelta(seconds=5))
    assert (seen.open, seen.idle, seen.longest_idle) == (1, 0, ())


async def test_the_diary_keeps_the_last_runs_of_each_node(store: SqlStore) -> None:
    for number in range(4):
        for node in ("a", "b"):
            run = ReaperRun(
                id=f"{number}-{node}",
                node=node,
                started_at=later(number),
                report={"sweeps": [{"sweep": "tails", "counters": {"due": number}}]},
            )
            await store.record_run(run, keep=2)
    runs = await store.runs(limit=10)
    assert [run.id for run in runs] == ["3-b", "3-a", "2-b", "2-a"]
    assert runs[0].report == {"sweeps": [{"sweep": "tails", "counters": {"due": 3}}]}
    assert len(await store.runs(limit=1)) == 1
