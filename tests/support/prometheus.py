"""A real Prometheus that scrapes a real server, asked as Grafana asks it.

with Prometheus(folder, [server.url], rules=ALERTS) as prometheus:
    samples = prometheus.query("sum(tusd_uploads_created)")
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from tests.support.foreground import Foreground

EVERY = "1s"
"""Scrapes, and evaluations of rules."""


class Prometheus(Foreground):
    """One process with its data in `folder`."""

    program = "prometheus"
    ready_path = "/-/ready"

    def __init__(self, folder: Path, targets: Sequence[str], *, rules: Path) -> None:
        super().__init__(folder)
        hosts = [urlsplit(target).netloc for target in targets]
        self._text = yaml.safe_dump(
            {
                "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY},
                "rule_files": [str(rules)],
                "scrape_configs": [{"job_name": "tusd-py", "static_configs": [{"targets": hosts}]}],
            }
        )

    def command(self) -> list[str]:
        file = self._folder / "prometheus.yml"
        file.write_text(self._text)
        return [
            self._program,
            f"--config.file={file}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now. Raises AssertionError when it cannot be evaluated."""
        answer = self._get(f"/api/v1/query?{urlencode({'query': expression})}")
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, and how its last evaluation went."""
        groups = self._get("/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.request(path)[1])
        return found
