"""tus-js-client in Node, as published, against the real server: the ways people use it."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.engines import Engine
from tests.support.node import NodeProgram, require_node
from tests.support.process import ServerProcess
from tests.support.proxy import Proxy
from tests.support.tus import Bucket, TusClient, poll
from tusd_storage.partplan import MIB

SIZE = 12 * MIB + 7
RETRIES = [50, 100, 200, 400, 800, *[1000] * 60]
"""Milliseconds; long enough for a server that starts anew on a busy machine."""


@dataclass(frozen=True, slots=True)
class Site:
    """One server, the bucket behind it, and a file to upload."""

    server: ServerProcess
    bucket: Bucket
    file: Path
    data: bytes

    @contextmanager
    def upload(self, endpoint: str | None = None, **options: object) -> Iterator[NodeProgram]:
        """tus-js-client with these options."""
        given: Mapping[str, object] = {
            "file": str(self.file),
            "endpoint": endpoint or self.server.uploads_url,
            "retryDelays": RETRIES,
            "metadata": {"filename": self.file.name},
        }
        with NodeProgram("upload.mjs", {**given, **options}) as program:
            yield program


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_node()
    folder = tmp_path_factory.mktemp("tusjs")
    file = folder / "film.bin"
    data = random.Random(1).randbytes(SIZE)
    file.write_bytes(data)
    prefix = seaweed.prefix()
    bucket = Bucket(seaweed, prefix)
    with ServerProcess(folder / "a", seaweed, extra_env={"TUSD_S3_PREFIX": prefix}) as server:
        yield Site(server, bucket, file, data)
    bucket.close()


def check_done(site: Site, program: NodeProgram, data: bytes | None = None) -> str:
    """It succeeded, with one upload from first to last, and the object is what the file was."""
    url: str = program.wait_for("success")["url"]
    program.finish()
    assert {event["url"] for event in program.named("url")} <= {url}
    assert len(program.requests("POST")) <= 1
    assert site.bucket.read(site_url(site, url)) == (site.data if data is None else data)
    return url


def site_url(site: Site, url: str) -> str:
    """The upload's URL without a proxy in between."""
    return site.server.uploads_url + url.rpartition("/")[2]


# -- Options --------------------------------------------------------------------------------------


def test_one_request(site: Site) -> None:
    with site.upload() as program:
        check_done(site, program)
        assert [event["method"] for event in program.named("request")] == ["POST", "PATCH"]


@pytest.mark.parametrize("chunk", [1 * MIB + 1, 5 * MIB, 5 * MIB + 3])
def test_chunks(site: Site, chunk: int) -> None:
    with site.upload(chunkSize=chunk) as program:
        check_done(site, program)
        assert len(program.requests("PATCH")) == -(-SIZE // chunk)


def test_a_buffer(site: Site) -> None:
    with site.upload(**{"as": "buffer"}) as program:
        check_done(site, program)


def test_an_empty_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with site.upload(file=str(tmp_path / "empty")) as program:
        check_done(site, program, b"")
        assert program.requests("PATCH") == []


@pytest.mark.parametrize("size", [3, 4 * MIB, 21 * MIB + 1])
def test_parallel_uploads_are_concatenated(site: Site, tmp_path: Path, size: int) -> None:
    """Partials below and above 5 MiB."""
    data = random.Random(size).randbytes(size)
    file = tmp_path / "parallel.bin"
    file.write_bytes(data)
    with site.upload(
        file=str(file), parallelUploads=min(4, size), metadataForPartialUploads={"part": "ä"}
    ) as program:
        url = program.wait_for("success")["url"]
        program.finish()
        assert len(program.requests("POST")) == min(4, size) + 1
    assert site.bucket.read(url) == data


@pytest.mark.parametrize("chunk", [1 * MIB + 1, 6 * MIB])
def test_a_stream_whose_length_comes_last(site: Site, chunk: int) -> None:
    with site.upload(uploadLengthDeferred=True, chunkSize=chunk, **{"as": "stream"}) as program:
        check_done(site, program)
        lengths = [event["length"] for event in program.requests("PATCH")]
        assert lengths[-1] == SIZE and set(lengths[:-1]) == {-1}


@pytest.mark.parametrize("chunk", [None, 5 * MIB + 1])
def test_data_with_the_creation(site: Site, chunk: int | None) -> None:
    options = {} if chunk is None else {"chunkSize": chunk}
    with site.upload(uploadDataDuringCreation=True, **options) as program:
        check_done(site, program)
        assert len(program.requests("PATCH")) == (0 if chunk is None else 2)


def test_patch_in_the_dress_of_post(site: Site) -> None:
    with site.upload(overridePatchMethod=True) as program:
        url = program.wait_for("success")["url"]
        program.finish()
        assert program.requests("PATCH") == []
    assert site.bucket.read(url) == site.data


def test_names_in_any_script(site: Site) -> None:
    name = 'Menü «日本語» 🦊 "x"; a,b.pdf'
    metadata = {"filename": name, "filetype": "application/pdf", "Notiz": "Grüße, Ж"}
    with site.upload(metadata=metadata) as program:
        url = check_done(site, program)
    info = site.bucket.info(url)
    assert info["ContentType"] == "application/pdf"
    assert f"filename*=UTF-8''{quote(name, safe='')}" in info["ContentDisposition"]


# -- Interrupted ----------------------------------------------------------------------------------


def test_pause_and_resume(site: Site) -> None:
    with Proxy(site.server.url) as proxy, site.upload(f"{proxy.url}/files/") as program:
        proxy.stall_after(7 * MIB)
        proxy.wait_for_faults(1)
        program.say("pause")
        program.wait_for("paused")
        proxy.cut_now()
        program.say("resume")
        check_done(site, program)
        assert len(program.requests("HEAD")) >= 1
        assert max(event["offset"] for event in program.requests("PATCH")) > 0


def test_abort_with_termination(site: Site) -> None:
    with Proxy(site.server.url) as proxy, site.upload(f"{proxy.url}/files/") as program:
        proxy.stall_after(7 * MIB)
        proxy.wait_for_faults(1)
        url = program.wait_for("url")["url"]
        proxy.release()
        proxy.throttle(MIB)
        program.say("terminate")
        program.wait_for("terminated")
        program.finish()
    assert TusClient(site.server.uploads_url).head(site_url(site, url)).status in {404, 410}
    assert site.bucket.read(url) is None
    poll(lambda: site.bucket.multiparts() == [])


def test_a_new_process_goes_on_where_a_killed_one_was(site: Site, tmp_path: Path) -> None:
    storage = str(tmp_path / "urls.json")
    with (
        Proxy(site.server.url) as proxy,
        site.upload(f"{proxy.url}/files/", storage=storage) as first,
    ):
        proxy.stall_after(8 * MIB)
        proxy.wait_for_faults(1)
        url = first.wait_for("url")["url"]
        first.kill()
        proxy.cut_now()
        with site.upload(f"{proxy.url}/files/", storage=storage, findPrevious=True) as second:
            assert second.wait_for("previous")["count"] == 1
            assert check_done(site, second) == url
            assert second.requests("POST") == []
            assert second.requests("PATCH")[0]["offset"] > 5 * MIB


def test_parallel_uploads_go_on_after_a_kill(site: Site, tmp_path: Path) -> None:
    storage = str(tmp_path / "urls.json")
    options = {"storage": storage, "parallelUploads": 4}
    with Proxy(site.server.url) as proxy:
        endpoint = f"{proxy.url}/files/"
        with site.upload(endpoint, **options) as first:
            proxy.stall_after(6 * MIB)
            proxy.wait_for_faults(1)
            assert len(first.requests("POST")) == 4
            first.kill()
            proxy.cut_now()
        with site.upload(endpoint, **options, findPrevious=True) as second:
            assert second.wait_for("previous")["count"] == 1
            url = second.wait_for("success")["url"]
            second.finish()
            assert len(second.requests("HEAD")) >= 4
            assert len(second.requests("POST")) == 1  # the final upload
    assert site.bucket.read(url) == site.data


@pytest.mark.parametrize(
    "options",
    [{}, {"chunkSize": 5 * MIB + 3}, {"uploadDataDuringCreation": True}],
    ids=["whole", "chunks", "with-creation"],
)
def test_a_broken_network(site: Site, options: dict[str, object]) -> None:
    with Proxy(site.server.url) as proxy, site.upload(f"{proxy.url}/files/", **options) as program:
        if options.get("uploadDataDuringCreation"):
            program.wait_for("url")  # what dies before its URL was told is a new upload
        else:
            proxy.cut_after(3 * MIB + 11)
            proxy.cut_after(5 * MIB + 5, reset=True)
            proxy.wait_for_faults(2)
        proxy.cut_after(64)
        check_done(site, program)


def test_answers_that_are_lost(site: Site) -> None:
    with (
        Proxy(site.server.url) as proxy,
        site.upload(f"{proxy.url}/files/", chunkSize=4 * MIB) as program,
    ):
        program.wait_for("url")
        for _ in range(3):
            proxy.cut_answer_after(200)
        check_done(site, program)
        offsets = [event["offset"] for event in program.requests("PATCH")]
        assert offsets == sorted(offsets)


@pytest.mark.parametrize(
    "options",
    [{}, {"chunkSize": 3 * MIB + 1}, {"parallelUploads": 3}],
    ids=["whole", "chunks", "parallel"],
)
def test_a_server_killed_in_the_middle(
    site: Site, options: dict[str, object], restart_at: int = 7 * MIB
) -> None:
    with Proxy(site.server.url) as proxy, site.upload(f"{proxy.url}/files/", **options) as program:
        proxy.mark_after(restart_at)
        proxy.wait_for_faults(1)
        site.server.restart()
        url = program.wait_for("success")["url"]
        program.finish()
        created = len(program.requests("POST"))
        assert created == (4 if "parallelUploads" in options else 1)
    assert site.bucket.read(url) == site.data


def test_a_server_that_is_replaced_in_good_order(site: Site) -> None:
    with Proxy(site.server.url) as proxy, site.upload(f"{proxy.url}/files/") as program:
        proxy.mark_after(7 * MIB)
        proxy.wait_for_faults(1)
        assert site.server.terminate() == 0
        site.server.start()
        check_done(site, program)


# -- "Not now" ------------------------------------------------------------------------------------


def test_a_locked_upload_is_waited_for_not_started_over(site: Site, tmp_path: Path) -> None:
    """HEAD while the object cannot be made: the client must come back, not begin again."""
    storage = str(tmp_path / "urls.json")
    with Proxy(site.server.url) as proxy:
        endpoint = f"{proxy.url}/files/"
        with site.upload(endpoint, storage=storage) as first:
            proxy.stall_after(8 * MIB)
            proxy.wait_for_faults(1)
            first.kill()
            proxy.down()
        with site.upload(endpoint, storage=storage, findPrevious=True) as second:
            second.wait_for("trouble")
            second.wait_for("trouble", lambda event: event["attempt"] >= 2)
            proxy.up()
            check_done(site, second)
            assert second.requests("POST") == []
