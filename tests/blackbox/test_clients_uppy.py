"""Uppy with its tus plugin in Chromium, on a page of another origin than the server's."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.browser import Browser, bundle, serve_folder
from tests.support.engines import Engine
from tests.support.node import CLIENTS
from tests.support.pages import ENDPOINT, readme
from tests.support.process import ServerProcess
from tests.support.proxy import Proxy
from tests.support.tus import Bucket
from tusd_storage.partplan import MIB

PAGES = CLIENTS / "pages"
INPUT = "input.uppy-Dashboard-input >> nth=0"
ADD_A_FILE = """
uppy.on("upload-success", (_, response) => { window.ended = response.uploadURL })
uppy.on("upload-error", (_, error) => { window.ended = error.message })
uppy.addFile({ name: "video.mp4", data: new Blob(["x".repeat(6_000_000)]) })
"""
RETRIES = [50, 100, 200, 400, 800, *[1000] * 60]


@dataclass(frozen=True, slots=True)
class Site:
    """A server, its bucket, and a browser that shows somebody else's page."""

    server: ServerProcess
    bucket: Bucket
    browser: Browser
    page_url: str

    def open(self, endpoint: str, **options: object) -> None:
        """Shows the page with these options of Uppy's tus plugin."""
        given = {"endpoint": endpoint, "retryDelays": RETRIES} | options
        self.browser.open("about:blank")  # else only the fragment changes, and nothing loads
        self.browser.open(f"{self.page_url}/uppy.html#{quote(json.dumps(given))}")
        self.browser.wait_until("window.uppy")

    def uploaded(self, count: int) -> dict[str, str]:
        """URLs by name, once so many files are up."""
        condition = f"Object.keys(uploaded).length === {count} || failed.length"
        self.browser.wait_until(condition)
        assert self.browser.evaluate("failed") == []
        found: dict[str, str] = self.browser.evaluate("uploaded")
        return found

    def stored(self, url: str) -> bytes | None:
        """The object of an upload, through whatever proxy its URL leads."""
        return self.bucket.read(self.server.uploads_url + url.rpartition("/")[2])


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("uppy")
    prefix = seaweed.prefix()
    bucket = Bucket(seaweed, prefix)
    with (
        Browser(folder / "browser") as browser,
        ServerProcess(folder / "a", seaweed, extra_env={"TUSD_S3_PREFIX": prefix}) as server,
        serve_folder(folder / "pages") as page_url,
    ):
        bundle(PAGES / "uppy.js", folder / "pages" / "uppy.js")
        (folder / "pages" / "uppy.html").write_text((PAGES / "uppy.html").read_text())
        yield Site(server, bucket, browser, page_url)
    bucket.close()


def make_file(folder: Path, name: str, size: int) -> Path:
    file = folder / name
    file.write_bytes(random.Random(name).randbytes(size))
    return file


@pytest.mark.parametrize("parallel", [1, 3])
def test_several_files_from_another_origin(site: Site, tmp_path: Path, parallel: int) -> None:
    files = [
        make_file(tmp_path, "film.bin", 12 * MIB + 7),
        make_file(tmp_path, "Menü «日本語».txt", 100_000),
        make_file(tmp_path, "part.bin", 5 * MIB),
    ]
    site.open(site.server.uploads_url, parallelUploads=parallel)
    assert site.browser.evaluate("location.origin") != site.server.url
    site.browser.choose(INPUT, files)
    urls = site.uploaded(len(files))
    for file in files:
        assert site.stored(urls[file.name]) == file.read_bytes()


def test_pause_and_resume(site: Site, tmp_path: Path) -> None:
    file = make_file(tmp_path, "paused.bin", 16 * MIB)
    with Proxy(site.server.url) as proxy:
        site.open(f"{proxy.url}/files/")
        proxy.stall_after(7 * MIB)
        site.browser.choose(INPUT, [file])
        proxy.wait_for_faults(1)
        site.browser.evaluate("uppy.pauseAll()")
        site.browser.wait_until("uppy.getFiles()[0].isPaused")
        proxy.release()
        asked = len(site.browser.requests)
        site.browser.evaluate("uppy.resumeAll()")
        assert site.stored(site.uploaded(1)[file.name]) == file.read_bytes()
        after = [method for method, _ in site.browser.requests[asked:]]
        assert "HEAD" in after and "POST" not in after


def test_a_reload_in_the_middle(site: Site, tmp_path: Path) -> None:
    file = make_file(tmp_path, "reloaded.bin", 16 * MIB)
    with Proxy(site.server.url) as proxy:
        site.open(f"{proxy.url}/files/")
        proxy.stall_after(9 * MIB)
        site.browser.choose(INPUT, [file])
        proxy.wait_for_faults(1)
        site.browser.reload()
        proxy.release()
        site.browser.wait_until("window.uppy")
        asked = len(site.browser.requests)
        site.browser.choose(INPUT, [file])
        assert site.stored(site.uploaded(1)[file.name]) == file.read_bytes()
        after = [method for method, _ in site.browser.requests[asked:]]
        assert "HEAD" in after and "POST" not in after


def test_a_network_that_breaks(site: Site, tmp_path: Path) -> None:
    file = make_file(tmp_path, "broken.bin", 16 * MIB)
    with Proxy(site.server.url) as proxy:
        site.open(f"{proxy.url}/files/")
        asked = len(site.browser.requests)
        proxy.cut_after(3 * MIB + 11, reset=True)
        proxy.cut_after(8 * MIB + 5, reset=True)
        site.browser.choose(INPUT, [file])
        proxy.wait_for_faults(2)
        proxy.down()
        proxy.up()
        assert site.stored(site.uploaded(1)[file.name]) == file.read_bytes()
        methods = [method for method, _ in site.browser.requests[asked:]]
        assert methods.count("POST") == 1


def test_a_server_killed_in_the_middle(site: Site, tmp_path: Path) -> None:
    file = make_file(tmp_path, "killed.bin", 16 * MIB)
    with Proxy(site.server.url) as proxy:
        site.open(f"{proxy.url}/files/")
        asked = len(site.browser.requests)
        proxy.mark_after(9 * MIB)
        site.browser.choose(INPUT, [file])
        proxy.wait_for_faults(1)
        site.server.restart()
        assert site.stored(site.uploaded(1)[file.name]) == file.read_bytes()
        methods = [method for method, _ in site.browser.requests[asked:]]
        assert methods.count("POST") == 1


def test_the_readmes_example(site: Site, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    example = readme().block("js", "@uppy/tus").replace(ENDPOINT, site.server.uploads_url)
    (tmp_path / "example.js").write_text(f"{example}\n{ADD_A_FILE}")
    site_folder = tmp_path / "site"
    site_folder.mkdir()
    bundle(tmp_path / "example.js", site_folder / "page.js")
    (site_folder / "index.html").write_text('<script type="module" src="page.js"></script>')
    with serve_folder(site_folder) as url:
        site.browser.open(f"{url}/index.html")
        site.browser.wait_until("window.ended")
        assert site.stored(site.browser.evaluate("ended")) == b"x" * 6_000_000
