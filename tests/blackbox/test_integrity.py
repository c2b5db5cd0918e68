"""The file's checksum, end to end: declared, verified before there is an object, and told.

Against the real server and a real S3 engine, with a proxy between them that counts requests and
turns over bits.
"""

import base64
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.blackbox.test_known_failures import Proxied
from tests.support.engines import Engine
from tests.support.fake_s3 import FakeS3, Flip, fake_s3
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, TusClient, metadata
from tests.support.wire import Answer

PART = 5 * 1024 * 1024
SIZES = [0, 1000, PART, 2 * PART + 17]
ORIGIN = {"Origin": "https://app.example.com"}


@dataclass
class Setup:
    server: ServerProcess
    client: TusClient
    bucket: Bucket
    store: FakeS3


def start(seaweed: Engine, folder: Path, **settings: str) -> Iterator[Setup]:
    with fake_s3(seaweed.endpoint) as store:
        proxied = Proxied(store.endpoint, seaweed.access_key, seaweed.secret_key, seaweed.bucket)
        prefix = seaweed.prefix()
        extra = {"TUSD_S3_PREFIX": prefix, "TUSD_DOWNLOAD": "stream"} | settings
        with ServerProcess(folder, proxied, extra_env=extra) as server:
            bucket = Bucket(seaweed, prefix)
            yield Setup(server, TusClient(server.uploads_url), bucket, store)
            bucket.close()


@pytest.fixture(scope="module")
def it(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    yield from start(seaweed, tmp_path_factory.mktemp("server"))


def checksum(data: bytes) -> str:
    return f"crc32 {base64.b64encode(zlib.crc32(data).to_bytes(4, 'big')).decode()}"


def declared(data: bytes) -> str:
    return metadata({"filename": "a.bin", "upload-checksum": checksum(data)})


def code(answer: Answer) -> str:
    return str(json.loads(answer.body)["code"])


def refused(it: Setup, answer: Answer, url: str, *, objects: list[str]) -> None:
    """460 to the request, 410 from then on; no object, no parts, no tail."""
    assert (answer.status, code(answer)) == (460, "file_checksum_mismatch")
    gone(it, url, objects=objects)


def gone(it: Setup, url: str, *, objects: list[str]) -> None:
    head = it.client.head(url)
    assert (head.status, head["Upload-Error"]) == (410, "file_checksum_mismatch")
    again = it.client.patch(url, 0, b"x")
    assert (again.status, code(again)) == (410, "file_checksum_mismatch")
    assert it.client.get(url).status in {404, 409, 410}
    assert it.bucket.keys() == objects
    assert it.bucket.multiparts() == []
    assert list((it.server.tmp_dir / "tus").glob("*.tail")) == []


@pytest.mark.parametrize("size", SIZES)
def test_a_finished_upload_tells_its_checksum_wherever_one_looks(it: Setup, size: int) -> None:
    data = os.urandom(size)
    url = it.client.create(size, metadata=declared(data))
    if size:
        assert it.client.head(url).get("Upload-Checksum") is None  # the file is not there yet
        half = it.client.patch(url, 0, data[: size // 2])
        assert half.get("Upload-Checksum") is None
        done = it.client.patch(url, size // 2, data[size // 2 :], ORIGIN)
        assert (done.status, done["Upload-Checksum"]) == (204, checksum(data))
        assert "Upload-Checksum" in done["Access-Control-Expose-Headers"]
    assert it.client.head(url)["Upload-Checksum"] == checksum(data)
    got = it.client.get(url)
    assert (got.status, got.body, got["Upload-Checksum"]) == (200, data, checksum(data))


def test_creation_with_the_whole_file_tells_it_at_once(it: Setup) -> None:
    data = os.urandom(1000)
    answer = it.client.post({"Upload-Length": "1000", "Upload-Metadata": declared(data)}, data)
    assert (answer.status, answer["Upload-Checksum"]) == (201, checksum(data))


@pytest.mark.parametrize("size", [1000, PART, 2 * PART + 17])
@pytest.mark.parametrize("step", [None, PART - 1])
def test_another_file_than_the_declared_is_never_there(
    it: Setup, size: int, step: int | None
) -> None:
    data, before = os.urandom(size), it.bucket.keys()
    url = it.client.create(size, metadata=declared(b"another"))
    seen = it.store.seen.copy()
    start = 0
    while True:
        end = min(size, start + (step or size))
        answer = it.client.patch(url, start, data[start:end])
        if answer.status != 204:
            break
        start = end
    assert end == size  # not before the last byte
    refused(it, answer, url, objects=before)
    for never in ("PutObject", "CompleteMultipartUpload"):
        assert it.store.seen[never] == seen[never]


def test_one_turned_bit_is_enough(it: Setup) -> None:
    data, before = bytearray(os.urandom(PART + 17)), it.bucket.keys()
    url = it.client.create(len(data), metadata=declared(bytes(data)))
    data[PART - 1] ^= 1
    refused(it, it.client.patch(url, 0, bytes(data)), url, objects=before)


def test_a_deferred_length_changes_nothing(it: Setup) -> None:
    data, before = os.urandom(PART + 17), it.bucket.keys()
    for said in (data, b"another"):
        url = it.client.create(None, metadata=declared(said))
        assert it.client.patch(url, 0, data[:PART]).status == 204
        answer = it.client.patch(url, PART, data[PART:], {"Upload-Length": str(len(data))})
        if said is data:
            assert (answer.status, answer["Upload-Checksum"]) == (204, checksum(data))
            assert it.bucket.read(url) == data
            it.client.delete(url)
        else:
            refused(it, answer, url, objects=before)


@pytest.mark.parametrize("size", [0, 1000])
def test_creation_with_another_file_leaves_nothing(it: Setup, size: int) -> None:
    before = it.bucket.keys()
    headers = {"Upload-Length": str(size), "Upload-Metadata": declared(b"another")}
    answer = it.client.post(headers, os.urandom(size) if size else None)
    assert (answer.status, code(answer)) == (460, "file_checksum_mismatch")
    assert it.bucket.keys() == before


def partials(it: Setup, pieces: list[bytes]) -> list[str]:
    return [it.client.upload(piece, headers={"Upload-Concat": "partial"}) for piece in pieces]


@pytest.mark.parametrize("sizes", [[10, 20], [PART, 2 * PART + 17, 3]])
def test_final_uploads_are_held_to_it(it: Setup, sizes: list[int]) -> None:
    pieces = [os.urandom(size) for size in sizes]
    urls, whole = partials(it, pieces), b"".join(pieces)
    before, seen = it.bucket.keys(), it.store.seen.copy()
    answer = it.client.concatenate(urls, {"Upload-Metadata": declared(b"another")})
    assert (answer.status, code(answer)) == (460, "file_checksum_mismatch")
    assert it.bucket.keys() == before
    assert it.store.seen["UploadPartCopy"] == seen["UploadPartCopy"]  # seen before it is copied
    good = it.client.concatenate(urls, {"Upload-Metadata": declared(whole)})
    assert (good.status, good["Upload-Checksum"]) == (201, checksum(whole))
    assert it.client.head(it.client.location(good))["Upload-Checksum"] == checksum(whole)
    assert it.bucket.read(it.client.location(good)) == whole


def test_a_final_upload_that_waits_is_refused_when_it_can_be_judged(it: Setup) -> None:
    partial = it.client.create(10, {"Upload-Concat": "partial"})
    answer = it.client.concatenate([partial], {"Upload-Metadata": declared(b"another")})
    assert answer.status == 201
    final = it.client.location(answer)
    assert it.client.head(final).status == 200
    assert it.client.patch(partial, 0, os.urandom(10)).status == 204
    assert it.client.head(final)["Upload-Error"] == "file_checksum_mismatch"
    head = it.client.head(final)
    assert (head.status, head["Upload-Error"]) == (410, "file_checksum_mismatch")
    assert it.bucket.read(final) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "invalid_header"),
        ("crc32", "invalid_header"),
        ("crc32 ", "invalid_header"),
        ("crc32 AAAA", "invalid_header"),
        ("crc32 AAAAA===", "invalid_header"),
        ("crc32 00000000", "invalid_header"),  # hexadecimal: six bytes of Base64
        ("CRC32 AAAAAA==", "unknown_checksum_algorithm"),
        ("sha256 " + base64.b64encode(bytes(32)).decode(), "unknown_checksum_algorithm"),
        ("\xff AAAAAA==", "unknown_checksum_algorithm"),
    ],
)
def test_what_cannot_be_verified_is_refused_at_creation(
    it: Setup, value: str, expected: str
) -> None:
    said = metadata({"upload-checksum": value.encode("latin-1")})
    answer = it.client.post({"Upload-Length": "5", "Upload-Metadata": said})
    assert (answer.status, code(answer)) == (400, expected)


def test_a_crc32_of_zero_is_a_checksum_like_any_other(it: Setup) -> None:
    # Four bytes make any CRC-32 of any bytes: here 0, of the first part and of the whole.
    part = with_crc32_zero(os.urandom(PART - 4))
    data = with_crc32_zero(part + os.urandom(13))
    url = it.client.upload(data, metadata=declared(data))
    assert it.client.head(url)["Upload-Checksum"] == "crc32 AAAAAA=="
    assert it.bucket.read(url) == data
    wrong = it.client.create(5, metadata=declared(data))
    assert it.client.patch(wrong, 0, b"other").status == 460


def with_crc32_zero(data: bytes) -> bytes:
    """Four more bytes, so that the CRC-32 of all is 0: its register is run backwards."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    tops = {entry >> 24: index for index, entry in enumerate(table)}
    wanted, indices = 0xFFFFFFFF, []
    for _ in range(4):
        index = tops[wanted >> 24]
        indices.append(index)
        wanted = (wanted ^ table[index]) << 8 & 0xFFFFFFFF
    register, more = zlib.crc32(data) ^ 0xFFFFFFFF, bytearray()
    for index in reversed(indices):
        more.append((register ^ index) & 0xFF)
        register = register >> 8 ^ table[index]
    assert zlib.crc32(data + more) == 0
    return data + bytes(more)


# -- On the way to the store


@pytest.mark.parametrize(("operation", "size"), [("PutObject", 1000), ("UploadPart", PART + 17)])
def test_a_bit_that_turns_on_the_way_to_the_store_is_sent_again(
    it: Setup, operation: str, size: int
) -> None:
    data = os.urandom(size)
    seen = it.store.seen[operation]
    it.store.fail(operation, Flip(at=500))
    url = it.client.upload(data)
    assert it.bucket.read(url) == data
    sent = it.store.seen[operation] - seen
    assert sent == (2 if operation == "PutObject" else 3)


def test_bits_that_keep_turning_never_make_a_file(it: Setup) -> None:
    data = os.urandom(1000)
    url = it.client.create(1000)
    it.store.fail("PutObject", *[Flip(at=500)] * 20)
    try:
        assert it.client.patch(url, 0, data).status >= 500
        assert it.bucket.read(url) is None
    finally:
        it.store.heal()
    assert it.client.offset(url) == 1000  # HEAD finishes what has been received
    assert it.bucket.read(url) == data


def test_without_a_checksum_the_store_takes_any_bytes(seaweed: Engine, tmp_path: Path) -> None:
    """What `s3_checksum` is for: the same bit, and a wrong file that nobody noticed."""
    for it in start(seaweed, tmp_path / "server", TUSD_S3_CHECKSUM="none"):
        data = os.urandom(1000)
        it.store.fail("PutObject", Flip(at=500))
        url = it.client.upload(data)
        stored = it.bucket.read(url)
        assert stored is not None and stored != data
