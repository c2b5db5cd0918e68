"""docs/hooks.md is true: its two hooks are run, and clients upload through them."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.pages import application, page
from tests.support.process import ServerProcess, free_port, program_environment
from tests.support.tus import Bucket, TusClient, metadata
from tusd_py.hooks.events import HookType
from tusd_py.settings import Settings

PAGE = page("hooks.md")
SECRET = "whsec_" + b64encode(os.urandom(32)).decode()
NAMED = metadata({"filename": "hello.txt"})
DATA = b"hello world"


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[str]:
    """The address of the page's hook server."""
    (tmp_path / "hooks.py").write_text(PAGE.block("python", "BaseHTTPRequestHandler"))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "hooks.py"],
        cwd=tmp_path,
        env=program_environment({"WEBHOOK_SECRET": SECRET, "PORT": str(port)}),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait(10)


def check(server: ServerProcess, engine: Engine) -> None:
    """A file without a name is refused by the hook; one with a name arrives."""
    client = TusClient(server.uploads_url)
    refused = client.post({"Upload-Length": "11"})
    assert (refused.status, refused.body) == (400, b"no filename")
    url = client.create(len(DATA), metadata=NAMED)
    assert client.patch(url, 0, DATA).status == 204
    bucket = Bucket(engine, server.extra_env["TUSD_S3_PREFIX"])
    assert bucket.read(url) == DATA
    bucket.close()


def test_the_http_hook(listening: str, seaweed: Engine, tmp_path: Path) -> None:
    settings = {
        "TUSD_S3_PREFIX": seaweed.prefix(),
        "TUSD_HOOKS_HTTP": listening,
        "TUSD_WEBHOOK_SECRET": SECRET,
    }
    with ServerProcess(tmp_path / "server", seaweed, extra_env=settings) as server:
        check(server, seaweed)
        server.wait_for_log("hook_delivered")
        assert "hook_failed" not in server.log()


def test_the_http_hook_believes_nobody_without_the_secret(
    listening: str, seaweed: Engine, tmp_path: Path
) -> None:
    settings = {
        "TUSD_HOOKS_HTTP": listening,
        "TUSD_WEBHOOK_SECRET": "whsec_" + b64encode(os.urandom(32)).decode(),
    }
    with ServerProcess(tmp_path / "server", seaweed, extra_env=settings) as server:
        answer = TusClient(server.uploads_url).post(
            {"Upload-Length": "11", "Upload-Metadata": NAMED}
        )
        assert (answer.status, json.loads(answer.body)["code"]) == (502, "hook_failed")


def test_the_hook_in_the_same_process(seaweed: Engine, tmp_path: Path) -> None:
    with application(tmp_path, seaweed, PAGE.block("python", "create_app")) as server:
        check(server, seaweed)


def test_the_table_lists_the_hooks_there_are() -> None:
    rows = [line.split("|") for line in PAGE.text.splitlines() if line.startswith("| `")]
    on = {row[1].strip(" `"): row[4].strip() == "yes" for row in rows if len(row) == 6}
    default = Settings.model_fields["hooks_enabled_events"].default
    assert on == {kind.value: kind in default for kind in HookType}


@pytest.mark.parametrize("block", PAGE.blocks("json"))
def test_the_json_is_json(block: str) -> None:
    assert json.loads(block)
