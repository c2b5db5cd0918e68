"""tuspy, as published, against the real server."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from tusclient.client import TusClient as Tuspy
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.storage.filestorage import FileStorage

from tests.support.engines import Engine
from tests.support.process import ServerProcess
from tests.support.proxy import Proxy
from tests.support.tus import Bucket
from tusd_storage.partplan import MIB

DATA = random.Random(2).randbytes(12 * MIB + 7)
STUBBORN = {"retries": 200, "retry_delay": 0.1}


@dataclass(frozen=True, slots=True)
class Site:
    """One server, the bucket behind it, and tuspy's client for it."""

    server: ServerProcess
    bucket: Bucket
    tus: Tuspy

    def direct(self, url: str) -> str:
        """An upload's URL without a proxy in between."""
        return self.server.uploads_url + url.rpartition("/")[2]


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    prefix = seaweed.prefix()
    bucket = Bucket(seaweed, prefix)
    folder = tmp_path_factory.mktemp("tuspy")
    with ServerProcess(folder, seaweed, extra_env={"TUSD_S3_PREFIX": prefix}) as server:
        yield Site(server, bucket, Tuspy(server.uploads_url))
    bucket.close()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 12 * MIB + 7])
def test_upload(site: Site, size: int) -> None:
    uploader = site.tus.uploader(file_stream=io.BytesIO(DATA[:size]))
    uploader.upload()
    assert site.bucket.read(uploader.url) == DATA[:size]


@pytest.mark.parametrize("chunk", [1 * MIB + 1, 5 * MIB, 7 * MIB])
@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "checksum"])
def test_chunks(site: Site, chunk: int, checksum: bool) -> None:
    uploader = site.tus.uploader(
        file_stream=io.BytesIO(DATA), chunk_size=chunk, upload_checksum=checksum
    )
    uploader.upload()
    assert uploader.get_offset() == len(DATA)
    assert site.bucket.read(uploader.url) == DATA


def test_metadata(site: Site) -> None:
    name = "Übersicht 日本.csv"
    uploader = site.tus.uploader(
        file_stream=io.BytesIO(b"a;b"), metadata={"filename": name, "filetype": "text/csv"}
    )
    uploader.upload()
    info = site.bucket.info(uploader.url)
    assert info["ContentType"] == "text/csv"
    assert f"filename*=UTF-8''{quote(name, safe='')}" in info["ContentDisposition"]


def test_stopping_and_going_on_by_url(site: Site) -> None:
    first = site.tus.uploader(file_stream=io.BytesIO(DATA), chunk_size=2 * MIB)
    first.upload(stop_at=6 * MIB)
    second = site.tus.uploader(file_stream=io.BytesIO(DATA), url=first.url, chunk_size=MIB + 3)
    assert second.offset == 6 * MIB
    second.upload()
    assert site.bucket.read(first.url) == DATA


# tuspy opens the file anew for every look at it and leaves closing to the interpreter.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_going_on_with_url_storage(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "film.bin"
    file.write_bytes(DATA)
    storage = FileStorage(str(tmp_path / "urls.json"))
    options = {
        "file_path": str(file),
        "chunk_size": 3 * MIB,
        "store_url": True,
        "url_storage": storage,
    }
    first = site.tus.uploader(**options)
    first.upload_chunk()
    first.upload_chunk()
    second = site.tus.uploader(**options)
    assert second.url == first.url and second.offset == 6 * MIB
    second.upload()
    storage.close()
    assert site.bucket.read(second.url) == DATA


@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "checksum"])
def test_a_network_that_breaks(site: Site, checksum: bool) -> None:
    with Proxy(site.server.url) as proxy:
        uploader = Tuspy(f"{proxy.url}/files/").uploader(
            file_stream=io.BytesIO(DATA), upload_checksum=checksum, chunk_size=4 * MIB, **STUBBORN
        )
        proxy.cut_after(2 * MIB)
        proxy.cut_after(3 * MIB + 1, reset=True)
        proxy.cut_after(9 * MIB)
        uploader.upload()
        proxy.wait_for_faults(3)
    assert site.bucket.read(site.direct(uploader.url)) == DATA


def test_without_retries_a_cut_is_an_error_and_the_offset_tells_what_was_kept(site: Site) -> None:
    with Proxy(site.server.url) as proxy:
        uploader = Tuspy(f"{proxy.url}/files/").uploader(file_stream=io.BytesIO(DATA))
        uploader.set_url(uploader.create_url())
        proxy.cut_after(7 * MIB)
        with pytest.raises((TusUploadFailed, TusCommunicationError)):
            uploader.upload()
    second = site.tus.uploader(
        file_stream=io.BytesIO(DATA), url=site.direct(uploader.url), **STUBBORN
    )
    assert 0 <= second.offset <= 7 * MIB
    second.upload()
    assert site.bucket.read(second.url) == DATA


def test_a_server_killed_in_the_middle(site: Site) -> None:
    uploader = site.tus.uploader(file_stream=io.BytesIO(DATA), chunk_size=4 * MIB, **STUBBORN)
    uploader.upload_chunk()
    uploader.upload_chunk()
    site.server.restart()
    uploader.upload()
    assert site.bucket.read(uploader.url) == DATA


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
async def test_the_asynchronous_uploader(site: Site) -> None:
    uploader = site.tus.async_uploader(
        file_stream=io.BytesIO(DATA), chunk_size=5 * MIB + 1, upload_checksum=True
    )
    await uploader.upload()
    assert site.bucket.read(uploader.url) == DATA
