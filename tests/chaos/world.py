"""What is attacked: server processes, each behind a line and before a store that can fail.

Owns the processes and their keepers, the database, the bucket, the journal and the model of every
file that was ever promised to a server. Decides nothing: what goes wrong comes from `schedule`.
"""

import asyncio
import hashlib
import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.chaos.machine import Clock, Disk, Impossible, mounted_disk
from tests.support.engines import Engine
from tests.support.fake_s3 import FakeS3, fake_s3
from tests.support.postgres import PostgresServer
from tests.support.process import ServerProcess, run_program
from tests.support.proxy import Proxy
from tests.support.tus import Bucket
from tusd_storage.partplan import MIB

DISK_SIZE = 96 * MIB
RESTART_S = 0.5
"""What a supervisor waits between two starts."""
SETTINGS = {
    "TUSD_LEASE_TTL": "3s",
    "TUSD_REAP_INTERVAL": "3s",
    "TUSD_REAP_GRACE": "5m",
    "TUSD_S3_DEADLINE_S": "8",
    "TUSD_BODY_IDLE_TIMEOUT": "10s",
    "TUSD_SHUTDOWN_TIMEOUT": "5s",
}
"""Short times, so that much happens. The grace is longer than the clocks differ."""


class Broken(AssertionError):
    """A promise was broken. The message says which, and by how much."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a client wanted to upload under a name."""

    length: int
    digest: bytes

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(len(data), hashlib.sha256(data).digest())


class Node:
    """One server process with all that surrounds it, kept running."""

    def __init__(self, name: str, server: ServerProcess, store: FakeS3, line: Proxy) -> None:
        self.name = name
        self.server = server
        self.store = store
        self.line = line
        self.clock: Clock | None = None
        self.disk: Disk | None = None
        self.exits: Counter[int] = Counter()
        self.wanted = True

    @property
    def endpoint(self) -> str:
        """Where its clients create uploads."""
        return self.server.uploads_url.replace(self.server.url, self.line.url)

    def signal(self, number: signal.Signals) -> bool:
        """To the process, from any thread; False when there is none."""
        with suppress(AssertionError, ProcessLookupError):
            pid = self.server.pid
            send = os.kill if number is signal.SIGTERM else os.killpg
            send(pid, number)
            return True
        return False

    async def keep(self) -> None:
        """Starts the process whenever it has ended, as a supervisor does."""
        while self.wanted:
            if not self.server.alive():
                await asyncio.to_thread(self._start_again)
                await asyncio.sleep(RESTART_S)
            await asyncio.sleep(0.05)

    def _start_again(self) -> None:
        if self.server.started:
            self.server.kill()
            code = self.server.exit_code
            assert code is not None
            self.exits[code] += 1
            if code < 0 and -code not in {signal.SIGKILL, signal.SIGTERM}:
                raise Broken(f"{self.name} crashed: {signal.Signals(-code).name}")
        self.server.start(wait=False)


@dataclass
class Journal:
    """What happened when, in seconds since the start."""

    path: Path
    started: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """One line."""
        line = f"{time.monotonic() - self.started:9.3f} {text}"
        self.lines.append(line)
        del self.lines[:-2000]
        with self.path.open("a") as file:
            file.write(line + "\n")


class World:
    """Nodes on one database and one bucket; a context manager that starts and ends all of it."""

    def __init__(self, folder: Path, engine: Engine, *, database: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._engine = engine
        self._stack = ExitStack()
        self._names = ("n1", "n2") if database == "postgresql" else ("n1",)
        self.database = database
        self.database_url = ""
        self.postgres: PostgresServer | None = None
        self.bucket = Bucket(engine, engine.prefix())
        self.nodes: dict[str, Node] = {}
        self.journal = Journal(folder / "journal.txt")
        self.contents: dict[str, Content] = {}
        """By file name: what any upload of that name must have become when it is complete."""
        self.kept: dict[str, str] = {}
        """Path of a finished upload that was left in place, to its file name."""
        self.impossible: dict[str, str] = {}
        """Kinds of faults that this machine does not allow, and why."""

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What a statement finds or changes. Raises: psycopg.Error when the server is down."""
        if self.database == "postgresql":
            with psycopg.connect(self.database_url, autocommit=True) as connection:
                done = connection.execute(sql.encode())
                return done.fetchall() if done.description else []
        path = self.database_url.removeprefix("sqlite:///")
        local = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            return local.execute(sql).fetchall()
        finally:
            local.close()

    def environment(self, node: Node, **extra: str) -> dict[str, str]:
        """For a command that runs beside a node, with a true clock and a working store."""
        true = {"TUSD_S3_ENDPOINT": self._engine.endpoint, "LD_PRELOAD": ""}
        return node.server.environment | true | extra

    def tails(self) -> list[str]:
        """Tail files of all nodes."""
        return [
            f"{node.name}/{tail.name}"
            for node in self.nodes.values()
            for tail in (node.server.tmp_dir / "tus").glob("*.tail")
        ]

    def crashes(self) -> list[str]:
        """Lines of the logs that no history may cause.

        A server that starts when the database goes away says so and ends, as it should.
        """
        return [
            line
            for node in self.nodes.values()
            for line in node.server.log().splitlines()
            if '"request_failed"' in line
            or ("Traceback" in line[:40] and "SettingsError" not in line)
        ]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.bucket.close)
            if self.database == "postgresql":
                self.postgres = PostgresServer()
                stack.callback(self.postgres.remove)
                self.postgres.start()
                self.postgres.execute("CREATE DATABASE chaos")
                self.database_url = self.postgres.url("chaos")
            else:
                self.database_url = f"sqlite:///{self._folder / 'n1' / 'data' / 'tusd.sqlite3'}"
            for name in self._names:
                self.nodes[name] = self._node(name, stack)
            first = next(iter(self.nodes.values()))
            first.server.data_dir.mkdir(parents=True, exist_ok=True)
            done = run_program(
                "migrate", extra_env={"TUSD_DATABASE_URL": self.database_url}, cwd=self._folder
            )
            assert done.returncode == 0, done.stderr
            for node in self.nodes.values():
                stack.push(node.server.__exit__)
                node.server.start()
            self._stack = stack.pop_all()
        return self

    def _node(self, name: str, stack: ExitStack) -> Node:
        folder = self._folder / name
        store = stack.enter_context(fake_s3(self._engine.endpoint))
        environment = SETTINGS | {
            "TUSD_NODE": name,
            "TUSD_S3_PREFIX": self.bucket.prefix,
            "TUSD_S3_ENDPOINT": store.endpoint,
        }
        clock = disk = None
        try:
            clock = Clock(folder)
            environment |= clock.environment
        except Impossible as error:
            self.impossible["clock"] = str(error)
        server = ServerProcess(
            folder, self._engine, database_url=self.database_url, extra_env=environment
        )
        try:
            disk = stack.enter_context(mounted_disk(server.tmp_dir, DISK_SIZE))
        except Impossible as error:
            self.impossible["disk"] = str(error)
        node = Node(name, server, store, stack.enter_context(Proxy(server.url)))
        node.clock, node.disk = clock, disk
        return node

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)
