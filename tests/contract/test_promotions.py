"""Promotions that need nobody, on every database: many at once, and none that has a question."""

from tests.support.state import NOW, a_completion, a_session, an_asset, later
from tusd_storage.records import AssetState, JobState, Protocol
from tusd_storage.sql import SqlStore

PROFILES = ["default"]


async def completed(
    store: SqlStore, name: str, *, promised: str | None = None, **changes: object
) -> None:
    """A completed upload, its asset and its job, all of this name."""
    session = a_session(name, asset_id=name, content_type=promised, **changes)
    await store.create(session, an_asset(name, content_type=promised, profile=session.profile))
    await store.complete(a_completion(session, content_type=promised, now=NOW))


async def state(store: SqlStore, name: str) -> tuple[AssetState, JobState]:
    asset, job = await store.asset(name), await store.job(f"job-{name}")
    assert asset is not None and job is not None
    return asset.state, job.state


WAITS = (AssetState.VALIDATING, JobState.QUEUED)
SETTLED = (AssetState.AVAILABLE, JobState.DONE)


async def test_many_are_settled_with_their_jobs(store: SqlStore) -> None:
    for number in range(5):
        await completed(store, f"up{number}", profile="default")
    assert await store.settle_unquestioned(profiles=PROFILES, now=later(1), limit=3) == 3
    assert await store.settle_unquestioned(profiles=PROFILES, now=later(1), limit=3) == 2
    assert await store.settle_unquestioned(profiles=PROFILES, now=later(1), limit=3) == 0
    for number in range(5):
        assert await state(store, f"up{number}") == SETTLED
    assert (
        await store.claim(
            worker="w", kinds=["promote_asset"], now=later(1), until=later(9), limit=9
        )
        == []
    )
    [first, *_] = await store.jobs()
    assert (first.attempts, first.error, first.updated_at) == (1, None, later(1))


async def test_who_is_asked_about_waits_for_the_worker(store: SqlStore) -> None:
    await completed(store, "typed", profile="default", promised="image/png")
    await completed(store, "other", profile="images")
    await completed(store, "direct", profile="default", protocol=Protocol.S3)
    await completed(store, "plain", profile="default")
    assert await store.settle_unquestioned(profiles=PROFILES, now=later(1), limit=9) == 1
    assert await state(store, "plain") == SETTLED
    for name in ("typed", "other", "direct"):
        assert await state(store, name) == WAITS
    assert await store.settle_unquestioned(profiles=[], now=later(1), limit=9) == 0


async def test_what_is_not_due_or_in_other_hands_is_left(store: SqlStore) -> None:
    await completed(store, "up", profile="default")
    assert await store.settle_unquestioned(profiles=PROFILES, now=later(-1), limit=9) == 0
    [job] = await store.claim(
        worker="w", kinds=["promote_asset"], now=later(1), until=later(60), limit=9
    )
    assert await store.settle_unquestioned(profiles=PROFILES, now=later(2), limit=9) == 0
    assert await store.settle_unquestioned(profiles=PROFILES, now=later(90), limit=9) == 0
    assert await store.succeed(job.id, worker="w", now=later(3))
