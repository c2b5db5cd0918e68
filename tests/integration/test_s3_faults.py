"""The S3 adapter in front of a real engine that fails on request.

How often it tries, what it raises, how long it takes, and that the object is right in the end.

Time between tries is a test's own, so nothing here waits for a back-off.
"""

import asyncio
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.aws import session_with
from tests.support.engines import Engine
from tests.support.fake_s3 import (
    Answer,
    CloseAfter,
    Early,
    FakeS3,
    Fault,
    Hang,
    Reset,
    Slow,
    Truncate,
    fake_s3,
)
from tests.support.tls import make_certificates
from tusd_storage.errors import (
    AccessDenied,
    ChecksumRejected,
    InvalidPart,
    NoSuchUpload,
    StorageError,
    StoreRefused,
    StoreUnavailable,
)
from tusd_storage.records import Body, FileRange, ObjectSpec, Part
from tusd_storage.s3 import S3Config, S3Store
from tusd_storage.s3.client import new_session
from tusd_storage.s3.config import Checksum

MIB = 1024 * 1024
SECRET = "wJalrXUtnFEMI-secret"


class Time:
    """A clock that moves only when somebody sleeps, and dice that always roll the longest wait."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        await self.on_sleep()

    @staticmethod
    def uniform(_low: float, high: float) -> float:
        return high


class Bench:
    """A store, the faults in front of it, and what was observed."""

    def __init__(self, fake: FakeS3, engine: Engine | None, config: S3Config) -> None:
        self.fake = fake
        self.time = Time()
        self.observed: Counter[tuple[str, str]] = Counter()
        self.bucket = engine.bucket if engine else "bucket"
        self.prefix = Engine.prefix()
        self.store = S3Store(
            replace(config, endpoint=config.endpoint or fake.endpoint),
            session=engine.store_session() if engine else session_with("key", SECRET),
            observe=self._observe,
            clock=self.time.clock,
            sleep=self.time.sleep,
            uniform=self.time.uniform,
        )

    def _observe(self, operation: str, outcome: str, _seconds: float) -> None:
        self.observed[operation, outcome] += 1

    def spec(self, name: str = "o") -> ObjectSpec:
        return ObjectSpec(bucket=self.bucket, key=self.prefix + name, token="the-token")

    async def content(self, spec: ObjectSpec) -> bytes:
        return b"".join([chunk async for chunk in self.store.read(spec.bucket, spec.key)])

    async def upload_part(self, spec: ObjectSpec, upload_id: str, data: bytes) -> Part:
        return await self.store.upload_part(spec.bucket, spec.key, upload_id, 1, body_of(data))

    async def copy_part(
        self, spec: ObjectSpec, upload_id: str, source: ObjectSpec, number: int = 1
    ) -> Part:
        """Of an object that is `content`."""
        return await self.store.copy_part(
            spec.bucket,
            spec.key,
            upload_id,
            number,
            source_key=source.key,
            offset=0,
            size=7,
            crc32=zlib.crc32(b"content"),
        )

    async def ready_to_complete(self) -> tuple[ObjectSpec, str, list[Part]]:
        spec = self.spec()
        upload_id = await self.store.create_multipart(spec)
        return spec, upload_id, [await self.upload_part(spec, upload_id, b"content")]


CONFIG = S3Config(
    region="us-east-1",
    connect_timeout_s=2.0,
    read_timeout_s=0.5,
    assembly_timeout_s=0.5,
    deadline_s=30.0,
)
PATIENT = replace(CONFIG, read_timeout_s=20.0)
"""Where the engine's own speed must not matter."""


@asynccontextmanager
async def bench_of(
    fake: FakeS3, engine: Engine | None, config: S3Config = PATIENT
) -> AsyncIterator[Bench]:
    """A bench, closed in the end."""
    bench = Bench(fake, engine, config)
    try:
        yield bench
    finally:
        await bench.store.aclose()


@pytest.fixture
def fake(seaweed: Engine) -> Iterator[FakeS3]:
    """Faults in front of a real engine."""
    with fake_s3(seaweed.endpoint) as running:
        yield running


@pytest.fixture
async def bench(fake: FakeS3, seaweed: Engine) -> AsyncIterator[Bench]:
    """A store that waits long for answers."""
    async with bench_of(fake, seaweed) as ready:
        yield ready


@pytest.fixture
async def hasty(fake: FakeS3, seaweed: Engine) -> AsyncIterator[Bench]:
    """A store that waits half a second for answers."""
    async with bench_of(fake, seaweed, CONFIG) as ready:
        yield ready


def body_of(data: bytes) -> Body:
    return Body(segments=(data,), size=len(data), crc32=zlib.crc32(data))


# Bodies


@pytest.mark.parametrize(
    "faults",
    [
        [Answer(500, "InternalError")],
        [Answer(503, "SlowDown"), Answer(429, "TooManyRequests"), Answer(502)],
        [Answer(500, "InternalError", executed=True)],
        [Answer(400, "RequestTimeout"), Answer(400, "IncompleteBody")],
        [Early(503, "SlowDown")],
        [Reset(after=1 * MIB)],
        [Reset(executed=True)],
        [Answer(400, "BadDigest")],
    ],
    ids=str,
)
async def test_bodies_are_sent_until_they_arrive(bench: Bench, faults: list[Fault]) -> None:
    data, spec = os.urandom(5 * MIB), bench.spec()
    upload_id = await bench.store.create_multipart(spec)
    bench.fake.fail("UploadPart", *faults)
    part = await bench.upload_part(spec, upload_id, data)
    assert bench.fake.seen["UploadPart"] == len(faults) + 1
    assert bench.time.sleeps == [0.1, 0.2, 0.4][: len(faults)]
    await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, [part])
    assert await bench.content(spec) == data
    bench.fake.fail("PutObject", *faults)
    await bench.store.put(spec, body_of(b"instead"))
    assert await bench.content(spec) == b"instead"


async def test_an_object_is_not_sent_again_by_who_lost_the_right_to_it(bench: Bench) -> None:
    """By then another may have written it."""

    class Lost(Exception):
        pass

    def fence() -> None:
        if bench.time.sleeps:
            raise Lost

    spec = bench.spec()
    bench.fake.fail("PutObject", Answer(503, "SlowDown"), Answer(503, "SlowDown"))
    with pytest.raises(Lost):
        await bench.store.put(spec, body_of(b"late"), fence=fence)
    assert bench.fake.seen["PutObject"] == 1
    await bench.store.put(spec, body_of(b"newer"))
    assert await bench.content(spec) == b"newer"


@pytest.mark.parametrize("executed", [False, True])
async def test_a_silent_store_is_left_and_asked_again(hasty: Bench, executed: bool) -> None:
    spec = hasty.spec()
    hasty.fake.fail("PutObject", Hang(executed=executed))
    await hasty.store.put(spec, body_of(b"content"))
    assert hasty.observed["PutObject", "unavailable"] >= 1
    assert await hasty.content(spec) == b"content"


async def test_a_store_may_be_long_silent_over_a_copy_and_a_completion(
    fake: FakeS3, seaweed: Engine
) -> None:
    """Each copy that took longer than the time-out was begun again, for ever."""
    late = Slow(3 * CONFIG.read_timeout_s)
    async with bench_of(fake, seaweed, replace(CONFIG, assembly_timeout_s=20.0)) as bench:
        spec, source = bench.spec(), bench.spec("source")
        await bench.store.put(source, body_of(b"content"))
        upload_id = await bench.store.create_multipart(spec)
        fake.fail("UploadPartCopy", late)
        fake.fail("CompleteMultipartUpload", late)
        part = await bench.copy_part(spec, upload_id, source)
        await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, [part])
        assert fake.seen["UploadPartCopy"] == fake.seen["CompleteMultipartUpload"] == 1
        assert await bench.content(spec) == b"content"


async def test_copies_that_hang_stop_no_other_call(fake: FakeS3, seaweed: Engine) -> None:
    async with bench_of(fake, seaweed) as bench:
        spec, source = bench.spec(), bench.spec("source")
        await bench.store.put(source, body_of(b"content"))
        upload_id = await bench.store.create_multipart(spec)
        part = await bench.upload_part(spec, upload_id, b"content")
        fake.fail("UploadPartCopy", *[Hang()] * 20)
        copies = [
            asyncio.create_task(bench.copy_part(spec, upload_id, source, number))
            for number in range(2, 22)
        ]
        await asyncio.to_thread(fake.wait_for, "UploadPartCopy", 8)
        await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, [part])
        assert await bench.store.head(spec.bucket, spec.key) is not None
        for copy in copies:
            copy.cancel()
        await asyncio.wait(copies)
        fake.close()


async def test_a_closed_pooled_connection_costs_no_wait(bench: Bench) -> None:
    spec = bench.spec()
    bench.fake.fail("PutObject", None, Reset(), CloseAfter())
    for data in (b"first", b"second", b"third"):
        await bench.store.put(spec, body_of(data))
        assert await bench.content(spec) == data
    assert bench.observed["PutObject", "stale"] >= 1
    assert bench.observed["PutObject", "ok"] == 3
    assert bench.time.sleeps == []


async def test_connections_are_used_again(bench: Bench) -> None:
    for n in range(10):
        await bench.store.put(bench.spec(), body_of(b"x" * n))
    assert bench.fake.connections == 1


async def test_the_deadline_ends_the_tries(bench: Bench) -> None:
    bench.fake.fail("PutObject", *[Answer(503, "SlowDown")] * 100)
    with pytest.raises(StoreUnavailable):
        await bench.store.put(bench.spec(), body_of(b"x"))
    assert 25 < bench.time.now <= 30
    assert bench.time.sleeps[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert max(bench.time.sleeps) == 5.0
    assert bench.observed["PutObject", "throttled"] == len(bench.time.sleeps) + 1


async def test_bits_that_stay_wrong_are_told(bench: Bench) -> None:
    bench.fake.fail("PutObject", *[Answer(400, "BadDigest")] * 2)
    with pytest.raises(ChecksumRejected):
        await bench.store.put(bench.spec(), body_of(b"x"))
    assert bench.fake.seen["PutObject"] == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(403, "AccessDenied"), AccessDenied),
        (Answer(403, "SignatureDoesNotMatch"), AccessDenied),
        (Answer(403), AccessDenied),
        (Answer(400, "ExpiredToken"), AccessDenied),
        (Answer(404, "NoSuchUpload"), NoSuchUpload),
        (Answer(404, "NoSuchBucket"), StoreRefused),
        (Answer(400, "EntityTooLarge"), StoreRefused),
        (Answer(301, "PermanentRedirect"), StoreRefused),
        (Answer(501, "NotImplemented"), StoreRefused),
        (Answer(200, body=b""), StoreRefused),
    ],
)
async def test_refusals_are_not_repeated(
    bench: Bench, answer: Answer, expected: type[StorageError]
) -> None:
    spec = bench.spec()
    upload_id = await bench.store.create_multipart(spec)
    bench.fake.fail("UploadPart", answer)
    with pytest.raises(expected) as caught:
        await bench.upload_part(spec, upload_id, b"x")
    assert type(caught.value) is expected
    assert bench.fake.seen["UploadPart"] == 1


# Completion


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Answer(200, "InternalError"), StoreUnavailable),
        (Answer(200, "SlowDown"), StoreUnavailable),
        (Answer(200, "InvalidPart"), InvalidPart),
        (Answer(200, "EntityTooSmall"), InvalidPart),
        (Answer(200, "NoSuchUpload"), NoSuchUpload),
        (Answer(200, body=b""), StoreUnavailable),
        (Answer(200, body=b"<html>a proxy</html>"), StoreUnavailable),
        (Answer(200, body=b"no xml at all"), StoreUnavailable),
        (Answer(500, "InternalError"), StoreUnavailable),
        (Answer(503, "ServiceUnavailable"), StoreUnavailable),
        (Answer(504), StoreUnavailable),
        (Reset(), StoreUnavailable),
        (Truncate(), StoreUnavailable),
        (Answer(400, "InvalidPartOrder"), InvalidPart),
    ],
    ids=str,
)
async def test_a_doubtful_completion_is_told_and_not_repeated(
    bench: Bench, fault: Fault, expected: type[StorageError]
) -> None:
    spec, upload_id, parts = await bench.ready_to_complete()
    bench.fake.fail("CompleteMultipartUpload", fault)
    with pytest.raises(expected):
        await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, parts)
    assert bench.fake.seen["CompleteMultipartUpload"] == 1


@pytest.mark.parametrize(
    "fault", [Hang(executed=True), Reset(executed=True), Answer(500, "InternalError", None, True)]
)
async def test_a_completion_that_only_seemed_to_fail_can_be_told_by_its_token(
    hasty: Bench, fault: Fault
) -> None:
    spec, upload_id, parts = await hasty.ready_to_complete()
    hasty.fake.fail("CompleteMultipartUpload", fault)
    with pytest.raises(StoreUnavailable):
        await hasty.store.complete_multipart(spec.bucket, spec.key, upload_id, parts)
    assert hasty.fake.seen["CompleteMultipartUpload"] == 1
    info = await hasty.store.head(spec.bucket, spec.key)
    assert info is not None
    assert (info.token, info.size) == ("the-token", 7)


async def test_a_throttled_completion_is_repeated(bench: Bench) -> None:
    spec, upload_id, parts = await bench.ready_to_complete()
    bench.fake.fail("CompleteMultipartUpload", Answer(503, "SlowDown"), Answer(503, "SlowDown"))
    await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, parts)
    assert bench.fake.seen["CompleteMultipartUpload"] == 3
    assert await bench.content(spec) == b"content"


async def test_an_error_after_white_space_is_an_error(bench: Bench) -> None:
    spec, upload_id, parts = await bench.ready_to_complete()
    error = b'<?xml version="1.0"?>\n\n   \n<Error><Code>InternalError</Code></Error>'
    bench.fake.fail("CompleteMultipartUpload", Answer(200, body=error))
    with pytest.raises(StoreUnavailable):
        await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, parts)


# Other calls


async def test_rare_calls_are_repeated(bench: Bench) -> None:
    once = (Answer(500, "InternalError"), Answer(503, "SlowDown"), Reset())
    for operation in (
        *("CreateMultipartUpload", "ListParts", "ListMultipartUploads", "HeadObject"),
        *("GetObject", "DeleteObject", "AbortMultipartUpload", "HeadBucket", "UploadPartCopy"),
    ):
        bench.fake.fail(operation, *once)
    spec, source = bench.spec(), bench.spec("source")
    await bench.store.probe(spec.bucket)
    await bench.store.put(source, body_of(b"content"))
    upload_id = await bench.store.create_multipart(spec)
    part = await bench.copy_part(spec, upload_id, source)
    assert len(await bench.store.list_parts(spec.bucket, spec.key, upload_id)) == 1
    assert [u async for u in bench.store.list_multipart(spec.bucket, bench.prefix)]
    await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, [part])
    assert (await bench.store.head(spec.bucket, spec.key)) is not None
    assert await bench.content(spec) == b"content"
    await bench.store.delete(spec.bucket, spec.key)
    other = await bench.store.create_multipart(spec)
    await bench.store.abort_multipart(spec.bucket, spec.key, other)
    assert bench.fake.seen["HeadObject"] == bench.fake.seen["GetObject"] == 4
    assert sum(bench.fake.seen.values()) == sum(bench.observed.values())


async def test_head_that_is_refused_is_no_missing_object(bench: Bench) -> None:
    bench.fake.fail("HeadObject", Answer(403, body=b""), Answer(400, body=b""))
    with pytest.raises(AccessDenied):
        await bench.store.head(bench.bucket, "k")
    with pytest.raises(StoreRefused):
        await bench.store.head(bench.bucket, "k")
    assert await bench.store.head(bench.bucket, "k") is None


async def test_a_body_that_ends_early_is_noticed(bench: Bench) -> None:
    data, spec = os.urandom(3 * MIB), bench.spec()
    await bench.store.put(spec, body_of(data))
    bench.fake.fail("GetObject", Truncate())
    received = b""
    with pytest.raises(StoreUnavailable):
        async for chunk in bench.store.read(spec.bucket, spec.key):
            received += chunk
    assert data.startswith(received)
    assert len(received) < len(data)


async def test_a_store_without_ranges_is_noticed(bench: Bench) -> None:
    bench.fake.fail("GetObject", Answer(200, body=b"everything"))
    with pytest.raises(StoreRefused) as caught:
        await anext(bench.store.read(bench.bucket, "k", offset=3, size=2))
    assert caught.value.code == "RangeIgnored"


# Cancellation and crowding


async def test_a_cancelled_part_is_out_of_flight_when_its_call_ends(
    bench: Bench, tmp_path: Path
) -> None:
    spec = bench.spec()
    upload_id = await bench.store.create_multipart(spec)
    bench.fake.fail("UploadPart", Hang())
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(bytes(6 * MIB))
        file.flush()
        segment = FileRange(fd=file.fileno(), offset=0, size=6 * MIB)
        body = Body(segments=(segment,), size=6 * MIB, crc32=0)
        call = asyncio.create_task(
            bench.store.upload_part(spec.bucket, spec.key, upload_id, 1, body)
        )
        await asyncio.get_running_loop().run_in_executor(None, bench.fake.wait_for, "UploadPart")
        call.cancel()
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await call
    assert bench.observed == Counter(
        {("CreateMultipartUpload", "ok"): 1, ("UploadPart", "aborted"): 1}
    )
    part = await bench.upload_part(spec, upload_id, b"another")
    await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, [part])
    assert await bench.content(spec) == b"another"


async def test_parts_that_hang_stop_neither_head_nor_their_cancellation(
    fake: FakeS3, seaweed: Engine
) -> None:
    async with bench_of(fake, seaweed, replace(PATIENT, max_connections=2)) as bench:
        spec = bench.spec()
        fake.fail("PutObject", Hang(), Hang())
        calls = [asyncio.create_task(bench.store.put(spec, body_of(b"x"))) for _ in range(3)]
        await asyncio.get_running_loop().run_in_executor(None, fake.wait_for, "PutObject", 2)
        assert await bench.store.head(spec.bucket, spec.key) is None
        assert fake.seen["PutObject"] == 2
        calls[0].cancel()
        await calls[2]
        assert await bench.content(spec) == b"x"
        calls[1].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [
            True,
            True,
            False,
        ]


async def test_closing_waits_for_calls_under_way(fake: FakeS3, seaweed: Engine) -> None:
    async with bench_of(fake, seaweed) as bench:
        spec = bench.spec()
        calls = [asyncio.create_task(bench.store.put(spec, body_of(bytes(MIB)))) for _ in range(4)]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, fake.wait_for, "PutObject", 4)
        await bench.store.aclose()
        await asyncio.gather(*calls)


async def test_a_closed_store_takes_nothing_new(fake: FakeS3, seaweed: Engine) -> None:
    async with bench_of(fake, seaweed) as bench:
        fake.fail("PutObject", Answer(500))
        bench.time.on_sleep = bench.store.aclose
        with pytest.raises(StoreRefused) as caught:
            await bench.store.put(bench.spec(), body_of(b"x"))
        assert caught.value.code == "Closed"
        with pytest.raises(StoreRefused):
            await bench.store.head(bench.bucket, "k")


# Reaching the store


async def test_nobody_there() -> None:
    with fake_s3() as gone:
        pass
    async with bench_of(gone, None) as bench:
        with pytest.raises(StoreUnavailable):
            await bench.store.put(bench.spec(), body_of(b"x"))
        with pytest.raises(StoreUnavailable):
            await bench.store.head(bench.bucket, "k")
        assert bench.time.now > 50


async def test_certificates_are_checked(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    with fake_s3(tls=(files.certificate, files.private_key)) as fake:
        ok = Answer(200, body=b"<ListPartsResult/>")
        async with bench_of(fake, None) as bench:
            for call in (
                bench.store.put(bench.spec(), body_of(b"x")),
                bench.store.list_parts("b", "k", "u"),
            ):
                with pytest.raises(StoreRefused) as caught:
                    await call
                assert caught.value.code == "CertificateUntrusted"
            assert bench.time.sleeps == []
        for verify in (str(files.ca), False):
            fake.fail("ListParts", ok)
            fake.fail("PutObject", Answer(403, "AccessDenied"))
            async with bench_of(fake, None, replace(PATIENT, verify=verify)) as bench:
                with pytest.raises(AccessDenied):
                    await bench.store.put(bench.spec(), body_of(b"x"))
                if verify:
                    assert await bench.store.list_parts("b", "k", "u") == []


async def test_the_bundle_of_the_environment_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_certificates(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(files.ca))
    with fake_s3(tls=(files.certificate, files.private_key)) as fake:
        fake.fail("PutObject", Answer(403, "AccessDenied"))
        async with bench_of(fake, None) as bench:
            with pytest.raises(AccessDenied):
                await bench.store.put(bench.spec(), body_of(b"x"))


async def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3Store(S3Config(endpoint="http://127.0.0.1:9"), session=new_session())
    with pytest.raises(AccessDenied):
        await store.put(ObjectSpec(bucket="b", key="k", token="t"), body_of(b"x"))
    with pytest.raises(AccessDenied):
        await store.head("b", "k")
    await store.aclose()


@pytest.mark.parametrize("checksum", ["crc32", "md5", "none"])
async def test_what_the_store_can_check(seaweed: Engine, fake: FakeS3, checksum: Checksum) -> None:
    config = replace(PATIENT, checksum=checksum)
    async with bench_of(fake, seaweed, config) as bench:
        data, spec = os.urandom(1000), bench.spec()
        upload_id = await bench.store.create_multipart(spec)
        part = await bench.upload_part(spec, upload_id, data)
        await bench.store.complete_multipart(spec.bucket, spec.key, upload_id, [part])
        assert await bench.content(spec) == data
        _, headers = fake.last["UploadPart"]
        sent = {name.lower() for name in headers}
        assert ("x-amz-checksum-crc32" in sent, "content-md5" in sent) == {
            "crc32": (True, False),
            "md5": (False, True),
            "none": (False, False),
        }[checksum]
        assert headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
        assert headers["Content-Length"] == "1000"
        assert not sent & {"expect", "transfer-encoding", "x-amz-acl", "x-amz-tagging"}


async def test_messages_give_nothing_away(fake: FakeS3) -> None:
    fake.fail("PutObject", Answer(403, "AccessDenied"), Answer(400, "Strange"))
    fake.fail("HeadObject", Answer(400, body=b""))
    fake.fail("ListParts", Answer(400, "Strange"), *[Reset()] * 50)
    async with bench_of(fake, None) as bench:
        texts = []
        for call in (
            bench.store.put(bench.spec(), body_of(b"x")),
            bench.store.put(bench.spec(), body_of(b"x")),
            bench.store.head(bench.bucket, bench.spec().key),
            bench.store.list_parts("bucket", bench.spec().key, "the-upload-id"),
            bench.store.list_parts("bucket", bench.spec().key, "the-upload-id"),
        ):
            with pytest.raises(StorageError) as caught:
                await call
            texts.append(str(caught.value))
        for secret in (fake.endpoint, "127.0.0.1", bench.spec().key, SECRET, "the-token"):
            assert not [text for text in texts if secret in text]


# Listings that cannot be believed


def uploads_page(*entries: tuple[str, str], marker: tuple[str, str] | None = None) -> Answer:
    """A page of ListMultipartUploads."""
    uploads = "".join(
        f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId>"
        "<Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>"
        for key, upload_id in entries
    )
    end = (
        "<IsTruncated>false</IsTruncated>"
        if marker is None
        else "<IsTruncated>true</IsTruncated>"
        f"<NextKeyMarker>{marker[0]}</NextKeyMarker>"
        f"<NextUploadIdMarker>{marker[1]}</NextUploadIdMarker>"
    )
    name = "ListMultipartUploadsResult"
    return Answer(200, body=f"<{name}>{uploads}{end}</{name}>".encode())


def parts_page(*entries: tuple[int, int, str], marker: int | None = None) -> Answer:
    """A page of ListParts: number, size and second of upload."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{size}</Size>"
        f"<ETag>&quot;{size}&quot;</ETag>"
        f"<LastModified>2026-01-02T03:04:{second}.000Z</LastModified></Part>"
        for number, size, second in entries
    )
    end = (
        "<IsTruncated>false</IsTruncated>"
        if marker is None
        else f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{marker}</NextPartNumberMarker>"
    )
    return Answer(200, body=f"<ListPartsResult>{parts}{end}</ListPartsResult>".encode())


@pytest.fixture
async def canned() -> AsyncIterator[Bench]:
    """A store with no engine behind it."""
    with fake_s3() as fake:
        async with bench_of(fake, None) as ready:
            yield ready


async def test_uploads_page_by_page(canned: Bench) -> None:
    canned.fake.fail(
        "ListMultipartUploads",
        uploads_page(("p/a", "1"), ("p/b", "2"), marker=("p/b", "2")),
        uploads_page(("p/b", "3"), ("other", "4"), marker=("p/b", "3")),
        uploads_page(("p/c", "5")),
    )
    listed = [(u.key, u.upload_id) async for u in canned.store.list_multipart("bucket", "p/")]
    assert listed == [("p/a", "1"), ("p/b", "2"), ("p/b", "3"), ("p/c", "5")]
    target, _ = canned.fake.last["ListMultipartUploads"]
    assert "key-marker=p%2Fb" in target
    assert "upload-id-marker=3" in target


async def test_a_listing_of_uploads_that_goes_in_circles_ends(canned: Bench) -> None:
    page = uploads_page(("p/a", "1"), marker=("p/a", "1"))
    canned.fake.fail("ListMultipartUploads", *[page] * 10)
    listed = [u.upload_id async for u in canned.store.list_multipart("bucket", "p/")]
    assert listed == ["1"]
    assert canned.fake.seen["ListMultipartUploads"] == 2


async def test_the_newest_copy_of_a_part_counts(canned: Bench) -> None:
    canned.fake.fail(
        "ListParts",
        parts_page((2, 20, "02"), (1, 12, "09"), (1, 11, "01"), marker=2),
        parts_page((3, 31, "05"), (3, 32, "05"), (2, 21, "03")),
    )
    listed = await canned.store.list_parts("bucket", "k", "u")
    assert [(part.number, part.size, part.etag) for part in listed] == [
        (1, 12, '"12"'),
        (2, 21, '"21"'),
        (3, 32, '"32"'),
    ]


async def test_a_listing_of_parts_that_goes_in_circles_ends(canned: Bench) -> None:
    canned.fake.fail("ListParts", *[parts_page((1, 10, "00"), marker=1)] * 10)
    assert [part.number for part in await canned.store.list_parts("bucket", "k", "u")] == [1]
    assert canned.fake.seen["ListParts"] == 2


@pytest.mark.parametrize(
    "entry",
    [
        "<PartNumber>one</PartNumber><Size>1</Size>",
        "<PartNumber>1</PartNumber>",
        "<PartNumber>1</PartNumber><Size></Size><ETag>x</ETag>",
        "<PartNumber>1</PartNumber><LastModified>yesterday</LastModified>",
        "<PartNumber>1</PartNumber><LastModified>111111111111111111</LastModified>",
    ],
)
async def test_a_listing_that_is_none_is_the_stores_fault(fake: FakeS3, entry: str) -> None:
    async with bench_of(fake, None, replace(PATIENT, deadline_s=0.1)) as bench:
        parts = f"<ListPartsResult><Part>{entry}</Part></ListPartsResult>".encode()
        uploads = (
            f"<ListMultipartUploadsResult><Upload>{entry}</Upload></ListMultipartUploadsResult>"
        )
        bench.fake.fail("ListParts", *[Answer(200, body=parts)] * 9)
        bench.fake.fail("ListMultipartUploads", *[Answer(200, body=uploads.encode())] * 9)
        with pytest.raises(StoreUnavailable):
            await bench.store.list_parts(bench.bucket, "k", "u")
        with pytest.raises(StoreUnavailable):
            assert [u async for u in bench.store.list_multipart(bench.bucket, "k")]
