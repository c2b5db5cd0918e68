"""The broker's nine functions against a strict store in memory, with faults where they may come."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.direct import BrokerNode, Clock, DirectMemoryStore, broker_node, upload_parts
from tests.support.faults import Faults, FaultyObjects, FaultySessions, Trouble
from tests.support.harness import ScriptedBody
from tests.support.state import Database
from tusd_py.broker.errors import (
    ContentTypeRefused,
    InvalidArgument,
    InvalidParts,
    InvalidTransition,
    MultipartNotInitialized,
    MultipartVanished,
    ObjectMismatch,
    ObjectMissing,
    ResumableNotInitialized,
    SessionExpired,
    SessionNotFound,
    SizeRefused,
    UnknownProfile,
    UploadUnsupported,
)
from tusd_py.broker.parts import PartName
from tusd_py.broker.profiles import Profile, Profiles
from tusd_py.broker.results import ResumableState
from tusd_py.uploads.completion import object_spec
from tusd_storage.errors import StateUnavailable, StoreUnavailable
from tusd_storage.partplan import MIB, MIN_PART_SIZE
from tusd_storage.ports.direct import Capability
from tusd_storage.records import AssetState, JobState, Protocol, SessionState, Strategy
from tusd_storage.sql import SqlStore

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(1000)
BIG = b"x" * (MIN_PART_SIZE * 2 + 77)


@pytest.fixture
async def store(sqlite_database: Database) -> AsyncIterator[SqlStore]:
    async with sqlite_database.open() as opened:
        yield opened


@pytest.fixture
def objects() -> DirectMemoryStore:
    return DirectMemoryStore()


@pytest.fixture
async def it(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path
) -> AsyncIterator[BrokerNode]:
    async with broker_node(store, objects, tmp_path) as node:
        yield node


async def delivered(it: BrokerNode, objects: DirectMemoryStore, data: bytes = PICTURE) -> str:
    """A presigned session whose client has sent its bytes and said nothing yet."""
    session = await it.broker.initiate_session("default", filename="a.png", size=len(data))
    signed = await it.broker.sign_url(session.id)
    objects.deliver(signed.presigned.url, data, signed.presigned.headers)
    return session.id


async def test_a_new_session_is_staged_and_initialized_and_told(it: BrokerNode) -> None:
    session = await it.broker.initiate_session(
        "default", filename="../photo.png", content_type="image/png", size=5, owner="alice"
    )
    assert session.state is SessionState.INITIALIZED
    assert (session.protocol, session.strategy) == (Protocol.S3, Strategy.PRESIGNED_PUT)
    assert (session.filename, session.owner, session.size_promised) == ("photo.png", "alice", 5)
    asset = await it.sessions.asset(session.asset_id)
    assert asset.state is AssetState.STAGED and asset.object_key == session.object_key
    assert it.told() == ["upload.start"]
    assert session.id not in session.object_key


async def test_nothing_is_told_when_the_rows_were_not_written(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path
) -> None:
    faults = Faults()
    faults.plan = [Trouble.FAIL_BEFORE]
    async with broker_node(FaultySessions(store, faults), objects, tmp_path, bare=store) as it:
        with pytest.raises(StateUnavailable):
            await it.broker.initiate_session("default", filename="a")
        assert it.events == []
    assert await store.list_sessions() == []


async def test_signing_binds_what_was_declared(it: BrokerNode, objects: DirectMemoryStore) -> None:
    session = await it.broker.initiate_session(
        "default", filename="a.png", content_type="image/png", size=3
    )
    signed = await it.broker.sign_url(session.id)
    assert signed.session.state is SessionState.SIGNED
    assert signed.presigned.method == "PUT"
    assert signed.presigned.headers["Content-Type"] == "image/png"
    assert signed.presigned.headers["x-amz-meta-tusd-token"] == session.token
    again = await it.broker.sign_url(session.id)
    assert again.session == signed.session


async def test_a_url_never_outlives_its_session(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path
) -> None:
    clock = Clock()
    async with broker_node(store, objects, tmp_path, now=clock) as it:
        session = await it.broker.initiate_session("default", expires_in=timedelta(minutes=10))
        form = await it.broker.sign_form(session.id, expires_in=timedelta(hours=5))
        assert form.expires_in_s == 600
        clock.forward(timedelta(minutes=10))
        with pytest.raises(SessionExpired):
            await it.broker.sign_url(session.id)


async def test_a_missing_object_changes_nothing(it: BrokerNode) -> None:
    session = await it.broker.initiate_session("default", filename="a")
    with pytest.raises(InvalidTransition):
        await it.broker.verify_completion(session.id)
    before = (await it.broker.sign_url(session.id)).session
    with pytest.raises(ObjectMissing):
        await it.broker.verify_completion(session.id)
    after = await it.sessions.get(session.id)
    assert (after.state, after.updated_at) == (before.state, before.updated_at)
    assert it.told() == ["upload.start"]


async def test_verifying_records_what_was_measured_and_promotes_once(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    session_id = await delivered(it, objects)
    first = await it.broker.verify_completion(session_id)
    assert first.session.state is SessionState.COMPLETED
    assert first.asset is not None and first.asset.state is AssetState.VALIDATING
    assert first.asset.size == len(PICTURE)
    second = await it.broker.verify_completion(session_id)
    assert second.session == first.session
    jobs = await it.sessions.jobs()
    assert [(job.kind, job.subject, job.state) for job in jobs] == [
        ("promote_asset", first.asset.id, JobState.QUEUED)
    ]
    assert it.told() == ["upload.start", "upload.stop"]


async def test_many_at_once_promote_once(it: BrokerNode, objects: DirectMemoryStore) -> None:
    session_id = await delivered(it, objects)
    calls = (it.broker.verify_completion(session_id) for _ in range(5))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert any(not isinstance(result, BaseException) for result in results)
    assert len(await it.sessions.jobs()) == 1
    assert it.told().count("upload.stop") == 1


async def test_an_object_of_another_size_fails_the_session_and_goes(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    session = await it.broker.initiate_session("default", size=10)
    signed = await it.broker.sign_url(session.id)
    grant = objects._grants[signed.presigned.url]
    grant.accept(b"far more than ten bytes")  # a store that does not check what it signed
    with pytest.raises(ObjectMismatch) as caught:
        await it.broker.verify_completion(session.id)
    assert caught.value.failure == "size_mismatch"
    after = await it.sessions.get(session.id)
    assert (after.state, after.failure) == (SessionState.FAILED, "size_mismatch")
    assert objects.objects == {} and await it.sessions.jobs() == []


async def test_an_object_above_the_profiles_size_fails_the_session(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path
) -> None:
    profiles = [Profile(name="small", bucket="bucket", max_size=10)]
    async with broker_node(store, objects, tmp_path, profiles=profiles) as it:
        session = await it.broker.initiate_session("small")
        with pytest.raises(InvalidArgument, match="declares its size"):
            await it.broker.sign_url(session.id)
        await it.broker.sign_form(session.id)
        objects._store(object_spec(session), bytes(11))  # a store that passes over the policy
        with pytest.raises(ObjectMismatch) as caught:
            await it.broker.verify_completion(session.id)
        assert caught.value.failure == "too_large"


async def test_a_grants_limit_is_bound_before_anything_is_sent(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    session = await it.broker.initiate_session("default", max_size=10)
    with pytest.raises(InvalidArgument, match="declares its size"):
        await it.broker.sign_url(session.id)
    declared = await it.broker.initiate_session("default", size=10, max_size=10)
    assert (await it.broker.sign_url(declared.id)).session.state is SessionState.SIGNED


async def test_parts_beyond_a_grants_limit_are_never_put_together(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    limit = len(BIG) - 1
    made = await it.broker.initiate_multipart_session("default", max_size=limit)
    names = await upload_parts(it.broker, objects, made.session.id, BIG)
    with pytest.raises(InvalidParts):
        await it.broker.complete_multipart_upload(made.session.id, names)
    assert objects.objects == {} and objects.calls["complete_multipart"] == 0
    done = await it.broker.complete_multipart_upload(made.session.id, names[:2])
    assert done.session.length == 2 * MIN_PART_SIZE


async def test_a_foreign_object_is_none_of_ours(it: BrokerNode, objects: DirectMemoryStore) -> None:
    session_id = await delivered(it, objects)
    ((where, stored),) = objects.objects.items()
    object.__setattr__(stored.spec, "token", "another")
    with pytest.raises(ObjectMissing):
        await it.broker.verify_completion(session_id)
    assert where in objects.objects


async def test_a_multipart_session_from_first_part_to_asset(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    made = await it.broker.initiate_multipart_session("default", filename="b", size=len(BIG))
    assert made.session.state is SessionState.INITIALIZED
    assert (made.upload_key, made.part_size) == (made.session.object_key, MIN_PART_SIZE)
    names = await upload_parts(it.broker, objects, made.session.id, BIG)
    assert [part.number for part in await it.broker.list_multipart_parts(made.session.id)] == [
        1,
        2,
        3,
    ]
    done = await it.broker.complete_multipart_upload(made.session.id, names[::-1])
    assert done.session.state is SessionState.COMPLETED and done.asset is not None
    assert (done.asset.state, done.asset.size) == (AssetState.VALIDATING, len(BIG))
    assert objects.objects["bucket", made.upload_key].data == BIG
    again = await it.broker.complete_multipart_upload(made.session.id, names)
    assert again.session == done.session
    assert it.told() == ["upload.start", "upload.stop"]


@pytest.mark.parametrize("trouble", [Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER])
async def test_a_multipart_upload_whose_row_is_not_there_is_aborted(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path, trouble: Trouble
) -> None:
    faults = Faults()
    faults.plan = [trouble]
    async with broker_node(FaultySessions(store, faults), objects, tmp_path, bare=store) as it:
        if trouble is Trouble.FAIL_BEFORE:
            with pytest.raises(StateUnavailable):
                await it.broker.initiate_multipart_session("default")
            assert objects.uploads == {}
        else:  # only the answer was lost: the rows are there, and so is the upload
            made = await it.broker.initiate_multipart_session("default")
            assert list(objects.uploads) == [made.upload_id]


@pytest.mark.parametrize("number", [0, -1, 10_001])
async def test_part_numbers_are_1_to_10000(it: BrokerNode, number: int) -> None:
    made = await it.broker.initiate_multipart_session("default")
    with pytest.raises(InvalidParts):
        await it.broker.sign_multipart_part(made.session.id, number)


async def test_a_part_is_never_signed_for_anything_but_a_multipart(it: BrokerNode) -> None:
    session = await it.broker.initiate_session("default")
    with pytest.raises(MultipartNotInitialized):
        await it.broker.sign_multipart_part(session.id, 1)
    with pytest.raises(MultipartNotInitialized):
        await it.broker.complete_multipart_upload(session.id, [PartName(1, "e")])
    made = await it.broker.initiate_multipart_session("default")
    with pytest.raises(UploadUnsupported):
        await it.broker.sign_url(made.session.id)


async def test_wrong_parts_change_nothing(it: BrokerNode, objects: DirectMemoryStore) -> None:
    made = await it.broker.initiate_multipart_session("default", size=len(BIG))
    names = await upload_parts(it.broker, objects, made.session.id, BIG)
    before = await it.sessions.get(made.session.id)
    wrong = [
        [],
        names[:2],
        names[1:],
        [*names, names[0]],
        [*names[:2], PartName(3, '"other"')],
        [*names, PartName(4, '"never sent"')],
        [*names[:2], PartName(3, "")],
    ]
    for parts in wrong:
        with pytest.raises(InvalidParts):
            await it.broker.complete_multipart_upload(made.session.id, parts)
    after = await it.sessions.get(made.session.id)
    assert (after.state, after.parts_count) == (before.state, 0)
    await it.broker.complete_multipart_upload(made.session.id, names)


@pytest.mark.parametrize("skip", range(6))
@pytest.mark.parametrize("trouble", [Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER])
async def test_a_doubtful_completion_is_settled_by_the_next_call(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path, trouble: Trouble, skip: int
) -> None:
    """List, complete, head: each may fail before or after its effect."""
    faults = Faults()
    async with broker_node(store, FaultyObjects(objects, faults), tmp_path) as it:
        made = await it.broker.initiate_multipart_session("default", size=len(BIG))
        names = await upload_parts(it.broker, objects, made.session.id, BIG)
        faults.plan = [Trouble.NONE] * skip + [trouble]
        try:
            await it.broker.complete_multipart_upload(made.session.id, names)
        except StoreUnavailable:
            after = await it.sessions.get(made.session.id)
            assert after.state in {SessionState.SIGNED, SessionState.VERIFYING}
        faults.plan = []
        done = await it.broker.complete_multipart_upload(made.session.id, names)
        assert done.session.state is SessionState.COMPLETED
        assert objects.objects["bucket", made.upload_key].data == BIG
        assert len(await store.jobs()) == 1


async def test_a_multipart_upload_that_the_store_lost_is_told(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    made = await it.broker.initiate_multipart_session("default")
    names = await upload_parts(it.broker, objects, made.session.id, BIG)
    objects.uploads.clear()
    with pytest.raises(MultipartVanished):
        await it.broker.list_multipart_parts(made.session.id)
    with pytest.raises(MultipartVanished):
        await it.broker.complete_multipart_upload(made.session.id, names)
    assert (await it.sessions.get(made.session.id)).state is SessionState.FAILED


async def test_a_resumable_session_is_a_tus_upload(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    made = await it.broker.initiate_resumable_session(
        "default", filename="Menü.png", content_type="image/png", size=len(PICTURE)
    )
    assert made.session_uri == f"/files/{made.upload_id}"
    row = await it.node.engine.find(made.upload_id)
    assert (row.protocol, row.state, row.length) == (
        Protocol.TUS,
        SessionState.SIGNED,
        len(PICTURE),
    )
    assert row.filename == "Menü.png" and row.metadata.startswith("filename ")

    await it.node.patch(made.upload_id, 0, PICTURE[:400])
    status = await it.broker.resumable_session_status(made.upload_id)
    assert (status.committed_bytes, status.state) == (400, ResumableState.IN_PROGRESS)
    with pytest.raises(ObjectMissing):
        await it.broker.verify_completion(made.upload_id)

    await it.node.patch(made.upload_id, 400, PICTURE[400:])
    status = await it.broker.resumable_session_status(made.upload_id)
    assert (status.committed_bytes, status.state) == (len(PICTURE), ResumableState.COMPLETE)
    done = await it.broker.verify_completion(made.upload_id)
    assert done.asset is not None and done.asset.state is AssetState.VALIDATING
    assert it.told() == [
        "upload.start",
        "upload.resumable.start",
        "upload.resumable.patch",
        "upload.resumable.status",
        "upload.resumable.patch",
        "upload.stop",
        "upload.resumable.stop",
        "upload.resumable.status",
    ]


async def test_reading_the_status_moves_nothing(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path
) -> None:
    clock = Clock()
    async with broker_node(store, objects, tmp_path, now=clock) as it:
        made = await it.broker.initiate_resumable_session(
            "default", size=5, expires_in=timedelta(minutes=1)
        )
        clock.forward(timedelta(minutes=2))
        status = await it.broker.resumable_session_status(made.upload_id)
        assert status.state is ResumableState.EXPIRED
        assert await store.get(made.upload_id) == made.session
        session = await it.broker.initiate_session("default")
        with pytest.raises(ResumableNotInitialized):
            await it.broker.resumable_session_status(session.id)


async def test_cancelling_interrupts_whoever_writes(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    made = await it.broker.initiate_resumable_session("default", size=len(BIG))
    gate = asyncio.Event()
    body = ScriptedBody([BIG[:MIB]] * 6, gate=gate)
    writing = asyncio.create_task(it.node.patch(made.upload_id, 0, BIG, body=body))
    while body.given < 6 * MIB:
        await asyncio.sleep(0)
    row = await it.broker.cancel_resumable_session(made.upload_id)
    gate.set()
    await asyncio.wait([writing])
    assert writing.exception() is not None
    assert (row.state, row.cleanup_reason) == (SessionState.ABORTED, None)
    assert objects.uploads == {}
    assert await it.broker.cancel_resumable_session(made.upload_id) == row
    assert "upload.resumable.cancel" in it.told()


@pytest.mark.parametrize("strategy", ["multipart", "resumable"])
async def test_an_abort_that_fails_leaves_a_marker(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path, strategy: str
) -> None:
    faults = Faults()
    async with broker_node(store, FaultyObjects(objects, faults), tmp_path) as it:
        if strategy == "multipart":
            session_id = (await it.broker.initiate_multipart_session("default")).session.id
        else:
            made = await it.broker.initiate_resumable_session("default", size=len(BIG))
            session_id = made.upload_id
            await it.node.patch(session_id, 0, BIG[: MIN_PART_SIZE + 1])
        faults.plan = [Trouble.FAIL_BEFORE] * 3
        row = await it.broker.cancel_session(session_id)
        assert row.state is SessionState.ABORTED
        assert row.cleanup_reason is not None
        assert row.cleanup_reason.startswith("StoreUnavailable")
        assert [left.id for left in await store.list_cleanup()] == [session_id]


async def test_a_cancelled_presigned_session_loses_its_object(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    session_id = await delivered(it, objects)
    assert (await it.broker.cancel_session(session_id)).state is SessionState.ABORTED
    assert objects.objects == {}
    for call in (it.broker.sign_url, it.broker.verify_completion):
        with pytest.raises(InvalidTransition):
            await call(session_id)


async def test_a_completed_session_is_not_cancelled(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    session_id = await delivered(it, objects)
    await it.broker.verify_completion(session_id)
    with pytest.raises(InvalidTransition):
        await it.broker.cancel_session(session_id)
    assert len(objects.objects) == 1


async def test_sweeps_complete_what_nobody_came_back_for(
    it: BrokerNode, objects: DirectMemoryStore
) -> None:
    delivered_id = await delivered(it, objects)
    silent = await it.broker.initiate_session("default")
    row = await it.broker.finish(await it.broker.find(delivered_id))
    assert row.state is SessionState.COMPLETED
    assert await it.broker.finish(silent) == silent


async def test_what_a_profile_does_not_take_is_refused(
    store: SqlStore, objects: DirectMemoryStore, tmp_path: Path
) -> None:
    profiles = [
        Profile(
            name="pictures",
            bucket="pictures",
            prefix="in/",
            key_template="{prefix}{date}/{id}{extension}",
            max_size=100,
            content_types=("image/*",),
            expires_in=timedelta(minutes=5),
            strategies=frozenset({Strategy.PRESIGNED_PUT}),
        )
    ]
    async with broker_node(store, objects, tmp_path, profiles=profiles) as it:
        create = it.broker.initiate_session
        with pytest.raises(UnknownProfile):
            await create("nope")
        with pytest.raises(ContentTypeRefused):
            await create("pictures", content_type="text/html")
        with pytest.raises(ContentTypeRefused):
            await create("pictures")
        with pytest.raises(SizeRefused):
            await create("pictures", content_type="image/png", size=101)
        with pytest.raises(InvalidArgument):
            await create("pictures", content_type="image/png", size=-1)
        with pytest.raises(InvalidArgument):
            await create("pictures", content_type="nonsense")
        with pytest.raises(UploadUnsupported):
            await it.broker.initiate_multipart_session("pictures", content_type="image/png")
        assert await store.list_sessions() == []
        made = await create("pictures", content_type="image/PNG; a=b", filename="Cat.JPG")
        assert made.bucket == "pictures" and made.expires_at is not None
        assert made.expires_at - made.created_at == timedelta(minutes=5)
        assert made.object_key.startswith("in/20") and made.object_key.endswith(".jpg")


def test_what_an_adapter_lacks_is_told_at_start() -> None:
    profile = Profile(name="default", bucket="b")
    with pytest.raises(UploadUnsupported, match="multipart_upload"):
        Profiles([profile], frozenset(Capability) - {Capability.MULTIPART_UPLOAD})
    some = Profile(name="puts", bucket="b", strategies=frozenset({Strategy.PRESIGNED_PUT}))
    puts = Profiles([some], {Capability.PRESIGNED_PUT, Capability.HEAD})
    with pytest.raises(UploadUnsupported):
        puts.get("puts", Strategy.RESUMABLE)


@pytest.mark.parametrize("template", ["{prefix}", "{id}{x}", "{id.__class__}", "{id[0]}", "{}"])
def test_key_templates_that_cannot_work_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="key_template"):
        Profile(name="p", bucket="b", key_template=template)


async def test_unknown_sessions_are_not_found(it: BrokerNode) -> None:
    for call in (
        it.broker.sign_url,
        it.broker.verify_completion,
        it.broker.resumable_session_status,
        it.broker.cancel_resumable_session,
        it.broker.cancel_session,
    ):
        with pytest.raises(SessionNotFound):
            await call("nobody")
