"""The program as an operator meets it: starting, refusing to start, stopping, leaving nothing."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.postgres import postgres_server
from tests.support.process import (
    ServerFailed,
    ServerProcess,
    free_port,
    program,
    program_environment,
    run_program,
)

TUS = {"Tus-Resumable": "1.0.0"}
OCTETS = {"Content-Type": "application/offset+octet-stream"}


def ask(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> dict[str, str]:
    """Headers of the answer, in lower case."""
    request = urllib.request.Request(url, method=method, headers=headers, data=body or None)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def start_endless_upload(server: ServerProcess) -> tuple[str, socket.socket]:
    """An upload of 1 MiB whose PATCH has sent a thousand bytes and goes on for ever."""
    created = ask("POST", server.uploads_url, TUS | {"Upload-Length": str(1024 * 1024)})
    path = created["location"].removeprefix(server.url)
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head = f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {1024 * 1024}\r\n"
    head += "".join(f"{n}: {v}\r\n" for n, v in (TUS | OCTETS | {"Upload-Offset": "0"}).items())
    connection.sendall(head.encode() + b"\r\n" + b"a" * 1000)
    time.sleep(0.3)  # nothing tells from outside that the body is being read
    return server.url + path, connection


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    return [
        int(text)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for text in (task / "children").read_text().split()
    ]


# -- Stopping


def test_sigterm_keeps_what_arrived_and_ends_soon(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, seaweed) as server:
        url, connection = start_endless_upload(server)
        started = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - started < 9  # `shutdown_timeout` is 10
        connection.close()
        assert "Traceback" not in server.log()
        server.start()
        assert ask("HEAD", url, TUS)["upload-offset"] == "1000"


def test_ctrl_c_is_a_stop_like_any_other(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, seaweed) as server:
        assert server.interrupt() == 0
        assert "Traceback" not in server.log()


def test_workers_share_the_port_and_stop_in_order(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, seaweed, extra_env={"TUSD_WORKERS": "2"}) as server:
        workers = children(server.pid)
        url, connection = start_endless_upload(server)
        assert server.terminate() == 0
        connection.close()
        until(lambda: not [pid for pid in workers if alive(pid)])
        assert "Traceback" not in server.log()
        server.start()
        assert ask("HEAD", url, TUS)["upload-offset"] == "1000"


def test_workers_do_not_outlive_a_killed_supervisor(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, seaweed, extra_env={"TUSD_WORKERS": "2"}) as server:
        workers = children(server.pid)
        assert workers
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not [pid for pid in workers if alive(pid)])


def test_two_servers_on_one_database_and_bucket(seaweed: Engine, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path / "a", seaweed) as a,
        ServerProcess(tmp_path / "b", seaweed, database_url=a.database_url) as b,
    ):
        created = ask("POST", a.uploads_url, TUS | {"Upload-Length": "7"})
        path = created["location"].removeprefix(a.url)
        assert ask("HEAD", b.url + path, TUS)["upload-length"] == "7"


def test_logs_are_json_and_name_the_server(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, seaweed) as server:
        lines = [json.loads(line) for line in server.log().splitlines()]
    assert any("Uvicorn running" in str(line["event"]) for line in lines)
    assert seaweed.secret_key not in server.log()


def test_no_answer_names_the_software_behind_it(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, seaweed) as server:
        assert "server" not in ask("GET", f"{server.url}/health", {})


# -- Refusing to start


def test_a_missing_bucket_is_one_sentence(seaweed: Engine, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, seaweed, bucket="there-is-none")
    server.start(wait=False)
    assert server.wait() == 2
    (line,) = server.log().splitlines()
    assert line.startswith("tusd-py: The bucket 'there-is-none' cannot be used")
    assert "TUSD_S3_BUCKET" in line


def test_a_store_that_is_down_is_waited_for(seaweed: Engine, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = {"TUSD_S3_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with ServerProcess(tmp_path, seaweed, extra_env=nobody, ready_path="/health") as server:
            server.wait_for_log("the store does not answer")


def test_a_store_with_an_unknown_name_has_a_sentence_of_its_own(
    seaweed: Engine, tmp_path: Path
) -> None:
    nowhere = {"TUSD_S3_ENDPOINT": "http://s3.nowhere.invalid:9000"}
    with ServerProcess(tmp_path, seaweed, extra_env=nowhere, ready_path="/health") as server:
        server.wait_for_log("the host name of the store cannot be resolved")
        assert "the store does not answer" not in server.log()
    doctor = run_program("doctor", extra_env=server.environment, cwd=tmp_path)
    assert doctor.returncode == 1
    (line,) = [line for line in doctor.stdout.splitlines() if "store.bucket" in line]
    assert "The host name of the store cannot be resolved." in line
    assert "TUSD_S3_ENDPOINT" in doctor.stdout


def test_an_old_postgresql_schema_names_the_command(seaweed: Engine, tmp_path: Path) -> None:
    with postgres_server().database() as url:
        server = ServerProcess(tmp_path, seaweed, database_url=url)
        server.start(wait=False)
        assert server.wait() == 2
        (line,) = server.log().splitlines()
        assert "run `tusd-py migrate`" in line
        done = run_program("migrate", extra_env={"TUSD_DATABASE_URL": url}, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with server:
            assert server.alive()


def test_a_taken_port_is_one_sentence(seaweed: Engine, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "a", seaweed) as first:
        second = ServerProcess(tmp_path / "b", seaweed, port=first.port)
        with pytest.raises(ServerFailed, match=r"Port \d+ on 127\.0\.0\.1 cannot be listened on"):
            second.start(wait=False).wait_for_log("never said")


# -- dev


@pytest.mark.usefixtures("seaweed")  # skips where the engine is not installed
def test_dev_brings_everything_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        program("dev", "--port", str(port)),
        env=program_environment(),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        uploads = re.search(r"Uploads +(\S+)", said)
        assert uploads and str(port) in uploads[1]
        beside = re.search(r"Terminal +(\S.*)", said)
        assert beside and beside[1].endswith(" uploads ls")
        command = shlex.split(beside[1])[:-2]

        def run(*arguments: str) -> tuple[int, str, str]:
            done = subprocess.run(
                [*command, *arguments],
                env=program_environment(),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            return done.returncode, done.stdout, done.stderr

        code, listed, told = run("uploads", "ls")
        assert (code, listed) == (0, "") and "there are no uploads yet" in told
        code, listed, told = run("jobs", "list")
        assert (code, listed) == (0, "") and "there are no jobs" in told
        assert json.loads(run("jobs", "list", "--json")[1]) == []
        code, listed, told = run("doctor")
        assert code == 0, listed + told
        created = ask("POST", uploads[1], TUS | OCTETS | {"Upload-Length": "5"}, b"hello")
        url = urllib.request.urlopen(f"http://localhost:{port}{created['location']}", timeout=20)
        with url as answer:
            assert answer.read() == b"hello"
        with urllib.request.urlopen(f"http://localhost:{port}/", timeout=20) as page:
            assert "script-src" in page.headers["Content-Security-Policy"] or (
                "default-src 'self'" in page.headers["Content-Security-Policy"]
            )
        assert created["location"].rpartition("/")[2][:8] in run("uploads", "ls")[1]
        with urllib.request.urlopen(f"http://localhost:{port}/operator/", timeout=20) as page:
            assert " uploads ls</code>" in page.read().decode()
        family = [*children(process.pid)]
        assert family
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0, rest
        assert "Traceback" not in said + rest
        until(lambda: not [pid for pid in family if alive(pid)])
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_an_unknown_aws_profile_is_refused_in_a_sentence(tmp_path: Path) -> None:
    result = run_program(
        "serve",
        extra_env={"TUSD_S3_BUCKET": "bucket", "AWS_PROFILE": "nonsense"},
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert "AWS_PROFILE" in result.stderr
    assert "Traceback" not in result.stderr
