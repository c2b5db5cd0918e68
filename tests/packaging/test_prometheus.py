"""Dashboard and alert rules in a real Prometheus that scrapes a real server."""

import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.packaging.test_metrics_files import ALERTS, PAGE, alerts, dashboard
from tests.support.engines import Engine
from tests.support.foreground import find
from tests.support.hook_server import HookServer
from tests.support.metrics import scrape
from tests.support.process import ServerProcess
from tests.support.prometheus import Prometheus
from tests.support.tus import OFFSET_MEDIA_TYPE, TusClient, poll
from tests.support.wire import Wire, request_head

MIB = 1024 * 1024
VARIABLES = {"$instance": ".*", "$__rate_interval": "30s"}
"""As Grafana puts them in: all instances, and a window of some scrapes."""

NEEDS_TROUBLE = {"Not ok"}
"""Panels that have no data while the store does well."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A Prometheus, after some of everything."""

    prometheus: Prometheus
    instance: str


@pytest.fixture(scope="module")
def watched(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    settings = {"TUSD_REAP_INTERVAL": "1s", "TUSD_S3_PREFIX": seaweed.prefix()}
    with (
        HookServer() as hooks,
        ServerProcess(
            folder / "server", seaweed, extra_env=settings | {"TUSD_HOOKS_HTTP": hooks.url}
        ) as server,
        Prometheus(folder / "prometheus", [server.url], rules=ALERTS) as prometheus,
    ):
        tus = TusClient(server.uploads_url)

        def seen() -> float:
            return number(prometheus.query("sum(tusd_uploads_finished) or vector(-1)"))

        # Twice, with a scrape between: a rate needs a series that was there before.
        for finished in (1, 2):
            traffic(server, tus)
            poll(lambda: seen() == finished, timeout_s=30)  # noqa: B023 - polled here
        ended = "min(tusd_py_reaper_sweep_duration_seconds_count)"
        poll(lambda: number(prometheus.query(f"{ended} or vector(0)")) > 1, timeout_s=30)
        yield Watched(prometheus, server.url.partition("//")[2])


def traffic(server: ServerProcess, tus: TusClient) -> None:
    """One upload that meets an error and a broken line and is terminated; one of three parts."""
    url = tus.create(10)
    assert tus.patch(url, 3, b"1234567").status == 409
    head = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": OFFSET_MEDIA_TYPE,
        "Content-Length": "10",
    }
    with Wire(server.port) as wire:
        wire.send(request_head("PATCH", urlsplit(url).path, head), b"123")
    poll(lambda: tus.offset(url) == 3, timeout_s=30)
    assert tus.delete(url).status == 204
    tus.upload(bytes(10 * MIB + 5))


def number(samples: list[dict[str, Any]]) -> float:
    [sample] = samples
    return float(sample["value"][1])


def filled_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def targets() -> list[tuple[str, str]]:
    """Panel and expression."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard()["panels"]
        for target in panel.get("targets", [])
    ]


@pytest.mark.parametrize(("title", "expression"), targets())
def test_every_panel_has_data(watched: Watched, title: str, expression: str) -> None:
    samples = watched.prometheus.query(filled_in(expression))
    if title in NEEDS_TROUBLE:
        return
    values = [float(sample["value"][1]) for sample in samples]
    assert any(math.isfinite(value) for value in values), (title, values)


def test_the_variable_of_the_dashboard_names_the_servers(watched: Watched) -> None:
    [variable] = [v for v in dashboard()["templating"]["list"] if v["name"] == "instance"]
    assert variable["definition"] == "label_values(tusd_py_build_info, instance)"
    found = watched.prometheus.query("tusd_py_build_info")
    assert {sample["metric"]["instance"] for sample in found} == {watched.instance}


def test_the_overview_says_what_happened(watched: Watched) -> None:
    def now(title: str) -> float:
        [expression] = [e for panel, e in targets() if panel == title]
        return number(watched.prometheus.query(filled_in(expression)))

    assert (now("Database"), now("Workers"), now("Dead jobs")) == (1, 1, 0)
    assert (now("Uploads now"), now("Unfinished"), now("Server errors")) == (0, 0, 0)
    assert now("Acknowledged") > 0 and now("Finished in the last hour") > 0


def test_every_alert_is_evaluated_and_none_fires(watched: Watched) -> None:
    def evaluated() -> list[dict[str, Any]]:
        rules = watched.prometheus.rules()
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = poll(evaluated, timeout_s=30)
    assert [rule["name"] for rule in rules] == [rule["alert"] for rule in alerts()]
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule
        assert rule["state"] == "inactive", rule


def test_promtool_reads_rules_and_configuration(tmp_path: Path) -> None:
    done = promtool("check", "rules", "--lint-fatal", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in done.stdout
    example = PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    config = tmp_path / "prometheus.yml"
    config.write_text(example)
    assert list(yaml.safe_load(example)) == ["scrape_configs"]
    done = promtool("check", "config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_keeps_all_that_is_told(watched: Watched) -> None:
    kept = watched.prometheus.query('{__name__=~"tusd_.*|process_.*"}')
    names = {sample["metric"]["__name__"] for sample in kept}
    assert names == set(scrape(f"http://{watched.instance}").samples())


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
