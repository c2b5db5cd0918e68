"""Events: after the commit, at most once, and nothing in them that opens anything."""

import zlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.direct import BrokerNode, DirectMemoryStore, broker_node, upload_parts
from tests.support.faults import Faults, FaultySessions, Trouble
from tests.support.state import Database
from tusd_py.telemetry.events import Event, Telemetry, UploadStart, UploadStop
from tusd_storage.errors import StateUnavailable
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.sql import SqlStore

START = UploadStart(profile="default", strategy="resumable", protocol="tus", size=1)


@pytest.fixture
async def store(sqlite_database: Database) -> AsyncIterator[SqlStore]:
    async with sqlite_database.open() as opened:
        yield opened


def test_everybody_is_told_until_they_leave() -> None:
    telemetry, first, second = Telemetry(), [], []
    leave = telemetry.subscribe(first.append)
    telemetry.subscribe(second.append)
    telemetry.emit(START)
    leave()
    leave()
    telemetry.emit(START)
    assert (first, second) == ([START], [START, START])


def test_who_cannot_count_stops_nobody() -> None:
    telemetry = Telemetry()
    seen: list[Event] = []

    def broken(_: Event) -> None:
        raise RuntimeError("no disk for the metrics")

    telemetry.subscribe(broken)
    telemetry.subscribe(seen.append)
    telemetry.emit(START)
    assert seen == [START]


def values_of(event: Event) -> list[str]:
    return [str(value) for value in asdict(event).values()]


async def every_way(it: BrokerNode, objects: DirectMemoryStore) -> list[str]:
    """Sessions of each strategy to their ends; what must not be told of them."""
    data = b"z" * (MIN_PART_SIZE + 1)
    one = await it.broker.initiate_session("default", filename="secret.txt", size=5)
    signed = await it.broker.sign_url(one.id)
    objects.deliver(signed.presigned.url, b"12345", signed.presigned.headers)
    await it.broker.verify_completion(one.id)
    many = await it.broker.initiate_multipart_session("default")
    names = await upload_parts(it.broker, objects, many.session.id, data)
    await it.broker.complete_multipart_upload(many.session.id, names)
    tus = await it.broker.initiate_resumable_session("default", size=5)
    await it.node.patch(tus.upload_id, 0, b"123")
    await it.broker.resumable_session_status(tus.upload_id)
    await it.broker.cancel_resumable_session(tus.upload_id)
    secrets = [signed.presigned.url, many.upload_id, tus.session_uri, "secret.txt"]
    for session in (one, many.session, tus.session):
        secrets += [session.id, session.object_key, session.token]
    return secrets


async def test_events_hold_nothing_that_opens_anything(store: SqlStore, tmp_path: Path) -> None:
    objects = DirectMemoryStore()
    async with broker_node(store, objects, tmp_path) as it:
        secrets = await every_way(it, objects)
        assert {event.name for event in it.events} == {
            "upload.start",
            "upload.stop",
            "upload.resumable.start",
            "upload.resumable.patch",
            "upload.resumable.status",
            "upload.resumable.cancel",
            "session.ended",
        }
        told = " ".join(text for event in it.events for text in values_of(event))
        assert [secret for secret in secrets if secret in told] == []


async def test_the_end_of_an_upload_tells_its_crc32(store: SqlStore, tmp_path: Path) -> None:
    async with broker_node(store, DirectMemoryStore(), tmp_path) as it:
        tus = await it.broker.initiate_resumable_session("default", size=5)
        await it.node.patch(tus.upload_id, 0, b"12345")
        (stop,) = [event for event in it.events if isinstance(event, UploadStop)]
        assert stop.crc32 == zlib.crc32(b"12345")


@pytest.mark.parametrize("trouble", [Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER])
async def test_a_commit_nobody_answered_for_is_not_told(
    store: SqlStore, tmp_path: Path, trouble: Trouble
) -> None:
    faults = Faults()
    objects = DirectMemoryStore()
    faulty: Any = FaultySessions(store, faults)
    async with broker_node(faulty, objects, tmp_path, bare=store) as it:
        session = await it.broker.initiate_session("default", size=5)
        signed = await it.broker.sign_url(session.id)
        objects.deliver(signed.presigned.url, b"12345", signed.presigned.headers)
        faults.plan = [Trouble.NONE, Trouble.NONE, trouble]  # get, acquire, complete
        with pytest.raises(StateUnavailable):
            await it.broker.verify_completion(session.id)
        assert it.told() == ["upload.start"]
        faults.plan = []
        await it.broker.verify_completion(session.id)
        expected = ["upload.stop"] if trouble is Trouble.FAIL_BEFORE else []
        assert it.told() == ["upload.start", *expected]
