"""`ports.statistics.Statistics` on both databases: what is counted, and how old the oldest is."""

from tests.support.state import (
    a_completion,
    a_session,
    an_asset,
    database,
    later,
    lease,
    store,
)
from tusd_storage.ports.statistics import JobBacklog
from tusd_storage.records import SessionState
from tusd_storage.sql import SqlStore

KIND = "promote_asset"


__all__ = ["database", "store"]


async def complete(store: SqlStore, name: str, at: float) -> None:
    """A session that completed then: its job is due from then on."""
    asset = an_asset(f"asset-{name}")
    await store.create(a_session(name, asset_id=asset.id), asset)
    await store.complete(a_completion(await lease(store, name), now=later(at)))


async def test_an_empty_database_has_nothing_to_do(store: SqlStore) -> None:
    counts = await store.statistics.counts()
    assert (counts.unfinished, counts.verifying, counts.unclean, counts.jobs) == (0, 0, 0, ())


async def test_sessions_are_counted_by_what_has_to_happen_to_them(store: SqlStore) -> None:
    for name in ("a", "b", "c", "d"):
        await store.create(a_session(name, expires_at=later(60)), None)
    await store.acquire("c", holder="n/1", now=later(0), until=later(60))
    await store.close(
        "c", 1, state=SessionState.ABORTED, failure="x", cleanup_reason="later", now=later(1)
    )
    counts = await store.statistics.counts()
    assert (counts.unfinished, counts.verifying, counts.unclean) == (3, 0, 1)


async def test_jobs_are_counted_by_kind_and_state_until_they_are_done(store: SqlStore) -> None:
    for number, name in enumerate(("a", "b", "c", "d", "e")):
        await complete(store, name, at=float(number))
    due = await store.claim(worker="w", kinds=[KIND], now=later(10), until=later(70), limit=3)
    first, second, _ = (job.id for job in due)
    await store.succeed(first, worker="w", now=later(11))
    await store.retry(second, worker="w", error="x", run_at=None, now=later(11))
    counts = await store.statistics.counts()
    assert set(counts.jobs) == {
        JobBacklog(kind=KIND, state="queued", count=2, oldest_run_at=later(3)),
        JobBacklog(kind=KIND, state="running", count=1, oldest_run_at=None),
        JobBacklog(kind=KIND, state="dead", count=1, oldest_run_at=None),
    }
