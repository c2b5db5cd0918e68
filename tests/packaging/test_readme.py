"""The README is true: its examples are run as they stand, its names exist."""

import os
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.engines import Engine
from tests.support.pages import (
    ENDPOINT,
    ROOT_URL,
    application,
    readme,
    run,
    run_python,
    run_tus_js,
)
from tests.support.process import ROOT, ServerProcess, run_program
from tests.support.tus import Bucket, TusClient
from tusd_py.settings import Settings
from tusd_py.settings.sources import load

README = readme()
DATA = os.urandom(6 * 1024 * 1024 + 7)


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


def name_of(server: ServerProcess, url: str) -> str:
    """The file name that the server knows."""
    answer = TusClient(server.uploads_url).head(url)
    (pair,) = [p for p in answer["Upload-Metadata"].split(",") if p.startswith("filename ")]
    return b64decode(pair.partition(" ")[2]).decode()


def test_the_python_example(server: ServerProcess, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(DATA)
    code = README.block("python", "tusclient").replace(ENDPOINT, server.uploads_url)
    url = run_python(code, tmp_path).strip()
    assert bucket.read(url) == DATA
    assert name_of(server, url) == "video.mp4"


def test_the_session_example(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(DATA)
    code = README.block("python", "import httpx").replace(ROOT_URL, server.url)
    said = run_python(code, tmp_path)
    assert said.split() == ["validating", str(len(DATA))]


def test_the_profile_example(tmp_path: Path) -> None:
    file = tmp_path / "tusd.toml"
    file.write_text(README.block("toml", "profiles"))
    pictures = load(environ={}, config=file).settings.profiles["pictures"]
    assert (pictures.max_size, pictures.content_types) == (20_000_000, ("image/*",))


def test_the_curl_example(server: ServerProcess, bucket: Bucket, tmp_path: Path) -> None:
    code = README.block("sh", "curl").replace(ENDPOINT, server.uploads_url)
    answer = run(["sh", "-s"], tmp_path, code)
    assert "201 Created" in answer
    location = re.search(r"(?im)^location: *(\S+)", answer)
    assert location is not None
    assert bucket.read(location[1]) == b"hello"
    assert name_of(server, server.url + location[1]) == "hello.txt"


def test_the_tus_js_client_example(server: ServerProcess, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(DATA)
    code = README.block("js", "tus-js-client").replace(ENDPOINT, server.uploads_url)
    assert bucket.read(run_tus_js(code, tmp_path)) == DATA


def with_lifespan(code: str) -> str:
    """The same, begun and ended with the application around it."""
    return f"{code}\n{README.block('python', 'lifespan')}"


def in_fastapi(code: str) -> str:
    """The same application, mounted as the text below it says."""
    (mount,) = README.inline("app.mount(")
    return f"from fastapi import FastAPI\n{code}\napp = FastAPI()\n{mount}\n"


@pytest.mark.parametrize("mounted", [str, with_lifespan, in_fastapi])
def test_the_application_example(
    mounted: Callable[[str], str], seaweed: Engine, tmp_path: Path
) -> None:
    code = mounted(README.block("python", "Unauthorized"))
    with application(tmp_path, seaweed, code, ready_path="/media/ready") as running:
        client = TusClient(f"{running.url}/media/files/")
        assert client.post({"Upload-Length": "5"}).status == 401
        url = client.create(5, {"X-User": "ann"})
        assert urlsplit(url).path.startswith("/media/files/")
        assert client.request("HEAD", url, {"X-User": "ann"}).status == 200
        assert client.request("HEAD", url, {"X-User": "bob"}).status == 404


def test_every_setting_named_exists() -> None:
    named = set(re.findall(r"TUSD_([A-Z0-9_]+)", README.text))
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_every_command_named_exists(tmp_path: Path) -> None:
    named = set(re.findall(r"(?m)(?:^|`)tusd-py ([a-z]+)", README.text))
    assert {"serve", "migrate"} <= named
    listed = run_program("--help", cwd=tmp_path).stdout
    for command in named:
        assert re.search(rf"(?m)^ +{command}\b", listed), command


def test_every_file_named_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.text):
        assert (ROOT / target).exists(), target
