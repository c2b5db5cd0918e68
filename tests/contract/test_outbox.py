"""The promises of `tusd_storage.outbox`, on SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.support.state import (
    NOW,
    Database,
    a_completion,
    a_session,
    a_session_in,
    an_asset,
    database,
    later,
    postgres_database,
    sqlite_database,
)
from tusd_storage.errors import AlreadyExists, LeaseLost
from tusd_storage.outbox import Announce, Announcement, Change, FinalAnswer, NewJob
from tusd_storage.records import Asset, AssetState, JobState, SessionState, UploadSession
from tusd_storage.sql import SqlStore

__all__ = ["database", "postgres_database", "sqlite_database"]


class Recorder:
    """An outbox that writes one job for each change, and notes what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[Change, UploadSession, Asset | None]] = []
        self.bound = 0
        self.failing = False

    def bind(self) -> Announce:
        """See `Outbox`."""
        self.bound += 1
        return self._announce

    def _announce(
        self, change: Change, session: UploadSession, asset: Asset | None
    ) -> Announcement:
        if self.failing:
            raise RuntimeError("cannot say")
        self.seen.append((change, session, asset))
        job = NewJob(
            id=f"{change}-{session.id}",
            kind="tell",
            subject=session.id,
            payload={"change": str(change), "owner": session.owner},
            run_at=later(60),
        )
        return Announcement(jobs=(job,), awaits_answer=change is Change.COMPLETED)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def store(database: Database, recorder: Recorder) -> AsyncIterator[SqlStore]:
    async with database.open(recorder) as opened:
        yield opened


async def told(store: SqlStore) -> list[str]:
    return [job.id for job in await store.jobs() if job.kind == "tell"]


async def test_a_job_is_written_with_the_change(store: SqlStore, recorder: Recorder) -> None:
    session = a_session("one", asset_id="asset")
    await store.create(session, an_asset())
    [job] = await store.jobs()
    assert (job.id, job.kind, job.subject) == ("created-one", "tell", "one")
    assert job.payload == {"change": "created", "owner": "alice"}
    assert (job.state, job.attempts, job.run_at) == (JobState.QUEUED, 0, later(60))
    assert (job.created_at, job.updated_at, job.locked_by) == (NOW, NOW, None)
    assert recorder.seen == [(Change.CREATED, session, None)]
    assert recorder.bound == 1


async def test_every_change_is_told_once(store: SqlStore, recorder: Recorder) -> None:
    session = a_session("one", asset_id="asset", object_key="uploads/asset")
    await store.create(session, an_asset())
    await store.complete(a_completion(session))
    await store.complete(a_completion(session))
    for _ in range(2):
        await store.settle_asset("asset", state=AssetState.AVAILABLE, reason=None, now=later(3))
    for reason in ("not yet", None):
        await store.delete("one", 0, cleanup_reason=reason, now=later(4))
    assert [change for change, _, _ in recorder.seen] == [
        Change.CREATED,
        Change.COMPLETED,
        Change.AVAILABLE,
        Change.DELETED,
    ]
    completed, available, deleted = recorder.seen[1:]
    assert completed[1].state is SessionState.COMPLETED
    assert completed[1].offset == completed[1].length
    assert available[2] is not None
    assert (available[1].id, available[2].state) == ("one", AssetState.AVAILABLE)
    assert deleted[1].deleted_at == later(4)


async def test_those_settled_together_are_told_one_by_one(
    store: SqlStore, recorder: Recorder
) -> None:
    for name in ("one", "two"):
        session = a_session(name, asset_id=name, content_type=None)
        await store.create(session, an_asset(name))
        await store.complete(a_completion(session, content_type=None))
    recorder.seen.clear()
    for _ in range(2):
        await store.settle_unquestioned(profiles=["default"], now=later(3), limit=9)
    told = sorted((change, session.id) for change, session, _ in recorder.seen)
    assert told == [(Change.AVAILABLE, "one"), (Change.AVAILABLE, "two")]


@pytest.mark.parametrize("state", [SessionState.ABORTED, SessionState.EXPIRED, SessionState.FAILED])
async def test_an_end_is_told_once(
    store: SqlStore, recorder: Recorder, state: SessionState
) -> None:
    await store.create(a_session("one"), None)
    if state is SessionState.FAILED:
        await store.create(a_session_in(SessionState.VERIFYING, "two"), None)
    name = "two" if state is SessionState.FAILED else "one"
    recorder.seen.clear()
    for reason in ("not clean", None):
        await store.close(name, 0, state=state, failure="why", cleanup_reason=reason, now=later(1))
    assert [(change, row.state) for change, row, _ in recorder.seen] == [(Change(state), state)]


async def test_what_is_refused_is_not_told(store: SqlStore, recorder: Recorder) -> None:
    session = a_session("one")
    await store.create(session, None)
    with pytest.raises(AlreadyExists):
        await store.create(session, None)
    with pytest.raises(LeaseLost):
        await store.complete(a_completion(replace(session, lease_epoch=7)))
    with pytest.raises(LeaseLost):
        await store.close(
            "one", 7, state=SessionState.ABORTED, failure=None, cleanup_reason=None, now=NOW
        )
    with pytest.raises(LeaseLost):
        await store.delete("one", 7, cleanup_reason=None, now=NOW)
    assert await told(store) == ["created-one"]
    assert len(recorder.seen) == 1


async def test_without_the_job_there_is_no_change(store: SqlStore, recorder: Recorder) -> None:
    session = a_session("one")
    await store.create(session, None)
    recorder.failing = True
    with pytest.raises(RuntimeError, match="cannot say"):
        await store.create(a_session("two"), None)
    with pytest.raises(RuntimeError, match="cannot say"):
        await store.complete(a_completion(session))
    with pytest.raises(RuntimeError, match="cannot say"):
        await store.close(
            "one", 0, state=SessionState.ABORTED, failure=None, cleanup_reason=None, now=NOW
        )
    assert await store.get("two") is None
    assert await store.get("one") == session
    assert await told(store) == ["created-one"]


async def test_the_first_answer_is_kept(store: SqlStore) -> None:
    session = a_session("one")
    await store.create(session, None)
    assert await store.final_answer("one") is None
    assert await store.keep_answer("one", {"a": 1}, hasten=[], now=NOW) is None
    await store.complete(a_completion(session))
    assert await store.final_answer("one") == FinalAnswer(content=None)
    first = await store.keep_answer("one", {"a": "ü"}, hasten=[], now=later(5))
    second = await store.keep_answer("one", {"b": 2}, hasten=[], now=later(6))
    assert first == second == await store.final_answer("one") == FinalAnswer(content={"a": "ü"})


async def test_an_answer_makes_its_jobs_due(store: SqlStore) -> None:
    session = a_session("one")
    await store.create(session, None)
    await store.complete(a_completion(session))
    await store.keep_answer("one", {}, hasten=["completed-one", "nothing"], now=later(5))
    due = {job.id: job.run_at for job in await store.jobs()}
    assert due == {"created-one": later(60), "completed-one": later(5)}
    [job] = await store.claim(worker="w", kinds=["tell"], now=later(5), until=later(90), limit=9)
    assert job.id == "completed-one"
    # One that has been tried keeps its own time.
    await store.retry(job.id, worker="w", error="no", run_at=later(300), now=later(6))
    await store.keep_answer("one", {}, hasten=["completed-one"], now=later(7))
    again = await store.job("completed-one")
    assert again is not None
    assert again.run_at == later(300)


async def test_a_forgotten_session_takes_its_answer_along(store: SqlStore) -> None:
    session = a_session("one")
    await store.create(session, None)
    await store.complete(a_completion(session))
    await store.delete("one", 0, cleanup_reason=None, now=later(3))
    assert await store.swept("one", now=later(4))
    assert await store.forget("one", 0)
    assert await store.final_answer("one") is None


async def test_without_an_outbox_nothing_is_written(database: Database) -> None:
    async with database.open() as store:
        session = a_session("one")
        await store.create(session, None)
        await store.complete(a_completion(session))
        assert await store.jobs() == []
        assert await store.final_answer("one") is None
