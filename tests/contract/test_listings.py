"""The promises of `ports.listings`, on SQLite and PostgreSQL."""

from dataclasses import replace

import pytest

from tests.support.state import (
    NOW,
    a_session,
    a_session_in,
    an_asset,
    later,
    lease,
)
from tusd_storage.errors import (
    InvalidTransition,
    Rejected,
)
from tusd_storage.ports.listings import Node
from tusd_storage.records import AssetState, SessionState
from tusd_storage.sql import SqlStore


@pytest.mark.parametrize("source", AssetState)
@pytest.mark.parametrize("target", AssetState)
async def test_settling_an_asset(store: SqlStore, source: AssetState, target: AssetState) -> None:
    await store.create(a_session(asset_id="asset"), an_asset(state=source, size=1))
    settling = store.settle_asset("asset", state=target, reason="r", now=later(5))
    ends = (AssetState.AVAILABLE, AssetState.QUARANTINED)
    if target in ends and source in (AssetState.VALIDATING, target):
        asset = await settling
        assert asset.state is target
        assert asset == await store.asset("asset")
    else:
        with pytest.raises(InvalidTransition):
            await settling
        assert await store.asset("asset") == an_asset(state=source, size=1)


async def test_settling_an_unknown_asset(store: SqlStore) -> None:
    with pytest.raises(Rejected):
        await store.settle_asset("asset", state=AssetState.AVAILABLE, reason=None, now=NOW)


async def test_nodes_report_themselves(store: SqlStore) -> None:
    first = Node(name="b", instance="1", started_at=NOW, seen_at=NOW)
    other = Node(name="a", instance="9", started_at=NOW, seen_at=later(5))
    await store.seen(first)
    await store.seen(other)
    again = replace(first, instance="2", started_at=later(1), seen_at=later(2))
    await store.seen(again)
    assert await store.nodes() == [other, again]


# --- pages ---------------------------------------------------------------------------------------


async def test_pages_of_sessions(store: SqlStore) -> None:
    for n in range(5):
        await store.create(a_session(f"s{n}", owner="bob" if n % 2 else "alice"), None)
    await store.create(a_session("s9", owner=None, state=SessionState.UPLOADING), None)
    first = await store.list_sessions(limit=4)
    assert [session.id for session in first] == ["s0", "s1", "s2", "s3"]
    assert [s.id for s in await store.list_sessions(after="s3", limit=4)] == ["s4", "s9"]
    assert await store.list_sessions(after="s9") == []
    assert [s.id for s in await store.list_sessions(owner="bob")] == ["s1", "s3"]
    assert [s.id for s in await store.list_sessions(state=SessionState.UPLOADING)] == ["s9"]
    assert await store.list_sessions(state=SessionState.UPLOADING, owner="bob") == []


async def test_pages_come_in_byte_order(store: SqlStore) -> None:
    ids = ["A", "a", "B", "b", "_", "~", "0", "ä"]
    for name in ids:
        await store.create(a_session(name), None)
    listed = [session.id for session in await store.list_sessions()]
    assert listed == sorted(ids, key=lambda name: name.encode())


async def test_expired_sessions_longest_first(store: SqlStore) -> None:
    for state in SessionState:
        session = a_session_in(state, state)
        await store.create(replace(session, expires_at=later(-5)), None)
    await store.create(a_session("same", expires_at=later(-5)), None)
    await store.create(a_session("oldest", expires_at=later(-9)), None)
    await store.create(a_session("due", expires_at=NOW), None)
    await store.create(a_session("future", expires_at=later(1)), None)
    await store.create(a_session("never", expires_at=None), None)
    seen = []
    after = None
    while page := await store.list_expired(now=NOW, after=after, limit=2):
        after = page[-1]
        seen += [session.id for session in page]
    same_time = sorted(["same", "initialized", "resuming", "signed", "uploading"])
    assert seen == ["oldest", *same_time, "due"]


async def test_sessions_that_need_cleaning_or_finishing(store: SqlStore) -> None:
    for n in range(3):
        await store.create(
            a_session(f"c{n}", state=SessionState.FAILED, cleanup_reason="mpu" if n else None), None
        )
    assert [s.id for s in await store.list_cleanup(limit=1)] == ["c1"]
    assert [s.id for s in await store.list_cleanup(after="c1")] == ["c2"]
    for state in SessionState:
        for name in ("free", "dead", "live"):
            session_id = f"{state}-{name}"
            await store.create(a_session_in(state, session_id), None)
            if name != "free":
                await lease(store, session_id, until=later(-1 if name == "dead" else 30))
    stuck = [session.id for session in await store.list_stuck(now=NOW)]
    assert stuck == ["uploaded-dead", "uploaded-free", "verifying-dead", "verifying-free"]
    assert [s.id for s in await store.list_stuck(now=NOW, after=stuck[0], limit=1)] == [stuck[1]]
