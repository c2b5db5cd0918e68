"""Hooks from outside: tusd's own example unchanged, and events that survive kill -9."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.engines import Engine
from tests.support.hook_server import Call, HookServer, Reply
from tests.support.process import ROOT, ServerProcess, free_port, run_program
from tests.support.tus import Bucket, TusClient, metadata, poll
from tests.support.wire import Wire, request_head

EXAMPLE = ROOT / "tests" / "clients" / "tusd-hooks" / "server.py"
# The example listens on a port of its own choice: only the address is another one here.
LAUNCHER = """
import http.server, runpy, sys
class Elsewhere(http.server.HTTPServer):
    def __init__(self, address, handler):
        super().__init__(("127.0.0.1", int(sys.argv[2])), handler)
http.server.HTTPServer = Elsewhere
runpy.run_path(sys.argv[1], run_name="__main__")
"""
DATA = b"x" * 100_000


@pytest.fixture
def example(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of tusd's example, and its output."""
    port, output = free_port(), tmp_path / "example.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", LAUNCHER, str(EXAMPLE), str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}", output
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def hooks() -> Iterator[HookServer]:
    with HookServer() as listening:
        yield listening


def program(folder: Path, engine: Engine, url: str, **settings: str) -> ServerProcess:
    """A server with hooks, not yet started."""
    given = {"TUSD_S3_PREFIX": engine.prefix(), "TUSD_HOOKS_HTTP": url}
    given |= {f"TUSD_{name.upper()}": value for name, value in settings.items()}
    return ServerProcess(folder, engine, extra_env=given)


def jobs(server: ServerProcess, *arguments: str) -> str:
    """What `tusd-py jobs` prints."""
    done = run_program("jobs", *arguments, extra_env=server.environment, cwd=server.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for_retry(server: ServerProcess) -> None:
    """Returns when a delivery has failed and waits for its next try."""
    server.wait_for_log("job_failed")
    poll(lambda: "hook:http" in jobs(server, "list", "--state", "queued"), timeout_s=30)


def test_tusds_own_example_runs_unchanged(
    seaweed: Engine, tmp_path: Path, example: tuple[str, Path]
) -> None:
    url, output = example
    with program(tmp_path / "server", seaweed, url) as server:
        client = TusClient(server.uploads_url)
        refused = client.post({"Upload-Length": "3"})
        assert (refused.status, refused.body) == (400, b"no filename provided")
        assert refused["X-Some-Header"] == "yes"

        pairs = metadata({"filename": "a.txt", "secret": "not kept"})
        location = client.create(len(DATA), metadata=pairs)
        upload_id = location.rpartition("/")[2]
        assert upload_id.partition("~")[2].startswith("prefix-")
        assert client.patch(location, 0, DATA).status == 204
        head = client.head(location)
        keys = [pair.partition(" ")[0] for pair in head["Upload-Metadata"].split(",")]
        assert keys == ["filename", "creation_time"]
        bucket = Bucket(seaweed, server.extra_env["TUSD_S3_PREFIX"])
        assert bucket.read(location) == DATA
        bucket.close()

        told = f"Upload {upload_id} ({len(DATA)} bytes) is finished. Find the file at:"
        poll(lambda: told in output.read_text(), timeout_s=30)
        assert "'Type': 's3store'" in output.read_text()
        assert client.request("DELETE", location).status == 204
        poll(lambda: "'Type': 'post-terminate'" in output.read_text(), timeout_s=30)


def test_killed_between_commit_and_delivery(
    seaweed: Engine, tmp_path: Path, hooks: HookServer
) -> None:
    with program(tmp_path, seaweed, hooks.url, work="false") as server:
        location = TusClient(server.uploads_url).upload(DATA)
        server.kill()
        assert hooks.of("post-finish") == []
        server.extra_env["TUSD_WORK"] = "true"
        server.start()
        [finished] = hooks.wait_for("post-finish")
        [created] = hooks.wait_for("post-create")
        assert hooks.url not in server.log()
    assert finished.upload["ID"] == created.upload["ID"] == location.rpartition("/")[2]


def test_the_id_is_the_same_over_failure_and_restart(
    seaweed: Engine, tmp_path: Path, hooks: HookServer
) -> None:
    hooks.answers["post-finish"] = Reply(status=500)
    with program(tmp_path, seaweed, hooks.url, hooks_enabled_events="post-finish") as server:
        TusClient(server.uploads_url).upload(DATA)
        wait_for_retry(server)
        server.kill()
        failed = len(hooks.of("post-finish"))
        hooks.answers.clear()
        server.start()
        calls = hooks.wait_for("post-finish", failed + 1, timeout_s=150)
    assert len({call.id for call in calls}) == 1
    assert [call.headers["webhook-attempt"] for call in calls][:2] == ["1", "2"]


def test_a_hook_that_is_down_over_a_restart(
    seaweed: Engine, tmp_path: Path, hooks: HookServer
) -> None:
    hooks.stop()
    with program(tmp_path, seaweed, hooks.url, hooks_enabled_events="post-finish") as server:
        TusClient(server.uploads_url).upload(DATA)
        wait_for_retry(server)
        server.kill()
        hooks.start()
        server.start()
        assert len(hooks.wait_for("post-finish", timeout_s=150)) == 1


def test_dead_letters_are_listed_and_replayed(
    seaweed: Engine, tmp_path: Path, hooks: HookServer
) -> None:
    hooks.answers["post-finish"] = Reply(status=410)
    with program(
        tmp_path, seaweed, hooks.url, hooks_enabled_events="post-finish", job_attempts="1"
    ) as server:
        TusClient(server.uploads_url).upload(DATA)
        server.wait_for_log("job_dead")

        [line] = jobs(server, "list", "--state", "dead").splitlines()
        assert "hook:http" in line and "it answered 410" in line
        hooks.answers.clear()
        jobs(server, "retry", line.split()[0])
        first, second = hooks.wait_for("post-finish", 2)
        assert first.id == second.id
        poll(lambda: not jobs(server, "list", "--state", "dead"), timeout_s=30)


def test_a_last_answer_that_was_lost_is_given_again(
    seaweed: Engine, tmp_path: Path, hooks: HookServer
) -> None:
    def answer(_: Call) -> dict[str, object]:
        number = str(len(hooks.of("pre-finish")))
        return {"HTTPResponse": {"Body": f"result {number}", "Header": {"X-Result": number}}}

    hooks.answers["pre-finish"] = answer
    with program(
        tmp_path, seaweed, hooks.url, hooks_enabled_events="pre-finish,post-finish"
    ) as server:
        client = TusClient(server.uploads_url)
        location = client.create(len(DATA))
        hooks.hold.clear()
        headers = {
            "Tus-Resumable": "1.0.0",
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
            "Content-Length": str(len(DATA)),
        }
        with Wire(server.port) as wire:
            wire.send(request_head("PATCH", urlsplit(location).path, headers))
            wire.send(DATA)
            hooks.wait_for("pre-finish")
        hooks.hold.set()  # nobody is there to hear what it says

        def said() -> str | None:
            head = client.head(location)
            return head["X-Result"] if head.status == 200 else None

        result = poll(said, timeout_s=30)
        again = client.patch(location, len(DATA))
        assert (again.status, again["X-Result"]) == (200, result)
        assert again.body.startswith(b"result ")
        server.restart()
        assert poll(said, timeout_s=30) == result
        after = client.patch(location, len(DATA))
        assert (after.status, after.body) == (200, again.body)
        asked = len(hooks.of("pre-finish"))
        assert client.head(location)["X-Result"] == result
        assert len(hooks.of("pre-finish")) == asked
