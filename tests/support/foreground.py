"""A server of somebody else's, as a process in the foreground: nginx, HAProxy, Caddy, Prometheus.

Owns the process, its port and its log. What it reads and how it is called, its kind says.
"""

import http.client
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.support.engines import missing
from tests.support.process import POLL_S, free_port

READY_S = 20.0


class Foreground:
    """One running program; a context manager, entered when the program answers."""

    program: ClassVar[str]
    ready_path: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._program = find(self.program)
        self._variables: dict[str, str] = {}
        """Of its environment."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Root, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def _log_path(self) -> Path:
        return self._folder / f"{self.program}.log"

    def log(self) -> str:
        """What it has printed."""
        return self._log_path.read_text(errors="replace")

    def command(self) -> list[str]:
        """Writes what the program reads; returns its command line, in the foreground."""
        raise NotImplementedError

    def request(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET. Raises: OSError, HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder)} | self._variables
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        group = self._process.pid
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(group, number)
                self._process.wait(3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._process.wait(10)
        self._process = None

    def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_S
        while not self._answers():
            ended = self._process.poll()
            assert ended is None, f"{self.program} ended with {ended}\n{self.log()}"
            assert time.monotonic() < deadline, f"{self.program} is not ready\n{self.log()}"
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        try:
            return self.request(self.ready_path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


def find(program: str) -> str:
    """Path of a program; without it the test is skipped, or fails under `CI=true`."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        missing(f"{program} is not installed; on Debian: apt install {program}")
    return path
