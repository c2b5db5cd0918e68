"""The load balancers of `deploy/`, started with the files that are shipped.

Owns processes, ports and the few lines around a shipped file that make it run without privileges.
What a file leaves open it takes from variables, as its first lines say; nothing else is changed,
unless a test asks for it by `change`.

    with HAProxy(tmp_path, {"n1": a.port, "n2": b.port}) as balancer: ... balancer.url
"""

import http.client
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.support.engines import missing
from tests.support.process import POLL_S, ROOT, free_port

DEPLOY = ROOT / "deploy"
READY_S = 20.0

Change = Callable[[str], str]


def without_affinity(text: str) -> str:
    """HAProxy's file as somebody would write it who knows nothing of homes: round robin."""
    kept = [line for line in text.splitlines() if "use-server" not in line]
    changed = "\n".join(line for line in kept if "use_backend" not in line) + "\n"
    assert changed.count("balance leastconn") == 2
    return changed.replace("balance leastconn", "balance roundrobin")


class Balancer:
    """One running load balancer; a context manager."""

    program: ClassVar[str]
    shipped: ClassVar[Path]

    def __init__(
        self,
        folder: Path,
        nodes: Mapping[str, int],
        *,
        tail_loss: str = "fail",
        change: Change | None = None,
    ) -> None:
        self.port = free_port()
        self._folder = folder
        self._program = find(self.program)
        self._variables = {
            "UPLOADS_TAIL_LOSS": tail_loss,
            **{f"UPLOADS_{name.upper()}": f"127.0.0.1:{port}" for name, port in nodes.items()},
        }
        text = self.shipped.read_text()
        self._text = change(text) if change else text
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Root, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def uploads_url(self) -> str:
        """Where uploads are created."""
        return f"{self.url}/files/"

    def log(self) -> str:
        """What it has printed."""
        return (self._folder / "balancer.log").read_text(errors="replace")

    def command(self) -> list[str]:
        """Writes what the program reads; returns its command line, in the foreground."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder)} | self._variables
        with (self._folder / "balancer.log").open("wb") as log:
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
        """Returns when a node answers through it."""
        assert self._process is not None
        deadline = time.monotonic() + READY_S
        while not self._answers():
            ended = self._process.poll()
            assert ended is None, f"{self.program} ended with {ended}\n{self.log()}"
            assert time.monotonic() < deadline, f"{self.program} is not ready\n{self.log()}"
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class HAProxy(Balancer):
    """`deploy/haproxy/haproxy.cfg`."""

    program = "haproxy"
    shipped = DEPLOY / "haproxy" / "haproxy.cfg"

    def command(self) -> list[str]:
        file = self._folder / "haproxy.cfg"
        file.write_text(self._text)
        self._variables["UPLOADS_LISTEN"] = f"127.0.0.1:{self.port}"
        return [self._program, "-db", "-f", str(file)]


class Nginx(Balancer):
    """`deploy/nginx/tusd.conf.template`."""

    program = "nginx"
    shipped = DEPLOY / "nginx" / "tusd.conf.template"

    def command(self) -> list[str]:
        self._variables["UPLOADS_LISTEN"] = f"127.0.0.1:{self.port}"
        (self._folder / "tusd.conf").write_text(substitute(self._text, self._variables))
        folders = "".join(
            f"{name}_temp_path {self._folder / name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "nginx.conf").write_text(
            f"daemon off; pid {self._folder / 'pid'}; error_log stderr notice;\n"
            "worker_processes 1; events { worker_connections 1024; }\n"
            f"http {{ access_log off; {folders} include {self._folder / 'tusd.conf'}; }}\n"
        )
        if os.geteuid() == 0:  # workers would be somebody else, who cannot read a private folder
            with (self._folder / "nginx.conf").open("a") as file:
                file.write("user root;\n")
        prefix = f"{self._folder}/"
        return [self._program, "-p", prefix, "-c", "nginx.conf", "-e", "stderr"]


class Caddy(Balancer):
    """`deploy/caddy/Caddyfile`."""

    program = "caddy"
    shipped = DEPLOY / "caddy" / "Caddyfile"

    def command(self) -> list[str]:
        file = self._folder / "Caddyfile"
        file.write_text(self._text)
        self._variables["UPLOADS_SITE"] = f":{self.port}"
        return [self._program, "run", "--adapter", "caddyfile", "--config", str(file)]


BALANCERS: Mapping[str, type[Balancer]] = {"nginx": Nginx, "haproxy": HAProxy, "caddy": Caddy}


def substitute(template: str, variables: Mapping[str, str]) -> str:
    """What `envsubst` with a list of names does: other `$names` stay."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], found[0]), template)


def find(program: str) -> str:
    """Path of a program; without it the test is skipped, or fails under `CI=true`."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        missing(f"{program} is not installed; on Debian: apt install {program}")
    return path
