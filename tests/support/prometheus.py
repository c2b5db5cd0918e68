"""A real Prometheus that scrapes a real server, asked as Grafana asks it.

with Prometheus(folder, [server.url], rules=ALERTS) as prometheus:
    samples = prometheus.query("sum(tusd_uploads_created)")
"""

import http.client
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import yaml

from tests.support.balancers import find
from tests.support.process import free_port

READY_S = 30
POLL_S = 0.05
SCRAPE_S = 1


class Prometheus:
    """One process with its data in `folder`; scrapes and evaluates every second."""

    def __init__(self, folder: Path, targets: Sequence[str], *, rules: Path) -> None:
        self._folder = folder
        self._program = find("prometheus")
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.config = folder / "prometheus.yml"
        every = f"{SCRAPE_S}s"
        hosts = [urlsplit(target).netloc for target in targets]
        self._text = yaml.safe_dump(
            {
                "global": {"scrape_interval": every, "evaluation_interval": every},
                "rule_files": [str(rules)],
                "scrape_configs": [{"job_name": "tusd-py", "static_configs": [{"targets": hosts}]}],
            }
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now. Raises AssertionError when it cannot be evaluated."""
        answer = self._get(f"/api/v1/query?{urlencode({'query': expression})}")
        assert answer["status"] == "success", (expression, answer)
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        found: list[dict[str, Any]] = data["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, and how its last evaluation went."""
        groups = self._get("/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def log(self) -> str:
        """What it has printed."""
        return (self._folder / "prometheus.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self._text)
        command = [
            self._program,
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
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
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_S
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        try:
            return self._ask("/-/ready")[0] == 200
        except OSError:
            return False

    def _get(self, path: str) -> dict[str, Any]:
        _, body = self._ask(path)
        found: dict[str, Any] = json.loads(body)
        return found

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
