"""Several nodes of the server on one PostgreSQL database and one bucket, each with its own disk.

with Cluster(tmp_path, seaweed) as cluster:
    cluster["n1"].kill()
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.support.engines import Engine
from tests.support.postgres import postgres_server
from tests.support.process import ServerProcess, run_program
from tests.support.tus import Bucket

NODES = ("n1", "n2")


class Cluster:
    """Nodes `n1` and `n2`; a context manager that starts them all and ends them all."""

    def __init__(
        self,
        folder: Path,
        store: Engine,
        *,
        tail_loss: str = "fail",
        extra_env: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._store = store
        self._stack = ExitStack()
        self._env = {"TUSD_S3_PREFIX": store.prefix(), "TUSD_TAIL_LOSS": tail_loss}
        self._env |= dict(extra_env or {})
        self.tail_loss = tail_loss
        self.database_url = ""
        self.nodes: dict[str, ServerProcess] = {}
        self.bucket = Bucket(store, self._env["TUSD_S3_PREFIX"])

    def __getitem__(self, name: str) -> ServerProcess:
        return self.nodes[name]

    @property
    def ports(self) -> dict[str, int]:
        """Name to port, as a balancer takes them."""
        return {name: node.port for name, node in self.nodes.items()}

    def other(self, name: str) -> ServerProcess:
        """The node that is not this one."""
        return next(node for each, node in self.nodes.items() if each != name)

    def tails(self, name: str) -> list[Path]:
        """Tail files on a node's disk."""
        return sorted((self.nodes[name].tmp_dir / "tus").glob("*.tail"))

    def lose_disk(self, name: str) -> None:
        """What a dead machine takes with it. The node must not run."""
        assert not self.nodes[name].alive()
        shutil.rmtree(self.nodes[name].tmp_dir)
        shutil.rmtree(self.nodes[name].data_dir, ignore_errors=True)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        """A node's log lines with this event."""
        lines = [line for line in self.nodes[name].log().splitlines() if event in line]
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line.get("event") == event]

    def logs(self) -> str:
        """The end of every node's log, for a failing test."""
        return "\n".join(f"{name}:\n{node.log()[-4000:]}" for name, node in self.nodes.items())

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.database_url = stack.enter_context(postgres_server().database())
            stack.callback(self.bucket.close)
            done = run_program(
                "migrate", extra_env={"TUSD_DATABASE_URL": self.database_url}, cwd=Path("/")
            )
            assert done.returncode == 0, done.stderr
            for name in NODES:
                self.nodes[name] = ServerProcess(
                    self._folder / name,
                    self._store,
                    database_url=self.database_url,
                    extra_env=self._env | {"TUSD_NODE": name},
                )
            for node in self.nodes.values():
                stack.push(node.__exit__)
                node.start(wait=False)
            for node in self.nodes.values():
                node.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)
