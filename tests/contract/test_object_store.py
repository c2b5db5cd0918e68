"""What every `ports.ObjectStore` must keep: in memory, and on S3 over SeaweedFS and Swift.

One test a promise. Where an engine is known to be unable, the test says so and skips.
"""

import asyncio
import http.client
import os
import random
import ssl
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import pytest

from tests.support.engines import Engine
from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tusd_storage.errors import (
    ChecksumRejected,
    InvalidPart,
    NoSuchObject,
    NoSuchUpload,
    Rejected,
    StoreRefused,
)
from tusd_storage.ports import ObjectStore
from tusd_storage.records import Body, FileRange, ObjectSpec, Part, Segment
from tusd_storage.s3 import S3Config, S3Store

MIB = 1024 * 1024
PART = 5 * MIB
SIZES = [0, 1, PART - 1, PART, PART + 1, 10 * MIB, 12 * MIB + 7]
TOKEN = "6f1d-token"


@dataclass(frozen=True, slots=True)
class Target:
    """A store under test, and a corner of it that is this test's alone."""

    store: ObjectStore
    bucket: str
    prefix: str
    engine: Engine | None

    def spec(self, name: str = "object.bin", **fields: str) -> ObjectSpec:
        """A new object's specification."""
        return ObjectSpec(bucket=self.bucket, key=self.prefix + name, token=TOKEN, **fields)

    def over_http(self) -> Engine:
        """The engine, for tests that talk to it as a client does."""
        if self.engine is None:
            pytest.skip("the store in memory has no address")
        return self.engine


@pytest.fixture(params=["memory", "faulty", "seaweed", "seaweed_tls", "swift"])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    """Each implementation in turn."""
    if request.param in {"memory", "faulty"}:
        memory = MemoryStore(buckets=["tests"])
        store: ObjectStore = memory if request.param == "memory" else FaultyStore(memory)
        yield Target(store, "tests", "t/", None)
        return
    engine: Engine = request.getfixturevalue(request.param)
    config = S3Config(
        endpoint=engine.endpoint,
        verify=str(engine.ca_file) if engine.ca_file else None,
    )
    s3 = S3Store(config, session=engine.store_session())
    yield Target(s3, engine.bucket, engine.prefix(), engine)
    await s3.aclose()


@pytest.fixture
def file() -> Iterator[BinaryIO]:
    """A temporary file for bodies."""
    with tempfile.TemporaryFile() as opened:
        yield cast(BinaryIO, opened)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, repeat or look alike."""
    return random.Random(seed).randbytes(size)


def body_of(*segments: Segment) -> Body:
    """A body with the right size and CRC-32."""
    data = b"".join(
        segment
        if isinstance(segment, bytes)
        else os.pread(segment.fd, segment.size, segment.offset)
        for segment in segments
    )
    return Body(segments=segments, size=len(data), crc32=zlib.crc32(data))


async def read(target: Target, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
    """The object's bytes."""
    chunks = [
        chunk async for chunk in target.store.read(target.bucket, key, offset=offset, size=size)
    ]
    assert all(0 < len(chunk) <= MIB for chunk in chunks)
    return b"".join(chunks)


async def send_parts(target: Target, spec: ObjectSpec, upload_id: str, data: bytes) -> list[Part]:
    """All of `data` as parts of 5 MiB; a single empty one for no data."""
    pieces = [data[start : start + PART] for start in range(0, len(data), PART)] or [b""]
    return await asyncio.gather(
        *(
            target.store.upload_part(spec.bucket, spec.key, upload_id, number, body_of(piece))
            for number, piece in enumerate(pieces, 1)
        )
    )


async def finish(target: Target, spec: ObjectSpec, upload_id: str, parts: list[Part]) -> str:
    """Completes."""
    return await target.store.complete_multipart(spec.bucket, spec.key, upload_id, parts)


def request(
    engine: Engine,
    method: str,
    url: str,
    data: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """What a client gets that knows nothing but the URL."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=engine.ca_file)
        connection = http.client.HTTPSConnection(parts.netloc, context=context, timeout=20)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", data, dict(headers or {}))
        answer = connection.getresponse()
        lowered = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, lowered, answer.read()
    finally:
        connection.close()


# Whole objects


@pytest.mark.parametrize("size", SIZES)
async def test_put_stores_exactly_the_bytes(target: Target, size: int) -> None:
    data, spec = noise(size), target.spec()
    etag = await target.store.put(spec, body_of(data))
    info = await target.store.head(spec.bucket, spec.key)
    assert info is not None
    assert (info.size, info.etag, info.token) == (size, etag, TOKEN)
    assert await read(target, spec.key) == data


async def test_put_replaces_an_object(target: Target) -> None:
    spec = target.spec()
    await target.store.put(spec, body_of(b"old and longer"))
    await target.store.put(spec, body_of(b"new"))
    assert await read(target, spec.key) == b"new"


async def test_bodies_come_from_files_and_from_memory(target: Target, file: BinaryIO) -> None:
    stored, spec = noise(3 * MIB), target.spec()
    file.write(stored)
    file.flush()
    position = file.tell()
    segments: tuple[Segment, ...] = (
        b"head",
        FileRange(fd=file.fileno(), offset=7, size=2 * MIB + 1),
        b"",
        b"middle",
        FileRange(fd=file.fileno(), offset=0, size=0),
        FileRange(fd=file.fileno(), offset=3 * MIB - 5, size=5),
        *(bytes([n % 256]) * 1000 for n in range(300)),
    )
    await target.store.put(spec, body_of(*segments))
    tail = b"".join(bytes([n % 256]) * 1000 for n in range(300))
    expected = b"head" + stored[7 : 7 + 2 * MIB + 1] + b"middle" + stored[-5:] + tail
    assert await read(target, spec.key) == expected
    assert file.tell() == position


async def test_a_file_range_alone_is_a_body(target: Target, file: BinaryIO) -> None:
    data, spec = noise(PART), target.spec()
    file.write(data)
    file.flush()
    await target.store.put(spec, body_of(FileRange(fd=file.fileno(), offset=0, size=PART)))
    assert await read(target, spec.key) == data


async def test_a_file_that_ends_early_is_refused(target: Target, file: BinaryIO) -> None:
    file.write(b"short")
    file.flush()
    spec = target.spec()
    segment = FileRange(fd=file.fileno(), offset=0, size=100)
    with pytest.raises(StoreRefused):
        await target.store.put(spec, Body(segments=(segment,), size=100, crc32=0))
    assert await target.store.head(spec.bucket, spec.key) is None


async def test_a_wrong_checksum_is_refused(target: Target) -> None:
    spec, data = target.spec(), noise(1000)
    with pytest.raises(ChecksumRejected):
        await target.store.put(spec, Body(segments=(data,), size=1000, crc32=zlib.crc32(data) ^ 1))
    assert await target.store.head(spec.bucket, spec.key) is None


async def test_type_disposition_and_token_come_back(target: Target) -> None:
    fields = {
        "content_type": "text/plain; charset=utf-8",
        "content_disposition": "attachment; filename=\"M.pdf\"; filename*=UTF-8''Men%C3%BC.pdf",
    }
    single, multi = target.spec("single", **fields), target.spec("multi", **fields)
    await target.store.put(single, body_of(b"x"))
    upload_id = await target.store.create_multipart(multi)
    await finish(target, multi, upload_id, await send_parts(target, multi, upload_id, b"x"))
    for spec in (single, multi):
        info = await target.store.head(spec.bucket, spec.key)
        assert info is not None
        assert (info.content_type, info.token) == (fields["content_type"], TOKEN)
        if target.engine is not None:
            url = await target.store.presign_get(spec.bucket, spec.key, expires_in_s=60)
            status, headers, content = request(target.engine, "GET", url)
            assert (status, content) == (200, b"x")
            assert headers["content-disposition"] == fields["content_disposition"]
            assert "content-encoding" not in headers


@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\nb", "Menü", "a\x00b"])
async def test_what_is_no_header_is_refused(target: Target, value: str) -> None:
    for spec in (target.spec(content_type=value), target.spec(content_disposition=value)):
        with pytest.raises(StoreRefused):
            await target.store.put(spec, body_of(b"x"))
        with pytest.raises(StoreRefused):
            await target.store.create_multipart(spec)
        with pytest.raises(StoreRefused):
            await target.store.presign_put(spec, expires_in_s=60)
        assert await target.store.head(spec.bucket, spec.key) is None


async def test_head_knows_no_object_that_is_not_there(target: Target) -> None:
    assert await target.store.head(target.bucket, target.prefix + "nothing") is None


async def test_delete_is_idempotent(target: Target) -> None:
    spec = target.spec()
    await target.store.put(spec, body_of(b"x"))
    await target.store.delete(spec.bucket, spec.key)
    assert await target.store.head(spec.bucket, spec.key) is None
    await target.store.delete(spec.bucket, spec.key)


@pytest.mark.parametrize("name", ["a b+c%2F&=?#;~'()*!", "Menü 文件", "deep/er/still"])
async def test_keys_keep_their_characters(target: Target, name: str) -> None:
    spec = target.spec(name)
    await target.store.put(spec, body_of(b"one"))
    assert await read(target, spec.key) == b"one"
    upload_id = await target.store.create_multipart(spec)
    parts = await send_parts(target, spec, upload_id, b"two")
    listed = [entry async for entry in target.store.list_multipart(spec.bucket, target.prefix)]
    assert [(entry.key, entry.upload_id) for entry in listed] == [(spec.key, upload_id)]
    await finish(target, spec, upload_id, parts)
    assert await read(target, spec.key) == b"two"
    await target.store.delete(spec.bucket, spec.key)
    assert await target.store.head(spec.bucket, spec.key) is None


async def test_many_at_once(target: Target) -> None:
    specs = [target.spec(f"n{n}") for n in range(24)]
    await asyncio.gather(
        *(target.store.put(spec, body_of(noise(1000, n))) for n, spec in enumerate(specs))
    )
    contents = await asyncio.gather(*(read(target, spec.key) for spec in specs))
    assert contents == [noise(1000, n) for n in range(24)]


# Multipart uploads


@pytest.mark.parametrize("size", SIZES)
async def test_multipart_stores_exactly_the_bytes(target: Target, size: int) -> None:
    data, spec = noise(size), target.spec()
    upload_id = await target.store.create_multipart(spec)
    assert await target.store.head(spec.bucket, spec.key) is None
    parts = await send_parts(target, spec, upload_id, data)
    assert [part.size for part in parts] == [
        len(data[start : start + PART]) for start in range(0, size or 1, PART)
    ]
    etag = await finish(target, spec, upload_id, parts)
    info = await target.store.head(spec.bucket, spec.key)
    assert info is not None
    assert (info.size, info.etag, info.token) == (size, etag, TOKEN)
    assert await read(target, spec.key) == data


async def test_parts_may_be_sent_and_named_in_any_order(target: Target) -> None:
    data, spec = noise(2 * PART + 9), target.spec()
    upload_id = await target.store.create_multipart(spec)
    parts = []
    for number in (3, 1, 2):
        piece = body_of(data[(number - 1) * PART : number * PART])
        parts.append(
            await target.store.upload_part(spec.bucket, spec.key, upload_id, number, piece)
        )
    await finish(target, spec, upload_id, parts)
    assert await read(target, spec.key) == data


async def test_parts_come_from_files(target: Target, file: BinaryIO) -> None:
    data, spec = noise(PART + 100), target.spec()
    file.write(data)
    file.flush()
    upload_id = await target.store.create_multipart(spec)
    bodies = [
        body_of(data[:10], FileRange(fd=file.fileno(), offset=10, size=PART - 10)),
        body_of(FileRange(fd=file.fileno(), offset=PART, size=50), data[-50:]),
    ]
    parts = [
        await target.store.upload_part(spec.bucket, spec.key, upload_id, number, body)
        for number, body in enumerate(bodies, 1)
    ]
    await finish(target, spec, upload_id, parts)
    assert await read(target, spec.key) == data


async def test_a_part_sent_again_replaces_the_first(target: Target) -> None:
    spec = target.spec()
    upload_id = await target.store.create_multipart(spec)
    old, new = noise(PART, 1), noise(PART, 2)
    [first] = await send_parts(target, spec, upload_id, old)
    [second] = await send_parts(target, spec, upload_id, new)
    [again] = await send_parts(target, spec, upload_id, new)
    assert first.etag != second.etag == again.etag
    listed = await target.store.list_parts(spec.bucket, spec.key, upload_id)
    assert [(part.number, part.size) for part in listed] == [(1, PART)]
    await finish(target, spec, upload_id, [again])
    assert await read(target, spec.key) == new


async def test_the_etag_of_a_replaced_part_is_refused(target: Target) -> None:
    if target.engine is not None and not target.engine.old_etag_is_refused:
        pytest.skip(f"{target.engine.name} completes with the replaced bytes")
    spec = target.spec()
    upload_id = await target.store.create_multipart(spec)
    [first] = await send_parts(target, spec, upload_id, b"old")
    await send_parts(target, spec, upload_id, b"new")
    with pytest.raises(InvalidPart):
        await finish(target, spec, upload_id, [first])


async def test_part_lists_that_make_wrong_objects_are_refused(target: Target) -> None:
    data, spec = noise(PART + 1), target.spec()
    upload_id = await target.store.create_multipart(spec)
    first, last = await send_parts(target, spec, upload_id, data)
    small = await target.store.upload_part(spec.bucket, spec.key, upload_id, 7, body_of(b"small"))
    unknown = Part(number=5, size=1, etag='"d41d8cd98f00b204e9800998ecf8427e"', crc32=0)
    strange = Part(number=1, size=PART, etag=last.etag, crc32=first.crc32)
    for parts in (
        [],
        [first, first, last],
        [first, last, small],
        [first, unknown],
        [strange, last],
    ):
        with pytest.raises(InvalidPart):
            await finish(target, spec, upload_id, parts)
        assert await target.store.head(spec.bucket, spec.key) is None
    await finish(target, spec, upload_id, [first, last])
    assert await read(target, spec.key) == data


async def test_a_wrong_part_checksum_is_refused_and_changes_nothing(target: Target) -> None:
    spec, data = target.spec(), noise(1000)
    upload_id = await target.store.create_multipart(spec)
    [good] = await send_parts(target, spec, upload_id, data)
    with pytest.raises(ChecksumRejected):
        await target.store.upload_part(
            spec.bucket,
            spec.key,
            upload_id,
            1,
            Body(segments=(b"other",), size=5, crc32=zlib.crc32(b"Other")),
        )
    await finish(target, spec, upload_id, [good])
    assert await read(target, spec.key) == data


async def test_abort_is_idempotent_and_forgets_the_upload(target: Target) -> None:
    spec = target.spec()
    upload_id = await target.store.create_multipart(spec)
    [part] = await send_parts(target, spec, upload_id, b"x")
    for _ in range(2):
        await target.store.abort_multipart(spec.bucket, spec.key, upload_id)
    with pytest.raises(NoSuchUpload):
        await send_parts(target, spec, upload_id, b"x")
    with pytest.raises(NoSuchUpload):
        await finish(target, spec, upload_id, [part])
    assert await target.store.head(spec.bucket, spec.key) is None
    listed = [entry async for entry in target.store.list_multipart(spec.bucket, target.prefix)]
    assert listed == []


async def test_a_second_completion_harms_nothing(target: Target) -> None:
    data, spec = noise(PART + 1), target.spec()
    upload_id = await target.store.create_multipart(spec)
    parts = await send_parts(target, spec, upload_id, data)
    etag = await finish(target, spec, upload_id, parts)
    with suppress(NoSuchUpload):
        assert await finish(target, spec, upload_id, parts) == etag
    await target.store.abort_multipart(spec.bucket, spec.key, upload_id)
    assert await read(target, spec.key) == data


@pytest.mark.parametrize("upload_id", ["upload-unknown", "0" * 36])
async def test_unknown_uploads(target: Target, upload_id: str) -> None:
    spec = target.spec()
    part = Part(number=1, size=1, etag='"d41d8cd98f00b204e9800998ecf8427e"', crc32=0)
    with pytest.raises(NoSuchUpload):
        await send_parts(target, spec, upload_id, b"x")
    with pytest.raises(NoSuchUpload):
        await target.store.list_parts(spec.bucket, spec.key, upload_id)
    with pytest.raises(NoSuchUpload):
        await finish(target, spec, upload_id, [part])
    await target.store.abort_multipart(spec.bucket, spec.key, upload_id)


async def test_list_multipart_shows_what_is_under_the_prefix(target: Target) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    names = ["in/a", "in/b", "in/b", "out/c"]
    ids = [await target.store.create_multipart(target.spec(name)) for name in names]
    listed = [
        entry async for entry in target.store.list_multipart(target.bucket, f"{target.prefix}in/")
    ]
    keys = [target.prefix + name for name in names]
    expected = set(zip(keys[:3], ids[:3], strict=True))
    assert {(entry.key, entry.upload_id) for entry in listed} == expected
    assert len(listed) == 3
    assert all(before < entry.initiated_at < before + timedelta(minutes=5) for entry in listed)


async def test_list_parts_in_order_of_numbers(target: Target) -> None:
    spec = target.spec()
    upload_id = await target.store.create_multipart(spec)
    assert await target.store.list_parts(spec.bucket, spec.key, upload_id) == []
    sent = {}
    for number in (10, 2, 1):
        sent[number] = await target.store.upload_part(
            spec.bucket, spec.key, upload_id, number, body_of(b"x" * number)
        )
    listed = await target.store.list_parts(spec.bucket, spec.key, upload_id)
    assert [(part.number, part.size, part.etag) for part in listed] == [
        (number, number, sent[number].etag) for number in (1, 2, 10)
    ]


async def test_copied_parts(target: Target) -> None:
    data = noise(PART + 1000)
    source, spec = target.spec("source"), target.spec()
    await target.store.put(source, body_of(data))
    upload_id = await target.store.create_multipart(spec)

    async def copy(number: int, offset: int, size: int) -> Part:
        return await target.store.copy_part(
            spec.bucket,
            spec.key,
            upload_id,
            number,
            source_key=source.key,
            offset=offset,
            size=size,
            crc32=zlib.crc32(data[offset : offset + size]),
        )

    parts = [await copy(1, 0, PART), await copy(2, PART, 1000)]
    assert [(part.number, part.size) for part in parts] == [(1, PART), (2, 1000)]
    assert [part.crc32 for part in parts] == [zlib.crc32(data[:PART]), zlib.crc32(data[PART:])]
    await finish(target, spec, upload_id, parts)
    assert await read(target, spec.key) == data


async def test_a_copied_part_without_a_known_checksum(target: Target) -> None:
    data = noise(100)
    source, spec = target.spec("source"), target.spec()
    await target.store.put(source, body_of(data))
    upload_id = await target.store.create_multipart(spec)
    part = await target.store.copy_part(
        spec.bucket,
        spec.key,
        upload_id,
        1,
        source_key=source.key,
        offset=10,
        size=50,
        crc32=None,
    )
    assert part.crc32 in {zlib.crc32(data[10:60]), None}
    await finish(target, spec, upload_id, [part])
    assert await read(target, spec.key) == data[10:60]


async def test_copying_from_nothing_or_into_nothing(target: Target) -> None:
    source, spec = target.spec("source"), target.spec()
    upload_id = await target.store.create_multipart(spec)

    async def copy(upload_id: str) -> Part:
        return await target.store.copy_part(
            spec.bucket,
            spec.key,
            upload_id,
            1,
            source_key=source.key,
            offset=0,
            size=1,
            crc32=zlib.crc32(b"x"),
        )

    with pytest.raises(NoSuchObject):
        await copy(upload_id)
    await target.store.put(source, body_of(b"x"))
    with pytest.raises(NoSuchUpload):
        await copy("upload-unknown")


# Reading


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, None), (0, 1), (1, 1), (5, MIB), (MIB - 1, 2 * MIB), (3 * MIB, None), (0, 3 * MIB + 5)],
)
async def test_read_ranges(target: Target, offset: int, size: int | None) -> None:
    data, spec = noise(3 * MIB + 5), target.spec()
    await target.store.put(spec, body_of(data))
    end = None if size is None else offset + size
    assert await read(target, spec.key, offset=offset, size=size) == data[offset:end]


async def test_read_nothing(target: Target) -> None:
    spec, empty = target.spec(), target.spec("empty")
    await target.store.put(spec, body_of(b"abc"))
    await target.store.put(empty, body_of())
    assert await read(target, spec.key, offset=2, size=0) == b""
    assert await read(target, empty.key) == b""
    assert await read(target, empty.key, size=0) == b""


@pytest.mark.parametrize(("offset", "size"), [(0, 4), (2, 2), (3, 1), (9, 1), (9, None)])
async def test_read_beyond_the_end(target: Target, offset: int, size: int | None) -> None:
    spec = target.spec()
    await target.store.put(spec, body_of(b"abc"))
    with pytest.raises(StoreRefused) as caught:
        await read(target, spec.key, offset=offset, size=size)
    assert caught.value.code == "InvalidRange"


@pytest.mark.parametrize("size", [None, 0, 1])
async def test_read_no_object(target: Target, size: int | None) -> None:
    with pytest.raises(NoSuchObject):
        await read(target, target.prefix + "nothing", size=size)


async def test_reading_may_end_early(target: Target) -> None:
    data, spec = noise(4 * MIB), target.spec()
    await target.store.put(spec, body_of(data))
    for _ in range(20):
        async with aclosing(target.store.read(spec.bucket, spec.key)) as chunks:
            assert data.startswith(await anext(chunks))
    assert await read(target, spec.key) == data


async def test_many_objects_are_read_at_once_without_a_word(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """As when many small partial uploads are concatenated."""
    spec = target.spec()
    data = noise(20_000)
    await target.store.put(spec, body_of(data))
    found = await asyncio.gather(*(read(target, spec.key) for _ in range(60)))
    assert set(found) == {data}
    assert [record.message for record in caplog.records] == []


# Requests that clients send by themselves


async def test_presigned_put(target: Target) -> None:
    engine = target.over_http()
    spec = target.spec("a b+ü", content_type="text/plain", content_disposition="attachment")
    signed = await target.store.presign_put(spec, expires_in_s=60, content_length=3)
    assert (signed.method, signed.url.startswith(engine.endpoint)) == ("PUT", True)
    assert "X-Amz-Signature" in signed.url
    without_token = {k: v for k, v in signed.headers.items() if "token" not in k}
    without_condition = {k: v for k, v in signed.headers.items() if k != "If-None-Match"}
    for url, data, headers in (
        (signed.url, b"abc", {**signed.headers, "Content-Type": "text/html"}),
        (signed.url, b"abc", {**signed.headers, "x-amz-meta-tusd-token": "another"}),
        (signed.url, b"abc", without_token),
        (signed.url, b"abc", without_condition),
        (signed.url, b"abcd", signed.headers),
        (signed.url.replace("a%20b", "a%20c"), b"abc", signed.headers),
    ):
        assert request(engine, "PUT", url, data, headers)[0] == 403
    assert await target.store.head(spec.bucket, spec.key) is None
    assert request(engine, "PUT", signed.url, b"abc", signed.headers)[0] == 200
    info = await target.store.head(spec.bucket, spec.key)
    assert info is not None
    assert (info.size, info.token, info.content_type) == (3, TOKEN, "text/plain")


async def test_a_presigned_put_replaces_nothing(target: Target) -> None:
    engine = target.over_http()
    spec = target.spec()
    signed = await target.store.presign_put(spec, expires_in_s=60)
    assert request(engine, "PUT", signed.url, b"the first", signed.headers)[0] == 200
    for data in (b"the other", b"and a longer one"):
        assert request(engine, "PUT", signed.url, data, signed.headers)[0] == 412
    assert await read(target, spec.key) == b"the first"


async def test_presigned_parts(target: Target) -> None:
    engine = target.over_http()
    spec = target.spec()
    data = noise(PART + 5)
    upload_id = await target.store.create_multipart(spec, direct=True)
    pieces = [data[:PART], data[PART:]]
    for number, piece in enumerate(pieces, 1):
        signed = await target.store.presign_part(
            spec.bucket, spec.key, upload_id, number, expires_in_s=60, content_length=len(piece)
        )
        other = signed.url.replace(f"partNumber={number}", "partNumber=9")
        assert other != signed.url
        assert request(engine, "PUT", other, piece)[0] == 403
        assert request(engine, "PUT", signed.url, piece + b"x")[0] == 403
        status, headers, _ = request(engine, "PUT", signed.url, piece, signed.headers)
        assert (status, bool(headers["etag"])) == (200, True)
    parts = await target.store.list_parts(spec.bucket, spec.key, upload_id)
    assert [(part.number, part.size) for part in parts] == [(1, PART), (2, 5)]
    await target.store.complete_multipart(spec.bucket, spec.key, upload_id, parts, direct=True)
    assert await read(target, spec.key) == data


async def test_presigned_get(target: Target) -> None:
    engine = target.over_http()
    spec, other = target.spec(content_type="text/html"), target.spec("other")
    await target.store.put(spec, body_of(b"content"))
    await target.store.put(other, body_of(b"secret"))
    url = await target.store.presign_get(
        spec.bucket,
        spec.key,
        expires_in_s=60,
        content_disposition='attachment; filename="a b.txt"',
        content_type="application/octet-stream",
    )
    status, headers, content = request(engine, "GET", url)
    assert (status, content) == (200, b"content")
    assert headers["content-disposition"] == 'attachment; filename="a b.txt"'
    assert headers["content-type"] == "application/octet-stream"
    for tampered in (
        url.replace("object.bin", "other"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        url.replace("attachment", "inline"),
    ):
        assert tampered != url
        assert request(engine, "GET", tampered)[0] == 403
    assert request(engine, "PUT", url, b"x")[0] == 403


async def test_presigned_urls_run_out(target: Target) -> None:
    engine = target.over_http()
    spec = target.spec()
    await target.store.put(spec, body_of(b"content"))
    url = await target.store.presign_get(spec.bucket, spec.key, expires_in_s=1)
    deadline = time.monotonic() + 20
    while request(engine, "GET", url)[0] != 403:
        assert time.monotonic() < deadline


async def test_deliveries_in_memory_follow_the_same_rules() -> None:
    store = MemoryStore()
    spec = ObjectSpec(bucket="b", key="k", token=TOKEN, content_type="text/plain")
    signed = await store.presign_put(spec, expires_in_s=60, content_length=3)
    for url, data, headers in (
        (signed.url + "0", b"abc", signed.headers),
        (signed.url, b"abcd", signed.headers),
        (signed.url, b"abc", {**signed.headers, "Content-Type": "text/html"}),
    ):
        with pytest.raises(Rejected):
            store.deliver(url, data, headers)
    store.deliver(signed.url, b"abc", signed.headers)
    with pytest.raises(Rejected):
        store.deliver(signed.url, b"cba", signed.headers)
    assert store.objects["b", "k"].data == b"abc"


# Buckets


async def test_probe(target: Target) -> None:
    await target.store.probe(target.bucket)
    with pytest.raises(StoreRefused):
        await target.store.probe("there-is-no-such-bucket")


async def test_a_missing_bucket_is_no_missing_object(target: Target) -> None:
    spec = ObjectSpec(bucket="there-is-no-such-bucket", key="k", token=TOKEN)
    with pytest.raises(StoreRefused) as caught:
        await target.store.put(spec, body_of(b"x"))
    assert caught.value.code == "NoSuchBucket"
    with pytest.raises(StoreRefused) as caught:
        await target.store.create_multipart(spec)
    assert caught.value.code == "NoSuchBucket"
