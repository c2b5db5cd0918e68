"""`promote_asset`: from what was recorded to `available` or `quarantined`, at least once."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.direct import BrokerNode, DirectMemoryStore, broker_node
from tests.support.faults import Faults, FaultyObjects, FaultySessions, Trouble
from tests.support.state import Database
from tusd_py.broker.profiles import Profile, Profiles
from tusd_py.broker.promotion import KIND, Promoter
from tusd_py.broker.sniffing import Sniffer
from tusd_py.broker.validation import (
    Candidate,
    Validator,
    ValidatorUnavailable,
    WebhookValidator,
)
from tusd_py.clock import utc_now
from tusd_py.hooks.signing import Signer
from tusd_reaper.worker import Worker
from tusd_storage.errors import Rejected, StateUnavailable, StoreUnavailable
from tusd_storage.ports.direct import Capability
from tusd_storage.records import Asset, AssetState, Job, JobState

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(9000)


class World:
    """One delivered and verified upload, and a promoter."""

    def __init__(self, it: BrokerNode, objects: DirectMemoryStore, sniffer: Sniffer) -> None:
        self.it = it
        self.objects = objects
        self.sniffer = sniffer
        self.profiles = [Profile(name="default", bucket="bucket")]

    async def job(
        self, data: bytes = PICTURE, content_type: str | None = "image/png", size: int | None = None
    ) -> Job:
        session = await self.it.broker.initiate_session(
            "default", filename="a.png", content_type=content_type, size=size
        )
        signed = await self.it.broker.sign_url(session.id)
        self.objects.deliver(signed.presigned.url, data, signed.presigned.headers)
        await self.it.broker.verify_completion(session.id)
        (job,) = await self.it.sessions.jobs()
        return job

    def promoter(
        self,
        validator: Validator | None = None,
        *,
        sessions: Any = None,
        objects: Any = None,
    ) -> Promoter:
        return Promoter(
            sessions=sessions or self.it.sessions,
            assets=sessions or self.it.sessions,
            objects=objects or self.objects,
            profiles=Profiles(self.profiles, frozenset(Capability)),
            sniffer=self.sniffer,
            validator=validator,
            now=utc_now,
        )

    async def asset(self, job: Job) -> Asset:
        found: Asset = await self.it.sessions.asset(job.subject)
        return found

    async def promoted(self, job: Job, validator: Validator | None = None) -> tuple[str, Any]:
        await self.promoter(validator).promote(job)
        asset = await self.asset(job)
        return asset.state, asset.reason


@pytest.fixture
async def world(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[World]:
    objects, sniffer = DirectMemoryStore(), Sniffer()
    async with sqlite_database.open() as store, broker_node(store, objects, tmp_path) as it:
        yield World(it, objects, sniffer)
    sniffer.close()


async def test_a_good_asset_becomes_available(world: World) -> None:
    job = await world.job()
    assert (job.kind, job.payload["session_id"] is not None) == (KIND, True)
    assert await world.promoted(job) == (AssetState.AVAILABLE, None)
    assert await world.promoted(job) == (AssetState.AVAILABLE, None)


async def test_only_the_first_bytes_are_read(world: World) -> None:
    job = await world.job(PICTURE + bytes(3_000_000))
    await world.promoter().promote(job)
    assert world.objects.calls["read"] == 1


async def test_an_empty_file_becomes_available(world: World) -> None:
    assert await world.promoted(await world.job(b"", None)) == (AssetState.AVAILABLE, None)


async def test_bytes_that_are_not_what_was_promised_are_quarantined(world: World) -> None:
    job = await world.job(b"<html><script>alert(1)</script></html>", "image/png")
    wanted = (AssetState.QUARANTINED, "content_type_mismatch")
    assert await world.promoted(job) == wanted
    assert await world.promoted(job) == wanted


async def test_a_profile_takes_no_other_type_whatever_was_declared(world: World) -> None:
    job = await world.job(PICTURE, None)
    world.profiles = [Profile(name="default", bucket="bucket", content_types=("video/*",))]
    assert await world.promoted(job) == (AssetState.QUARANTINED, "content_type_refused")


async def test_an_object_that_was_replaced_is_quarantined(world: World) -> None:
    job = await world.job()
    ((where, stored),) = world.objects.objects.items()
    world.objects.objects[where] = replace(stored, data=PICTURE[::-1], etag='"new"')
    assert await world.promoted(job) == (AssetState.QUARANTINED, "object_changed")


async def test_an_object_of_another_size_is_quarantined(world: World) -> None:
    job = await world.job()
    ((where, stored),) = world.objects.objects.items()
    world.objects.objects[where] = replace(stored, data=b"short")
    assert await world.promoted(job) == (AssetState.QUARANTINED, "size_mismatch")


async def test_an_object_that_is_gone_is_quarantined(world: World) -> None:
    job = await world.job()
    world.objects.objects.clear()
    assert await world.promoted(job) == (AssetState.QUARANTINED, "object_missing")


async def test_the_applications_word_counts(world: World) -> None:
    seen: list[Candidate] = []

    async def validator(candidate: Candidate) -> str | None:
        seen.append(candidate)
        assert await candidate.head(4) == PICTURE[:4]
        return "no cats allowed"

    job = await world.job()
    assert await world.promoted(job, validator) == (AssetState.QUARANTINED, "no cats allowed")
    assert (seen[0].sniffed_type, seen[0].asset.id) == ("image/png", job.subject)


async def test_a_validator_that_fails_is_asked_again(world: World) -> None:
    answers: list[Exception | None] = [OSError("down"), None]

    async def validator(_: Candidate) -> str | None:
        if (answer := answers.pop(0)) is not None:
            raise answer
        return None

    job = await world.job()
    with pytest.raises(OSError, match="down"):
        await world.promoted(job, validator)
    assert (await world.asset(job)).state is AssetState.VALIDATING
    assert await world.promoted(job, validator) == (AssetState.AVAILABLE, None)


@pytest.mark.parametrize("skip", range(5))
@pytest.mark.parametrize("trouble", [Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER])
async def test_trouble_anywhere_leaves_something_the_next_try_ends(
    world: World, trouble: Trouble, skip: int
) -> None:
    job = await world.job()
    faults = Faults()
    faults.plan = [Trouble.NONE] * skip + [trouble]
    promoter = world.promoter(
        sessions=FaultySessions(world.it.sessions, faults),
        objects=FaultyObjects(world.objects, faults),
    )
    with pytest.raises((StateUnavailable, StoreUnavailable)):
        await promoter.promote(job)
    assert await world.promoted(job) == (AssetState.AVAILABLE, None)


async def forget(sessions: Any, session_id: str) -> None:
    """The upload is deleted, and a pass of the reaper later its rows are gone."""
    held = await sessions.acquire(
        session_id, holder="h", now=utc_now(), until=utc_now() + timedelta(minutes=1)
    )
    await sessions.delete(session_id, held.lease_epoch, cleanup_reason=None, now=utc_now())
    await sessions.release(session_id, held.lease_epoch)
    assert await sessions.swept(session_id, now=utc_now())
    assert await sessions.forget(session_id, (await sessions.get(session_id)).lease_epoch)


async def test_a_job_whose_upload_was_forgotten_is_done(world: World) -> None:
    """The upload was deleted, and its rows, before a worker came to the job."""
    job = await world.job()
    sessions = world.it.sessions
    await forget(sessions, str(job.payload["session_id"]))
    assert await world.asset(job) is None
    worker = Worker(sessions, {KIND: world.promoter().promote}, name="w", now=utc_now)
    assert await worker.run_due() == 1
    (after,) = await sessions.jobs()
    assert (after.state, after.error) == (JobState.DONE, None)


async def test_an_asset_that_goes_while_it_is_looked_at(world: World) -> None:
    async def validator(candidate: Candidate) -> None:
        await forget(world.it.sessions, str(job.payload["session_id"]))

    job = await world.job()
    with pytest.raises(Rejected):
        await world.promoted(job, validator)
    await world.promoter().promote(job)


async def test_the_worker_runs_it(world: World) -> None:
    job = await world.job()
    handlers = {KIND: world.promoter().promote}
    worker = Worker(world.it.sessions, handlers, name="w", now=utc_now)
    assert await worker.run_due() == 1
    assert (await world.asset(job)).state is AssetState.AVAILABLE
    (after,) = await world.it.sessions.jobs()
    assert after.state is JobState.DONE


@asynccontextmanager
async def hook(
    answer: Callable[[httpx.Request], httpx.Response],
) -> AsyncIterator[WebhookValidator]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        yield WebhookValidator(
            "https://app.example.com/check", client, Signer(["whsec_" + "QUJD" * 8]), utc_now
        )


async def test_a_webhook_is_told_what_it_needs_and_no_secret(world: World) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"verdict": "quarantined", "reason": "virus"})

    job = await world.job()
    async with hook(answer) as validator:
        assert await world.promoted(job, validator) == (AssetState.QUARANTINED, "virus")
    body = asked[0].content.decode()
    assert '"crc32":' in body
    headers = asked[0].headers
    assert headers["webhook-id"] == f"val_{job.subject}"
    assert headers["webhook-signature"].startswith("v1,")
    assert job.subject in body and '"sniffed_type":"image/png"' in body.replace('": ', '":')
    session = await world.it.sessions.get(str(job.payload["session_id"]))
    assert session.token not in body and session.id not in body
    assert json.loads(body)["asset"]["etag"] == session.etag is not None


@pytest.mark.parametrize(
    "answer", [httpx.Response(204), httpx.Response(200, json={"verdict": "available"})]
)
async def test_a_webhook_may_find_it_good(world: World, answer: httpx.Response) -> None:
    job = await world.job()
    async with hook(lambda _: answer) as validator:
        assert await world.promoted(job, validator) == (AssetState.AVAILABLE, None)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(302, headers={"Location": "http://169.254.169.254/"}),
        httpx.Response(200, text="ok"),
        httpx.Response(200, json=["available"]),
        httpx.Response(200, json={"verdict": "perhaps"}),
    ],
)
async def test_a_webhook_that_says_nothing_is_asked_again(
    world: World, answer: httpx.Response
) -> None:
    job = await world.job()
    async with hook(lambda _: answer) as validator:
        with pytest.raises(ValidatorUnavailable):
            await world.promoted(job, validator)
    assert (await world.asset(job)).state is AssetState.VALIDATING


async def tus_job(world: World, data: bytes, metadata: str) -> Job:
    """The job of a finished tus upload."""
    upload = await world.it.node.create(len(data), upload_metadata=metadata)
    await world.it.node.patch(upload, 0, data)
    (job,) = await world.it.sessions.jobs()
    found: Job = job
    return found


async def test_a_tus_upload_that_promised_nothing_costs_the_store_nothing(world: World) -> None:
    job = await tus_job(world, PICTURE, "")
    before = world.objects.calls.copy()
    assert await world.promoted(job) == (AssetState.AVAILABLE, None)
    assert world.objects.calls == before


async def test_a_tus_upload_that_promised_a_type_is_looked_at_once(world: World) -> None:
    job = await tus_job(world, b"<html></html>", "filetype aW1hZ2UvcG5n")  # image/png
    before = world.objects.calls.copy()
    assert await world.promoted(job) == (AssetState.QUARANTINED, "content_type_mismatch")
    assert world.objects.calls - before == {"read": 1}


async def test_a_tus_upload_is_looked_at_where_types_are_limited(world: World) -> None:
    world.profiles = [Profile(name="default", bucket="bucket", content_types=("image/*",))]
    job = await tus_job(world, b"<html></html>", "")
    assert await world.promoted(job) == (AssetState.QUARANTINED, "content_type_refused")
