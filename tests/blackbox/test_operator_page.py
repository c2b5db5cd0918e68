"""The operator's page in a real browser, and `tusd-py uploads` beside a running server."""

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.browser import Browser, require_chromium
from tests.support.engines import Engine
from tests.support.process import ServerProcess, run_program
from tests.support.proxy import Proxy
from tests.support.tus import TusClient, metadata, poll
from tusd_storage.partplan import MIB

TOKEN = "a token that nobody guesses"
HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    "\"'><script>document.title='owned'</script>",
    "javascript:alert(1)",
    "\u202egpj.exe",
    "A" * 255,
    "日本語 Übergrößenträger.mov",
]
ROW = "document.querySelector('#running-list .row')"
PERCENT = "+document.querySelector('#running-list [role=progressbar]')?.ariaValueNow"


@dataclass(frozen=True, slots=True)
class Site:
    """A server with the page, and a browser that has signed in."""

    server: ServerProcess
    browser: Browser

    @property
    def tus(self) -> TusClient:
        return TusClient(self.server.uploads_url)

    @property
    def page(self) -> str:
        return f"{self.server.url}/operator/"

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """`tusd-py` on the same database, while the server runs."""
        done = run_program(*arguments, extra_env=self.server.environment, cwd=self.server.folder)
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def uploading(self, name: str, *, rate: int = MIB) -> Iterator[str]:
        """A PATCH under way, at so many bytes a second; the upload's URL."""
        url = self.tus.create(60 * MIB, metadata=metadata({"filename": name}))
        with Proxy(self.server.url) as proxy:
            proxy.throttle(rate)
            slow = TusClient(f"{proxy.url}/files/")
            target = url.replace(self.server.url, proxy.url)

            def send() -> None:
                with suppress(OSError, http.client.HTTPException):  # cancelled, or the block ended
                    slow.patch(target, 0, bytes(60 * MIB))

            sending = threading.Thread(target=send, daemon=True)
            sending.start()
            try:
                yield url
            finally:
                proxy.cut_now()
                sending.join(30)


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_chromium()
    folder = tmp_path_factory.mktemp("operator")
    environment = {
        "TUSD_S3_PREFIX": seaweed.prefix(),
        "TUSD_OPERATOR_PAGE": "true",
        "TUSD_OPERATOR_TOKEN": TOKEN,
        "TUSD_WORK": "false",
        "TUSD_REAP": "false",
    }
    with (
        Browser(folder / "browser") as browser,
        ServerProcess(folder, seaweed, extra_env=environment) as server,
    ):
        browser.open(f"{server.url}/operator/")
        assert browser.evaluate("location.pathname") == "/operator/login"
        browser.fill("#token", "not the token")
        browser.click(".strong")
        browser.wait_until("document.querySelector('.wrong')")
        browser.fill("#token", TOKEN)
        browser.click(".strong")
        browser.wait_until("document.querySelector('#live')?.dataset.state === 'live'")
        yield Site(server, browser)
        assert TOKEN not in server.log()


def test_a_running_upload_moves_and_can_be_cancelled(site: Site) -> None:
    site.browser.open(site.page)
    with site.uploading("slow.mov") as url:
        first = site.browser.wait_until(f"{PERCENT} > 0 && {PERCENT}")
        site.browser.wait_until(f"{PERCENT} > {first}")
        site.browser.wait_until(f"/[KM]B.s · .* left/.test({ROW}.textContent)")
        site.browser.click("#running-list .danger")
        site.browser.click("#ask .danger")
        site.browser.wait_until(f"!{ROW}")
        poll(lambda: site.tus.head(url).status == 410)
    site.browser.wait_until("document.querySelector('#toast').textContent.includes('Cancelled')")


def test_a_question_answered_with_no_changes_nothing(site: Site) -> None:
    site.browser.open(site.page)
    with site.uploading("kept.mov") as url:
        site.browser.wait_until(ROW)
        site.browser.click("#running-list .danger")
        site.browser.click("#ask .button:not(.danger)")
        site.browser.wait_until("!document.querySelector('#ask').open")
        assert site.tus.head(url).status == 200
    assert site.tus.delete(url).status == 204


def test_a_dead_job_is_tried_again(site: Site) -> None:
    site.tus.upload(b"hello", metadata=metadata({"filename": "job.txt"}))
    path = site.server.data_dir / "tusd.sqlite3"
    with closing(sqlite3.connect(path, timeout=20)) as database:
        database.execute(
            "UPDATE jobs SET state = 'dead', due_at = NULL, error = '<b>the validator is away</b>'"
            " WHERE kind = 'promote_asset'"
        )
        database.commit()
    site.browser.open(site.page)
    dead = "document.querySelector('#jobs-list .row[data-state=dead]')"
    site.browser.wait_until(f"{dead}?.textContent.includes('<b>the validator is away</b>')")
    site.browser.click("#jobs-list .row[data-state=dead] .retry >> nth=0")
    site.browser.wait_until("document.querySelector('#jobs-list .row[data-state=queued]')")


def test_names_of_strangers_are_only_text(site: Site) -> None:
    for name in HOSTILE:
        site.tus.upload(b"x", metadata=metadata({"filename": name, "note": name}))
    said = len(site.browser.console)
    for width in (1280, 390):
        site.browser.resize(width, 844)
        site.browser.open(site.page)
        shown = "[...document.querySelectorAll('#done-list .name')].map(one => one.textContent)"
        site.browser.wait_until(f"{shown}.length >= {len(HOSTILE)}")
        names = site.browser.evaluate(shown)
        assert HOSTILE[0] in names and HOSTILE[5] in names
        assert site.browser.evaluate("document.querySelectorAll('li img, li script').length") == 0
        assert site.browser.evaluate("document.title") == "Operator · tusd-py"
        site.browser.click("#done-list .name >> nth=0")
        site.browser.wait_until("document.querySelectorAll('#detail-list dt').length > 5")
        site.browser.click("#detail .button")
    assert site.browser.console[said:] == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(site: Site, width: int) -> None:
    site.tus.create(8 * MIB, metadata=metadata({"filename": "W" * 200}))
    site.browser.resize(width, 844)
    site.browser.open(site.page)
    site.browser.wait_until(ROW)
    site.browser.click("#find .strong")
    site.browser.wait_until("document.querySelector('#found-list .row')")
    assert site.browser.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_loads_nothing_from_elsewhere_and_signs_out(site: Site) -> None:
    since = len(site.browser.requests)
    site.browser.open(site.page)
    site.browser.wait_until("document.querySelector('#live').dataset.state === 'live'")
    urls = [url for _, url in site.browser.requests[since:]]
    assert urls and all(url.startswith(f"{site.server.url}/operator/") for url in urls)
    cookies = site.browser.evaluate("document.cookie")
    assert cookies == "", "no script reads the sign-in"


def test_events_come_as_they_happen_and_end_with_the_server(
    seaweed: Engine, tmp_path: Path
) -> None:
    environment = {
        "TUSD_S3_PREFIX": seaweed.prefix(),
        "TUSD_OPERATOR_PAGE": "true",
        "TUSD_OPERATOR_TOKEN": TOKEN,
    }
    with (
        ServerProcess(tmp_path, seaweed, extra_env=environment) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client,
    ):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client.request("GET", "/operator/api/events", headers=headers)
        answer = client.getresponse()
        assert answer.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert answer.getheader("x-accel-buffering") == "no"

        def picture() -> dict[str, object]:
            while not (line := answer.readline()).startswith(b"data: "):
                assert line, "the stream ended"
            found: dict[str, object] = json.loads(line[6:])
            return found

        assert picture()["completed"] == []
        TusClient(server.uploads_url).upload(b"x", metadata=metadata({"filename": "new.txt"}))
        deadline = time.monotonic() + 20
        while "new.txt" not in json.dumps(picture()["completed"]):
            assert time.monotonic() < deadline
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 8, "viewers do not hold the server"


def test_listing_and_cancelling_from_a_terminal(site: Site) -> None:
    """Beside the server, whose writer lets go first."""
    with site.uploading("terminal.mov") as url:
        upload_id = url.rpartition("/")[2]
        poll(lambda: site.tus.offset(url) > 0, timeout_s=60)
        code, out, _ = site.run("uploads", "ls", "--state", "uploading", "--json")
        [found] = [one for one in json.loads(out)["uploads"] if one["filename"] == "terminal.mov"]
        assert code == 0 and upload_id not in out
        code, out, _ = site.run("uploads", "show", found["ref"])
        assert (code, json.loads(out)["id"]) == (0, upload_id)
        code, out, error = site.run("uploads", "cancel", found["ref"])
        assert (code, out) == (0, f"{found['ref']} aborted\n"), error
        assert site.tus.head(url).status == 410
    assert site.run("uploads", "cancel", found["ref"])[0] == 0, "it is cancelled already"
    code, _, error = site.run("uploads", "cancel", "nobody")
    assert (code, "no upload has this ref" in error) == (1, True)


def test_pages_in_a_terminal(site: Site) -> None:
    for _ in range(3):
        site.tus.upload(b"x", metadata=metadata({"filename": "page.txt"}))
    code, out, _ = site.run("uploads", "ls", "--limit", "2", "--json")
    first = json.loads(out)
    assert code == 0 and len(first["uploads"]) == 2 and first["next"]
    _, out, _ = site.run("uploads", "ls", "--after", first["next"], "--limit", "1000", "--json")
    rest = json.loads(out)
    refs = [one["ref"] for one in (*first["uploads"], *rest["uploads"])]
    assert len(refs) == len(set(refs)) and len(refs) >= 3 and rest["next"] is None
    code, out, _ = site.run("uploads", "ls", "--stuck", "--owner", "nobody")
    assert (code, out) == (0, "")
