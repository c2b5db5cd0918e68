"""The published @uppy/aws-s3 in a real browser, from a page of another origin, against the server.

No Node server stands between: the page speaks to this one and to the store.
"""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import httpx
import pytest

from tests.support.engines import Engine, missing
from tests.support.pages import ROOT_URL, readme
from tests.support.process import ServerProcess
from tusd_storage.partplan import MIB

CLIENT = Path(__file__).parents[1] / "clients" / "aws-s3"
WAIT_S = 120.0


def browser() -> str:
    """The path of Chromium, where Node and the plugin are there too."""
    if shutil.which("node") is None:
        missing("Node is not installed")
    if not (CLIENT / "node_modules" / "@uppy" / "aws-s3").is_dir():
        missing("the S3 plugin is missing: npm ci in tests/clients/aws-s3")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        missing("Chromium is not installed")
    return found


class Page:
    """The page with the plugin; events as they come."""

    def __init__(self, server: ServerProcess, file: Path, **options: Any) -> None:
        told = {"chromium": browser(), "server": server.url, "file": str(file)} | options
        self._process = subprocess.Popen(
            ["node", "upload.mjs", json.dumps(told)],
            cwd=CLIENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._events: Queue[dict[str, Any]] = Queue()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self.seen: list[dict[str, Any]] = []

    def wait_for(self, name: str) -> dict[str, Any]:
        """The next event of this name. Raises: AssertionError for errors and silence."""
        while True:
            try:
                event = self._events.get(timeout=WAIT_S)
            except Empty:
                raise AssertionError(f"no {name!r} came, but {self.seen}") from None
            self.seen.append(event)
            assert event["event"] not in {"error", "ended"} - {name}, (event, self.seen)
            if event["event"] == name:
                return event

    def say(self, command: str) -> None:
        """One command."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._listening.join(10)  # it reads what is closed next
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put({"event": "ended", "stderr": self._process.stderr.read()})


@pytest.fixture
def server(seaweed: Engine, tmp_path: Path) -> Iterator[ServerProcess]:
    browser()
    client = seaweed.session().client("s3", endpoint_url=seaweed.endpoint)
    client.put_bucket_cors(
        Bucket=seaweed.bucket,
        CORSConfiguration={
            "CORSRules": [
                {
                    "AllowedOrigins": ["*"],
                    "AllowedMethods": ["GET", "HEAD", "PUT", "POST"],
                    "AllowedHeaders": ["*"],
                    "ExposeHeaders": ["ETag", "Location"],
                }
            ]
        },
    )
    client.close()
    extra = {"TUSD_S3_PREFIX": seaweed.prefix(), "TUSD_CORS_ORIGINS": "*"}
    with ServerProcess(tmp_path / "server", seaweed, extra_env=extra) as running:
        yield running


def a_file(folder: Path, size: int, name: str) -> tuple[Path, bytes]:
    data = os.urandom(size)
    path = folder / name
    path.write_bytes(data)
    return path, data


def stored(engine: Engine, key: str) -> bytes:
    client = engine.session().client("s3", endpoint_url=engine.endpoint)
    try:
        body = client.get_object(Bucket=engine.bucket, Key=key)["Body"]
        with body:
            return body.read()
    finally:
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 70_000])
def test_a_small_file(server: ServerProcess, seaweed: Engine, tmp_path: Path, size: int) -> None:
    path, data = a_file(tmp_path, size, "Käse & Wein.bin")
    page = Page(server, path, multipart=False)
    try:
        done = page.wait_for("success")
        assert stored(seaweed, done["key"]) == data
        assert done["location"].startswith(f"{seaweed.endpoint}/{seaweed.bucket}/")
    finally:
        page.close()


@pytest.mark.slow
def test_a_large_file_in_parts_paused_and_resumed(
    server: ServerProcess, seaweed: Engine, tmp_path: Path
) -> None:
    path, data = a_file(tmp_path, 12 * MIB + 345, "film.mkv")
    page = Page(server, path, multipart=True, pauseAfterParts=1)
    try:
        page.wait_for("paused")
        page.say("resume")
        done = page.wait_for("success")
        assert stored(seaweed, done["key"]) == data
        # The part that had arrived was not sent again.
        assert [event["number"] for event in page.seen if event["event"] == "part"] == [1, 2, 3]
    finally:
        page.close()


@pytest.mark.slow
def test_a_cancelled_upload_leaves_nothing(
    server: ServerProcess, seaweed: Engine, tmp_path: Path
) -> None:
    path, _ = a_file(tmp_path, 12 * MIB, "film.mkv")
    page = Page(server, path, multipart=True, pauseAfterParts=1)
    try:
        page.wait_for("paused")
        page.say("cancel")
        assert page.wait_for("cancelled")["status"] == 200
    finally:
        page.close()
    client = seaweed.session().client("s3", endpoint_url=seaweed.endpoint)
    prefix = server.extra_env["TUSD_S3_PREFIX"]
    left = client.list_multipart_uploads(Bucket=seaweed.bucket, Prefix=prefix)
    client.close()
    assert left.get("Uploads", []) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 6 * MIB])
def test_the_readmes_example(
    server: ServerProcess, seaweed: Engine, tmp_path: Path, size: int
) -> None:
    code = readme().block("js", "@uppy/aws-s3").replace(ROOT_URL, server.url)
    path, data = a_file(tmp_path, size, "photo.jpg")
    page = Page(server, path, example=code)
    try:
        key = page.wait_for("uploaded")["key"]
        assert page.wait_for("told")["status"] == 200
        assert stored(seaweed, key) == data
    finally:
        page.close()


def test_the_openapi_document_is_served(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.url}/openapi.json", trust_env=False)
    assert answer.json()["openapi"].startswith("3.")
