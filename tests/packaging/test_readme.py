"""The README is true: its examples are run as they stand, its names exist."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.node import CLIENTS, require_node
from tests.support.process import ROOT, ServerProcess, free_port, program_environment, run_program
from tests.support.tus import Bucket
from tusd_py.settings import Settings
from tusd_py.settings.sources import load

README = (ROOT / "README.md").read_text()
ROOT_URL = "http://localhost:8080"
ENDPOINT = f"{ROOT_URL}/files/"
DATA = os.urandom(6 * 1024 * 1024 + 7)


def block(language: str, containing: str) -> str:
    """The one fenced block of this language that has the text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    assert isinstance(found, str)
    return found


@pytest.fixture(scope="module")
def server(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    extra = {"TUSD_S3_PREFIX": seaweed.prefix()}
    with ServerProcess(tmp_path_factory.mktemp("readme"), seaweed, extra_env=extra) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(seaweed: Engine, server: ServerProcess) -> Iterator[Bucket]:
    found = Bucket(seaweed, server.extra_env["TUSD_S3_PREFIX"])
    yield found
    found.close()


def run(command: list[str], folder: Path, text: str) -> str:
    result = subprocess.run(
        command,
        cwd=folder,
        input=text,
        env=program_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_python_example(server: ServerProcess, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(DATA)
    code = block("python", "tusclient").replace(ENDPOINT, server.uploads_url)
    url = run([sys.executable, "-"], tmp_path, code).strip()
    assert bucket.read(url) == DATA


def test_the_session_example(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(DATA)
    code = block("python", "import httpx").replace(ROOT_URL, server.url)
    said = run([sys.executable, "-"], tmp_path, code)
    assert said.split() == ["validating", str(len(DATA))]


def test_the_profile_example(tmp_path: Path) -> None:
    file = tmp_path / "tusd.toml"
    file.write_text(block("toml", "profiles"))
    pictures = load(environ={}, config=file).settings.profiles["pictures"]
    assert (pictures.max_size, pictures.content_types) == (20_000_000, ("image/*",))


def test_the_curl_example(server: ServerProcess, bucket: Bucket, tmp_path: Path) -> None:
    code = block("sh", "curl").replace(ENDPOINT, server.uploads_url)
    answer = run(["sh", "-s"], tmp_path, code)
    assert "201 Created" in answer
    location = re.search(r"(?im)^location: *(\S+)", answer)
    assert location is not None
    assert bucket.read(location[1]) == b"hello"


def test_the_tus_js_client_example(server: ServerProcess, bucket: Bucket, tmp_path: Path) -> None:
    node = require_node()
    (tmp_path / "video.mp4").write_bytes(DATA)
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    file = (
        'import { readFileSync } from "node:fs";\n'
        'const file = Object.assign(readFileSync("video.mp4"), '
        '{ name: "video.mp4", type: "video/mp4" });\n'
    )
    code = block("js", "tus-js-client").replace(ENDPOINT, server.uploads_url)
    (tmp_path / "example.mjs").write_text(file + code)
    said = run([node, "example.mjs"], tmp_path, "")
    url = said.strip().rpartition("done: ")[2]
    assert bucket.read(url) == DATA


def test_the_application_example(seaweed: Engine, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(block("python", "Mount"))
    port = free_port()
    environment = program_environment(
        {
            "TUSD_DATA_DIR": str(tmp_path / "data"),
            "TUSD_S3_ENDPOINT": seaweed.endpoint,
            "TUSD_S3_BUCKET": seaweed.bucket,
            "TUSD_S3_PREFIX": seaweed.prefix(),
            "AWS_ACCESS_KEY_ID": seaweed.access_key,
            "AWS_SECRET_ACCESS_KEY": seaweed.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )
    command = [sys.executable, "-m", "uvicorn", "example:app", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(base)
        assert post(base, {}) == (401, None)
        status, location = post(base, {"X-User": "ann"})
        assert status == 201
        assert location is not None
        assert location.startswith("/media/files/")
        assert head(base + location, {"X-User": "ann"}) == 200
        assert head(base + location, {"X-User": "bob"}) == 404
    finally:
        process.terminate()
        process.wait(30)


def wait_for(base: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            post(base, {})
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def post(base: str, headers: dict[str, str]) -> tuple[int, str | None]:
    given = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"} | headers
    request = urllib.request.Request(f"{base}/media/files/", b"", given, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers["Location"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def head(url: str, headers: dict[str, str]) -> int:
    given = {"Tus-Resumable": "1.0.0"} | headers
    request = urllib.request.Request(url, headers=given, method="HEAD")
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_every_setting_named_exists() -> None:
    named = set(re.findall(r"TUSD_([A-Z0-9_]+)", README))
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_every_command_named_exists(tmp_path: Path) -> None:
    named = set(re.findall(r"(?m)(?:^|`)tusd-py ([a-z]+)", README))
    assert {"serve", "migrate"} <= named
    listed = run_program("--help", cwd=tmp_path).stdout
    for command in named:
        assert re.search(rf"(?m)^ +{command}\b", listed), command


def test_every_file_named_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
