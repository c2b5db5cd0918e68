"""What `tusd_storage.ports.direct.DirectSessions` promises, on SQLite and PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.state import Database, a_session, a_session_in, an_asset, later, lease
from tusd_storage import lifecycle
from tusd_storage.errors import InvalidTransition, SessionUnknown
from tusd_storage.records import Protocol, SessionState, Strategy, UploadSession
from tusd_storage.sql import SqlStore
from tusd_storage.sql.broker import SIGNED_ALREADY


def direct(session_id: str = "node~one", **changes: object) -> UploadSession:
    """A session whose bytes go straight to the store."""
    wanted: dict[str, object] = {
        "protocol": Protocol.S3,
        "strategy": Strategy.PRESIGNED_PUT,
        "state": SessionState.INITIALIZED,
        "length": None,
    }
    return a_session(session_id, **(wanted | changes))


async def test_an_initialized_session_becomes_signed(store: SqlStore) -> None:
    session = direct()
    await store.create(session, None)
    signed = await store.mark_signed(session.id, now=later(5))
    assert signed == replace(session, state=SessionState.SIGNED, updated_at=later(5))
    assert await store.get(session.id) == signed


async def test_signing_again_changes_nothing(store: SqlStore) -> None:
    await store.create(direct(), None)
    once = await store.mark_signed("node~one", now=later(5))
    assert await store.mark_signed("node~one", now=later(9)) == once


async def test_signing_needs_no_lease_and_keeps_the_holder(store: SqlStore) -> None:
    await store.create(direct(), None)
    held = await lease(store)
    signed = await store.mark_signed("node~one", now=later(5))
    assert (signed.lease_holder, signed.lease_epoch) == (held.lease_holder, held.lease_epoch)


@pytest.mark.parametrize("state", SessionState)
async def test_states_follow_the_table(store: SqlStore, state: SessionState) -> None:
    session = a_session_in(state, "node~one")
    await store.create(session, None)
    if state in SIGNED_ALREADY:
        assert await store.mark_signed(session.id, now=later(5)) == session
    elif SessionState.SIGNED in lifecycle.SESSION_EDGES[state]:
        assert (await store.mark_signed(session.id, now=later(5))).state is SessionState.SIGNED
    else:
        with pytest.raises(InvalidTransition):
            await store.mark_signed(session.id, now=later(5))
        assert await store.get(session.id) == session


async def test_an_unknown_session_is_told(store: SqlStore) -> None:
    with pytest.raises(SessionUnknown):
        await store.mark_signed("nobody", now=later(5))


async def test_a_session_that_ends_is_not_signed_again(database: Database) -> None:
    """Ending and signing race from two processes: whatever the order, it has ended."""
    async with database.open() as one, database.open() as two:
        for number in range(20):
            session = direct(f"node~{number}")
            await one.create(session, None)
            held = await lease(one, session.id)

            async def end(epoch: int = held.lease_epoch, session_id: str = session.id) -> None:
                await one.close(
                    session_id,
                    epoch,
                    state=SessionState.ABORTED,
                    failure=None,
                    cleanup_reason=None,
                    now=later(1),
                )

            signing = two.mark_signed(session.id, now=later(1))
            await asyncio.gather(end(), signing, return_exceptions=True)
            found = await two.get(session.id)
            assert found is not None and found.state is SessionState.ABORTED


async def test_a_session_is_found_by_its_key(store: SqlStore) -> None:
    session = replace(direct(), asset_id="asset")
    await store.create(session, an_asset())
    assert await store.by_key(session.bucket, session.object_key) == session
    assert await store.by_key("other", session.object_key) is None
    assert await store.by_key(session.bucket, "uploads/other") is None
