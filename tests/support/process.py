"""The real server as a process: started on a free port, killed, stopped, paused, read.

Owns the process, its folder and its log. Knows nothing of tus: tests speak to `url` themselves.

    with ServerProcess(tmp_path / "a", store) as a:
        with ServerProcess(tmp_path / "b", store, database_url=a.database_url) as b: ...

gives two servers on one database and one bucket with tails of their own.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = (ROOT, ROOT / "storage", ROOT / "reaper")
POLL_S = 0.02


class Store(Protocol):
    """What a server must know of an S3 engine; `EmbeddedS3` is one."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without settings and credentials, able to import the source tree."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TUSD_", "AWS_", "COVERAGE_"))
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join(map(str, SOURCE_ROOTS)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return environment | dict(extra or {})


def program(*arguments: str) -> list[str]:
    """The command line of `tusd-py` with these arguments, under this interpreter."""
    return [sys.executable, "-m", "tusd_py.cli", *arguments]


def run_program(
    *arguments: str, extra_env: Mapping[str, str] | None = None, cwd: Path, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs `tusd-py` to its end."""
    return subprocess.run(
        program(*arguments),
        env=program_environment(extra_env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        check=False,
    )


class ServerFailed(AssertionError):
    """The server ended or was not ready in time; the message carries its log."""


class ServerProcess:
    """One `tusd-py` process in a folder of its own.

    `folder` holds data, tails and log, and stays over `restart`. `extra_env` and `arguments` come
    last and win. `executable`: an installed `tusd-py`, instead of the one of this tree.
    As a context manager it starts, waits until ready, and ends the whole group.
    """

    def __init__(
        self,
        folder: Path,
        store: Store | None = None,
        *,
        database_url: str | None = None,
        bucket: str | None = None,
        port: int | None = None,
        command: str = "serve",
        arguments: Sequence[str] = (),
        executable: Path | None = None,
        extra_env: Mapping[str, str] | None = None,
        ready_path: str = "/ready",
        ready_timeout_s: float = 90.0,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.tmp_dir = folder / "tmp"
        self.database_url = database_url or f"sqlite:///{self.data_dir / 'tusd.sqlite3'}"
        self.port = port or free_port()
        self.log_path = folder / "server.log"
        self.exit_code: int | None = None
        self.extra_env = dict(extra_env or {})
        self._store = store
        self._bucket = bucket
        wanted = [command, *arguments]
        self._command = [str(executable), *wanted] if executable else program(*wanted)
        self._ready_path = ready_path
        self._ready_timeout_s = ready_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Root of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def uploads_url(self) -> str:
        """Where uploads are created."""
        base = self.extra_env.get("TUSD_BASE_PATH", "/files/")
        return f"{self.url}{base.rstrip('/')}/"

    @property
    def pid(self) -> int:
        """Process id of the server, or of its supervisor when it has workers."""
        return self._running().pid

    @property
    def environment(self) -> dict[str, str]:
        """What the process gets."""
        variables = {
            "TUSD_HOST": "127.0.0.1",
            "TUSD_PORT": str(self.port),
            "TUSD_DATA_DIR": str(self.data_dir),
            "TUSD_TMP_DIR": str(self.tmp_dir),
            "TUSD_DATABASE_URL": self.database_url,
            "TUSD_LOG_FORMAT": "json",
        }
        if self._store:
            variables |= {
                "TUSD_S3_ENDPOINT": self._store.endpoint,
                "TUSD_S3_BUCKET": self._bucket or self._store.bucket,
                "TUSD_S3_ADDRESSING_STYLE": "path",
                "AWS_ACCESS_KEY_ID": self._store.access_key,
                "AWS_SECRET_ACCESS_KEY": self._store.secret_key,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        return program_environment(variables | self.extra_env)

    def start(self, *, wait: bool = True) -> Self:
        """Starts it; with `wait`, returns when it is ready.

        Raises:
            ServerFailed: it ended, or the time is over; it has then been killed.
        """
        assert self._process is None, "already started"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.exit_code = None
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Returns when the ready path answers 200. Raises ServerFailed, having killed it."""
        try:
            self._poll(self._answers_ready, self._ready_timeout_s, "not ready")
        except ServerFailed:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL to the process and its workers; returns when they are gone."""
        self._end(signal.SIGKILL, 10)

    def terminate(self, timeout_s: float = 40) -> int:
        """SIGTERM to the process; returns its exit code. Raises ServerFailed when it hangs."""
        return self._end(signal.SIGTERM, timeout_s)

    def interrupt(self, timeout_s: float = 40) -> int:
        """SIGINT, as Ctrl-C sends it, to the whole group; returns the exit code."""
        return self._end(signal.SIGINT, timeout_s)

    def restart(self) -> None:
        """kill -9 and start again, on the same port and folder."""
        if self._process:
            self.kill()
        self.start()

    def suspend(self) -> None:
        """SIGSTOP: the process hangs until `resume`, as on a paused machine."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.killpg(self.pid, signal.SIGCONT)

    @property
    def started(self) -> bool:
        """Whether there is a process, perhaps one that has ended by itself."""
        return self._process is not None

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout_s: float = 40) -> int:
        """Waits for the process to end by itself; returns its exit code."""
        process = self._running()
        try:
            self.exit_code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"still running\n{self.log()}") from None
        self._process = None
        return self.exit_code

    def log(self) -> str:
        """All it has written so far, over all starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for_log(self, text: str, timeout_s: float = 60) -> None:
        """Returns when the log contains the text. Raises ServerFailed."""
        self._poll(lambda: text in self.log(), timeout_s, f"no {text!r} in the log")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self.resume()
        try:
            self.terminate()
        except ServerFailed:
            if kind is None:
                raise

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def _end(self, number: signal.Signals, timeout_s: float) -> int:
        process = self._running()
        if process.poll() is None:
            # Ctrl-C and kill -9 hit the whole group; SIGTERM is the supervisor's to pass on.
            send = os.kill if number is signal.SIGTERM else os.killpg
            send(process.pid, number)
        try:
            return self.wait(timeout_s)
        finally:
            self._sweep(process.pid)
            process.wait(10)
            self._process = None

    @staticmethod
    def _sweep(group: int) -> None:
        """Whatever is left of the group must not outlive the test."""
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _poll(self, condition: Callable[[], bool], timeout_s: float, problem: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not self.alive():
                code = self._running().returncode
                raise ServerFailed(f"the server ended with {code}\n{self.log()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{problem} after {timeout_s} s\n{self.log()}")
            time.sleep(POLL_S)

    def _answers_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
