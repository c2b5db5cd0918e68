"""How many requests to the store each operation costs: promised, so counted."""

import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.harness import ScriptedBody, create_request, patch_request, pieces_of
from tusd_py.services import Services
from tusd_py.settings.sources import load
from tusd_storage.partplan import MIB


class Counted:
    """Real services on a real store, and the requests they sent to it."""

    def __init__(self, services: Services, counts: "Counter[str]") -> None:
        self.services = services
        self.engine = services.engine
        self.counts = counts

    async def upload(self, data: bytes, chunk: int) -> str:
        session = await self.engine.creator.create(
            create_request(len(data)), ScriptedBody([]), owner=None
        )
        for offset in range(0, len(data), chunk):
            piece = data[offset : offset + chunk]
            await self.patch(session.id, offset, piece)
        return session.id

    async def patch(self, session_id: str, offset: int, piece: bytes) -> None:
        body = ScriptedBody(pieces_of(piece))
        await self.engine.patch(session_id, patch_request(offset, len(piece)), body)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@pytest.fixture
async def counted(
    seaweed: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Counted]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    settings = load(
        {
            "data_dir": str(tmp_path),
            "s3_endpoint": seaweed.endpoint,
            "s3_bucket": seaweed.bucket,
            "s3_region": "us-east-1",
            "s3_prefix": seaweed.prefix(),
            "reap": "false",
        },
        environ={},
    ).settings
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def observe(operation: str, outcome: str, seconds: float) -> None:
        with lock:
            counts[operation] += 1

    services = Services(settings, observe_s3=observe)
    await services.start()
    yield Counted(services, counts)
    await services.stop()


async def test_creating_asks_the_store_nothing(counted: Counted) -> None:
    await counted.engine.creator.create(create_request(100 * MIB), ScriptedBody([]), owner=None)
    assert counted.total == 0


async def test_a_small_upload_is_one_request(counted: Counted) -> None:
    await counted.upload(os.urandom(100 * 1024), 1 * MIB)
    assert counted.counts == {"PutObject": 1}


async def test_a_small_upload_in_many_patches_is_one_request(counted: Counted) -> None:
    await counted.upload(os.urandom(100 * 1024), 10 * 1024)
    assert counted.counts == {"PutObject": 1}


@pytest.mark.parametrize("chunk", [8 * MIB, 64 * MIB, 256 * 1024])
async def test_a_large_upload_is_parts_and_two(counted: Counted, chunk: int) -> None:
    await counted.upload(os.urandom(32 * MIB), chunk)
    assert counted.counts == {
        "CreateMultipartUpload": 1,
        "UploadPart": 7,
        "CompleteMultipartUpload": 1,
    }


async def test_head_asks_the_store_nothing(counted: Counted) -> None:
    session = await counted.engine.creator.create(
        create_request(6 * MIB), ScriptedBody([]), owner=None
    )
    await counted.patch(session.id, 0, os.urandom(1000))
    for _ in range(3):
        found = await counted.engine.status(await counted.engine.find(session.id))
        assert found.offset == 1000
    assert counted.total == 0


async def test_terminating_an_unfinished_upload_is_at_most_one(counted: Counted) -> None:
    session = await counted.engine.creator.create(
        create_request(12 * MIB), ScriptedBody([]), owner=None
    )
    await counted.patch(session.id, 0, os.urandom(6 * MIB))
    before = counted.total
    await counted.engine.terminate(session.id)
    assert counted.total - before == 1
    assert counted.counts["AbortMultipartUpload"] == 1
