"""Creation keys and quotas of owners, on SQLite and PostgreSQL, with several nodes at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.state import (
    MIB,
    NOW,
    Database,
    a_completion,
    a_session,
    an_asset,
    later,
    lease,
)
from tusd_storage.errors import CreationRepeated, TooManyBytes, TooManySessions
from tusd_storage.records import Quota, SessionState, UploadSession
from tusd_storage.sql import SqlStore

NODES = 3
EACH = 8


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[list[SqlStore]]:
    """Stores on one database, each with connections of its own."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(database.open()) for _ in range(NODES)]


def keyed(session_id: str, key: str = "key", **changes: object) -> UploadSession:
    return a_session(session_id, creation_key=key, creation_digest="digest", **changes)


async def test_a_key_belongs_to_one_session(store: SqlStore) -> None:
    await store.create(keyed("one", asset_id="a"), an_asset("a"))
    with pytest.raises(CreationRepeated) as repeated:
        await store.create(keyed("two", asset_id="b"), an_asset("b"))
    assert repeated.value.session == await store.get("one")
    assert await store.get("two") is None and await store.asset("b") is None
    found = await store.created("key", now=NOW)
    assert found is not None
    assert (found.id, found.creation_digest) == ("one", "digest")
    assert await store.created("other", now=NOW) is None
    await store.create(keyed("two", "other"), None)


async def test_of_equal_creations_at_once_one_is_made(nodes: list[SqlStore]) -> None:
    async def create(n: int) -> str:
        asset = an_asset(f"asset{n}")
        try:
            await nodes[n % NODES].create(keyed(f"s{n:02}", asset_id=asset.id), asset)
        except CreationRepeated as repeated:
            return repeated.session.id
        return f"s{n:02}"

    told = await asyncio.gather(*(create(n) for n in range(NODES * EACH)))
    assert len(set(told)) == 1
    rows = await nodes[0].list_sessions()
    assert [row.id for row in rows] == [told[0]]
    kept = [n for n in range(NODES * EACH) if await nodes[0].asset(f"asset{n}") is not None]
    assert len(kept) == 1


@pytest.mark.parametrize("state", ["aborted", "expired", "failed"])
async def test_what_has_ended_gives_its_key_free(store: SqlStore, state: str) -> None:
    await store.create(keyed("one"), None)
    held = await lease(store, "one")
    await store.close(
        "one",
        held.lease_epoch,
        state=SessionState(state),
        failure=None,
        cleanup_reason=None,
        now=NOW,
    )
    assert await store.created("key", now=NOW) is None
    await store.create(keyed("two"), None)
    assert await store.get("one") is not None


async def test_what_is_past_its_time_gives_its_key_free_before_it_is_swept(
    store: SqlStore,
) -> None:
    await store.create(keyed("one", expires_at=later(10)), None)
    assert await store.created("key", now=later(9)) is not None
    assert await store.created("key", now=later(10)) is None
    with pytest.raises(CreationRepeated):
        await store.create(keyed("two", created_at=later(9)), None)
    await store.create(keyed("two", created_at=later(10)), None)
    found = await store.created("key", now=later(11))
    assert found is not None and found.id == "two"


async def test_a_completed_one_keeps_its_key_until_it_is_deleted(store: SqlStore) -> None:
    await store.create(keyed("one", expires_at=later(10)), None)
    held = await lease(store, "one")
    await store.complete(a_completion(held))
    found = await store.created("key", now=later(10_000))
    assert found is not None and found.state is SessionState.COMPLETED
    with pytest.raises(CreationRepeated):
        await store.create(keyed("two", created_at=later(10_000)), None)
    held = await lease(store, "one")
    await store.delete("one", held.lease_epoch, cleanup_reason=None, now=NOW)
    await store.create(keyed("two"), None)


# -- Quotas


async def test_an_owner_may_have_so_many_open(store: SqlStore) -> None:
    store.quota = Quota(max_sessions=2)
    for n in range(2):
        await store.create(a_session(f"ann{n}", owner="ann"), None)
    with pytest.raises(TooManySessions):
        await store.create(a_session("ann2", owner="ann", asset_id="a"), an_asset("a"))
    assert await store.get("ann2") is None and await store.asset("a") is None
    await store.create(a_session("ben", owner="ben"), None)
    for n in range(5):
        await store.create(a_session(f"nobody{n}", owner=None), None)


async def test_what_is_over_does_not_count(store: SqlStore) -> None:
    store.quota = Quota(max_sessions=1, max_size=100 * MIB)
    await store.create(a_session("one"), None)
    held = await lease(store, "one")
    await store.complete(a_completion(held))
    await store.create(a_session("two", expires_at=later(5)), None)
    with pytest.raises(TooManySessions):
        await store.create(a_session("three", created_at=later(4)), None)
    await store.create(a_session("three", created_at=later(5)), None)


async def test_an_owner_may_have_so_many_bytes_open(store: SqlStore) -> None:
    store.quota = Quota(max_size=10 * MIB)
    await store.create(a_session("one", length=6 * MIB), None)
    with pytest.raises(TooManyBytes):
        await store.create(a_session("two", length=4 * MIB + 1), None)
    await store.create(a_session("two", length=None, size_promised=3 * MIB), None)
    await store.create(a_session("three", length=MIB), None)
    await store.create(a_session("empty", length=0), None)
    with pytest.raises(TooManyBytes):
        await store.create(a_session("four", length=1), None)


async def test_an_unknown_length_gets_a_maximum_within_the_quota(store: SqlStore) -> None:
    store.quota = Quota(max_size=10 * MIB)
    await store.create(a_session("small", length=None, max_size=2 * MIB), None)
    await store.create(a_session("large", length=None), None)
    sizes = {name: row.max_size for name, row in (await store.get_many(["small", "large"])).items()}
    assert sizes == {"small": 2 * MIB, "large": 8 * MIB}
    with pytest.raises(TooManyBytes):
        await store.create(a_session("more", length=None), None)


@pytest.mark.parametrize("quota", [Quota(max_sessions=5), Quota(max_size=500 * MIB)])
async def test_a_quota_holds_when_many_create_at_once(nodes: list[SqlStore], quota: Quota) -> None:
    for node in nodes:
        node.quota = quota

    async def create(n: int, key: str | None) -> bool:
        session = a_session(f"s{n:02}") if key is None else keyed(f"s{n:02}", key)
        try:
            await nodes[n % NODES].create(session, None)
        except (TooManySessions, TooManyBytes):
            return False
        return True

    made = await asyncio.gather(
        *(create(n, None if n % 2 else f"key{n}") for n in range(NODES * EACH))
    )
    assert sum(made) == 5
    assert len(await nodes[0].list_sessions()) == 5
