"""The page of `tusd-py dev`, used as a newcomer uses it: dropped files, pause, reload, download."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tusd_py.demo
from tests.support.browser import Browser, require_chromium
from tests.support.engines import missing
from tests.support.process import ServerProcess
from tests.support.proxy import Proxy
from tests.support.tus import TusClient
from tusd_storage.partplan import MIB

SIZE = 16 * MIB + 7
PROGRESS = "+document.querySelector('#current-list .card [role=progressbar]').ariaValueNow"


@dataclass(frozen=True, slots=True)
class Site:
    """`tusd-py dev`, and a browser."""

    server: ServerProcess
    browser: Browser

    def wait_for_state(self, file: Path, state: str) -> None:
        """Until the card of the newest upload is in this state."""
        card = "document.querySelector('#current-list .card')"
        name = f"{card}?.querySelector('.name').textContent"
        self.browser.wait_until(f"{name} === {file.name!r} && {card}.dataset.state === {state!r}")

    def download(self, file: Path) -> bytes:
        """What the link of a finished upload gives."""
        return self.browser.download(f'a[aria-label="Download {file.name}"]')

    def methods(self, since: int) -> list[str]:
        """Methods of the requests to the server since `len(browser.requests)` was `since`."""
        return [method for method, _ in self.browser.requests[since:]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_chromium()
    if not (Path(tusd_py.demo.__file__).parent / "static" / "upload.js").is_file():
        missing("the page is not built: run `make web`")
    folder = tmp_path_factory.mktemp("page")
    with (
        Browser(folder / "browser") as browser,
        ServerProcess(folder / "dev", command="dev", ready_timeout_s=60) as server,
    ):
        yield Site(server, browser)


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file to upload, with a name and content of its own."""
    path = tmp_path / f"{request.node.name}.bin"
    path.write_bytes(random.Random(path.name).randbytes(SIZE))
    return path


def test_a_dropped_file(site: Site, file: Path) -> None:
    with Proxy(site.server.url) as proxy:
        proxy.throttle(16 * MIB)
        site.browser.open(f"{proxy.url}/")
        site.browser.drop("#drop", [file])
        assert (
            0 < site.browser.wait_until(f"{PROGRESS} > 0 && {PROGRESS} < 100 && {PROGRESS}") < 100
        )
        site.wait_for_state(file, "done")
        assert site.browser.evaluate(PROGRESS) == 100
        assert site.download(file) == file.read_bytes()


def test_several_chosen_files(site: Site, tmp_path: Path) -> None:
    files = []
    for number, size in enumerate([0, 1, 5 * MIB, 7 * MIB + 3, 100_000]):
        files.append(tmp_path / f"Grüße {number} 日本.bin")
        files[-1].write_bytes(random.Random(size).randbytes(size))
    site.browser.open(f"{site.server.url}/")
    site.browser.choose("#pick", files)
    done = "document.querySelectorAll('#current-list .card[data-state=done]').length"
    site.browser.wait_until(f"{done} === {len(files)}")
    for file in files:
        assert site.download(file) == file.read_bytes()


def test_files_chosen_before_the_page_has_its_configuration(site: Site, file: Path) -> None:
    site.browser.hold("/config.json")
    site.browser.open(f"{site.server.url}/")
    site.browser.choose("#pick", [file])
    site.browser.release()
    site.wait_for_state(file, "done")
    assert site.download(file) == file.read_bytes()


def test_pause_and_resume(site: Site, file: Path) -> None:
    with Proxy(site.server.url) as proxy:
        site.browser.open(f"{proxy.url}/")
        proxy.stall_after(7 * MIB)
        site.browser.choose("#pick", [file])
        proxy.wait_for_faults(1)
        site.browser.click(f'button[aria-label="Pause {file.name}"]')
        site.wait_for_state(file, "paused")
        proxy.release()
        since = len(site.browser.requests)
        site.browser.click(f'button[aria-label="Resume {file.name}"]')
        site.wait_for_state(file, "done")
        assert "HEAD" in site.methods(since) and "POST" not in site.methods(since)
        assert site.download(file) == file.read_bytes()


def test_a_reload_in_the_middle(site: Site, file: Path) -> None:
    with Proxy(site.server.url) as proxy:
        site.browser.open(f"{proxy.url}/")
        proxy.stall_after(9 * MIB)
        site.browser.choose("#pick", [file])
        proxy.wait_for_faults(1)
        proxy.cut_now()
        site.browser.reload()
        site.browser.wait_until("document.querySelector('#earlier-list .card')")
        assert site.browser.evaluate(
            "document.querySelector('#earlier-list .name').textContent"
        ) == (file.name)
        since = len(site.browser.requests)
        site.browser.choose("#earlier-list input[type=file]", [file])
        site.wait_for_state(file, "done")
        assert "HEAD" in site.methods(since) and "POST" not in site.methods(since)
        assert site.download(file) == file.read_bytes()


def test_finished_uploads_and_their_links_survive_a_reload(site: Site, tmp_path: Path) -> None:
    files = [tmp_path / f"kept {number}.bin" for number in range(3)]
    for file in files:
        file.write_bytes(file.name.encode() * 1000)
    site.browser.open(f"{site.server.url}/")
    site.browser.choose("#pick", files)
    site.browser.wait_until(f"{finished_cards('current')}.length === {len(files)}")
    site.browser.reload()
    site.browser.wait_until(f"{finished_cards('finished')}.length >= {len(files)}")
    assert site.browser.evaluate("document.querySelector('#current').hidden")
    for file in files:
        assert site.download(file) == file.read_bytes()
    first, second, third = files
    site.browser.click(f'button[aria-label="Delete {first.name}"]')
    site.browser.wait_until(f"!{named('finished', first)}")
    url = site.browser.evaluate(
        f"document.querySelector('a[aria-label=\"Download {second.name}\"]').href"
    )
    assert TusClient(site.server.uploads_url).delete(url).status == 204
    site.browser.reload()
    site.browser.wait_until(named("finished", third))
    assert not site.browser.evaluate(named("finished", second)), "the server has it no more"
    site.browser.click("#clear-finished")
    site.browser.reload()
    site.browser.wait_until("document.querySelector('#endpoint').textContent.length > 1")
    assert site.browser.evaluate("localStorage.getItem('tusd-py.finished')") == "[]"


def finished_cards(section: str) -> str:
    """JavaScript for the finished uploads of a section."""
    return f"document.querySelectorAll('#{section}-list .card[data-state=done]')"


def named(section: str, file: Path) -> str:
    """JavaScript that tells whether a section lists the file as finished."""
    name = f"card.querySelector('.name').textContent === {file.name!r}"
    return f"[...{finished_cards(section)}].some((card) => {name})"


def test_a_server_killed_in_the_middle(site: Site, file: Path) -> None:
    with Proxy(site.server.url) as proxy:
        site.browser.open(f"{proxy.url}/")
        since = len(site.browser.requests)
        proxy.mark_after(9 * MIB)
        site.browser.choose("#pick", [file])
        proxy.wait_for_faults(1)
        site.server.restart()
        site.wait_for_state(file, "done")
        assert site.methods(since).count("POST") == 1
        assert site.download(file) == file.read_bytes()


def test_uppy_beside_it(site: Site, file: Path) -> None:
    site.browser.open(f"{site.server.url}/uppy")
    site.browser.choose("input.uppy-Dashboard-input >> nth=0", [file])
    site.browser.click("button.uppy-StatusBar-actionBtn--upload")
    site.browser.wait_until("document.querySelector('#finished .card')")
    assert site.download(file) == file.read_bytes()


def test_pages_load_nothing_from_elsewhere_and_complain_of_nothing(site: Site) -> None:
    """No outside network, and a content security policy that the pages live with."""
    since, said = len(site.browser.requests), len(site.browser.console)
    for path in ("/", "/uppy"):
        site.browser.open(site.server.url + path)
        site.browser.wait_until("document.querySelector('#endpoint').textContent.length > 1")
    urls = [url for _, url in site.browser.requests[since:]]
    assert urls and all(url.startswith((f"{site.server.url}/", "data:", "blob:")) for url in urls)
    assert site.browser.console[said:] == []
