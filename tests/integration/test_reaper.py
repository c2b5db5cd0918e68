"""The sweeps on SeaweedFS and Swift, SQLite and PostgreSQL: nothing is left, nothing is lost."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.reaping import GRACE, IDLE, RETENTION, Clock, ReapedNode, counters
from tests.support.state import Database
from tests.support.tus import Bucket
from tusd_reaper.report import Sweep
from tusd_storage.partplan import MIB
from tusd_storage.records import Body, ObjectSpec, SessionState, UploadSession
from tusd_storage.s3 import S3Config, S3Store
from tusd_storage.tail import tail_path

SECOND = timedelta(seconds=1)
DATA = os.urandom(12 * MIB)


class Place:
    """A store, a database and two nodes."""

    def __init__(
        self, objects: S3Store, engine: Engine, nodes: list[ReapedNode], clock: Clock, folder: Path
    ) -> None:
        self.objects = objects
        self.engine = engine
        self.a, self.b = nodes
        self.clock = clock
        self.folder = folder
        self.bucket = Bucket(engine, self.a.config.prefix)

    def tails(self) -> list[Path]:
        return sorted(self.folder.glob("*/tus/*"))

    async def row(self, session: UploadSession) -> UploadSession:
        return await self.a.engine.find(session.id)

    async def sweep(self, node: ReapedNode, *only: Sweep) -> dict[str, dict[str, int]]:
        report = await node.reaper.run(only or tuple(Sweep), apply=True)
        assert report.failed == 0, report
        return counters(report)

    def spec(self, key: str) -> ObjectSpec:
        return ObjectSpec(bucket=self.engine.bucket, key=key, token="t")

    async def orphan(self, key: str) -> str:
        """A multipart upload with a part that nobody recorded."""
        upload_id = await self.objects.create_multipart(self.spec(key))
        body = Body(segments=(b"x",), size=1, crc32=0x8CDC1683)
        await self.objects.upload_part(self.engine.bucket, key, upload_id, 1, body)
        return upload_id


@pytest.fixture(params=["seaweed", "swift"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Engine)
    return found


@pytest.fixture
async def place(database: Database, engine: Engine, tmp_path: Path) -> AsyncIterator[Place]:
    objects = S3Store(S3Config(endpoint=engine.endpoint), session=engine.store_session())
    clock, prefix = Clock(), engine.prefix()
    async with database.open() as sessions:
        nodes = [
            ReapedNode(
                sessions,
                objects,
                tmp_path / name,
                clock=clock,
                name=name,
                bucket=engine.bucket,
                prefix=prefix,
            )
            for name in ("a", "b")
        ]
        place = Place(objects, engine, nodes, clock, tmp_path)
        try:
            yield place
        finally:
            place.bucket.close()
            for node in nodes:
                await node.aclose()
            await objects.aclose()


async def test_an_abandoned_upload_leaves_nothing_anywhere(place: Place) -> None:
    abandoned = await place.a.create(len(DATA))
    await place.a.patch(abandoned, 0, DATA[: 11 * MIB])
    done = await place.b.create(len(DATA))
    await place.b.patch(done, 0, DATA)
    place.clock.forward(IDLE - timedelta(hours=1))
    live = await place.b.create(len(DATA))
    await place.b.patch(live, 0, DATA[: 6 * MIB])
    place.clock.forward(2 * GRACE)

    found = await place.sweep(place.b)
    assert found["expire"] == {"due": 1, "expired": 1}
    assert (await place.row(abandoned)).state is SessionState.EXPIRED
    keys = {place.bucket.key(f"/{live.id}").removeprefix(place.bucket.prefix)}
    assert set(place.bucket.multiparts()) == keys
    assert (await place.sweep(place.a))["tails"] == {"due": 1, "deleted": 1}
    assert place.tails() == [tail_path(live.id, root=place.folder / "b")]

    await place.b.patch(live, 6 * MIB, DATA[6 * MIB :])
    assert await place.b.content(live) == DATA
    place.clock.forward(RETENTION)
    for _ in range(2):
        await place.sweep(place.a)
        place.clock.forward(RETENTION)
    assert await place.a.sessions.get(abandoned.id) is None
    assert await place.b.content(done) == DATA
    assert await place.b.content(live) == DATA
    assert len(place.bucket.keys()) == 2
    assert place.bucket.multiparts() == []
    assert place.tails() == []


async def test_unknown_multiparts_go_and_others_stay(place: Place) -> None:
    prefix = place.a.config.prefix
    live = await place.a.create(len(DATA))
    await place.a.patch(live, 0, DATA[: 6 * MIB])
    row = await place.row(live)
    foreign_prefix = place.engine.prefix()
    foreign = await place.orphan(foreign_prefix + "theirs")
    for n in range(5):
        await place.orphan(f"{prefix}orphan-{n}")
    await place.orphan(row.object_key)
    assert await place.sweep(place.b, Sweep.MULTIPARTS) == {}
    place.clock.forward(GRACE + SECOND)
    found = await place.sweep(place.b, Sweep.MULTIPARTS)
    assert found == {"multiparts": {"due": 6, "aborted": 6}}
    assert [
        upload.upload_id
        async for upload in place.objects.list_multipart(place.engine.bucket, prefix)
    ] == [row.upload_id]
    theirs = place.objects.list_multipart(place.engine.bucket, foreign_prefix)
    assert [upload.upload_id async for upload in theirs] == [foreign]
    await place.a.patch(live, 6 * MIB, DATA[6 * MIB :])
    assert await place.a.content(live) == DATA
    await place.objects.abort_multipart(place.engine.bucket, foreign_prefix + "theirs", foreign)


async def test_objects_of_ended_sessions_go(place: Place) -> None:
    ended = await place.a.create(9)
    await place.a.patch(ended, 0, b"half")
    await place.a.engine.terminate(ended.id)
    row = await place.row(ended)
    spec = ObjectSpec(bucket=row.bucket, key=row.object_key, token=row.token)
    await place.objects.put(spec, Body(segments=(), size=0, crc32=0))
    await place.objects.put(
        place.spec(place.a.config.prefix + "other"), Body(segments=(), size=0, crc32=0)
    )
    place.clock.forward(GRACE + SECOND)
    assert await place.sweep(place.b, Sweep.OBJECTS) == {"objects": {"due": 1, "deleted": 1}}
    assert place.bucket.keys() == ["other"]
    assert await place.sweep(place.b, Sweep.OBJECTS) == {}


async def test_a_session_that_hangs_in_verifying_is_finished_by_anybody(place: Place) -> None:
    upload = await place.a.create(len(DATA))
    await place.a.patch(upload, 0, DATA[: 11 * MIB])

    async def never(*_: object, **__: object) -> str:
        raise RuntimeError("killed")

    real = place.objects.complete_multipart
    place.objects.complete_multipart = never  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await place.a.patch(upload, 11 * MIB, DATA[11 * MIB :])
    place.objects.complete_multipart = real  # type: ignore[method-assign]
    assert (await place.row(upload)).state is SessionState.VERIFYING
    assert await place.sweep(place.b, Sweep.STUCK) == {"stuck": {"due": 1, "finished": 1}}
    assert await place.b.content(upload) == DATA
