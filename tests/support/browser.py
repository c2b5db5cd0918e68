"""Headless Chromium with one page, driven through `tests/clients/node/browser.mjs`.

Owns the browser's process and what a test may ask of it: open, evaluate, click, choose and drop
files, wait. Knows nothing of the pages. A missing Chromium skips the test with its reason, or
fails it under `CI=true`.
"""

import functools
import itertools
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.engines import missing
from tests.support.node import CLIENTS, NodeProgram, require_node

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WAIT_S = 60.0


def require_chromium() -> str:
    """The path of Chromium."""
    require_node()
    if not (CLIENTS / "node_modules" / "playwright-core").is_dir():
        missing("playwright-core is missing: run `npm ci` in tests/clients/node")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        missing("Chromium is not installed")
    return path


def bundle(source: Path, target: Path) -> None:
    """Bundles a script with what it imports from `node_modules`, as a site's build would."""
    result = subprocess.run(
        [require_node(), "bundle.mjs", source, target],
        capture_output=True,
        text=True,
        cwd=CLIENTS,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """A web server for the files of a folder: an origin that is not the upload server's."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


class PageError(AssertionError):
    """The page did not do what was asked; the message carries what it wrote to its console."""


class Browser:
    """One Chromium with one page. `folder` takes its profile, screenshots and downloads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ids = itertools.count(1)
        self._program = NodeProgram(
            "browser.mjs",
            {
                "executablePath": require_chromium(),
                "args": list(ARGUMENTS),
                "profile": str(folder / "profile"),
            },
        )
        self._program.wait_for("ready")

    def open(self, url: str) -> None:
        """Loads a page."""
        self._ask("open", url=url)

    def reload(self) -> None:
        """As the user's key does: running requests end, storage stays."""
        self._ask("reload")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise's once it is settled."""
        return self._ask("evaluate", expression=expression)

    def wait_until(self, expression: str, *, timeout_s: float = WAIT_S) -> Any:
        """The first true value of the expression. Raises: PageError."""
        return self._ask("waitUntil", timeout_s, expression=expression)

    def click(self, selector: str) -> None:
        """Clicks what the selector finds, once it can be clicked (Playwright's selectors)."""
        self._ask("click", selector=selector)

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Files for an `<input type=file>`."""
        self._ask("choose", selector=selector, files=[str(file) for file in files])

    def drop(self, selector: str, files: Sequence[Path]) -> None:
        """Drags real files onto an element and lets go."""
        self._ask("drop", selector=selector, files=[str(file) for file in files])

    def download(self, selector: str) -> bytes:
        """What a click on a link gives."""
        path = self._folder / f"download-{next(self._ids)}"
        self._ask("download", selector=selector, path=str(path))
        return path.read_bytes()

    def fill(self, selector: str, text: str) -> None:
        """Types into what the selector finds."""
        self._ask("fill", selector=selector, text=text)

    def hold(self, ending: str) -> None:
        """Requests whose path ends like this wait until `release`."""
        self._ask("hold", ending=ending)

    def release(self) -> None:
        """Lets them go."""
        self._ask("release")

    def resize(self, width: int, height: int) -> None:
        """The size of what the page is seen through, in CSS pixels."""
        self._ask("resize", width=width, height=height)

    def prefer(self, color_scheme: str) -> None:
        """`light` or `dark`."""
        self._ask("prefer", colorScheme=color_scheme)

    def screenshot(self, name: str) -> Path:
        """A picture of the page, for people."""
        path = self._folder / f"{name}.png"
        self._ask("screenshot", path=str(path))
        return path

    @property
    def console(self) -> list[str]:
        """Everything pages wrote to the console, and what they failed to load or threw."""
        return [event["text"] for event in self._program.named("console")]

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and URL of every request so far; preflights do not show."""
        return [(event["method"], event["url"]) for event in self._program.named("request")]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._program.tell({"do": "close"})
                self._program.finish()
        finally:
            self._program.__exit__(kind, error, traceback)

    def _ask(self, what: str, timeout_s: float = WAIT_S, **facts: object) -> Any:
        number = next(self._ids)
        self._program.tell({"do": what, "id": number, "timeout": timeout_s * 1000, **facts})
        answer = self._program.wait_for(
            "answer", lambda event: event["id"] == number, timeout_s=timeout_s + 10
        )
        if "error" in answer:
            wrote = "\n".join(self.console[-20:])
            raise PageError(f"{what} {facts}: {answer['error']}\n{wrote}")
        return answer.get("value")
