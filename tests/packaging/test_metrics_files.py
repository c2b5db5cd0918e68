"""Dashboard, alert rules and docs/metrics.md, held against what a real server tells."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.engines import Engine
from tests.support.metrics import Scrape, scrape
from tests.support.process import ServerProcess
from tests.support.tus import TusClient, poll

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "tusd-py.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
PAGE = ROOT / "docs" / "metrics.md"

NAME = re.compile(r"\b((?:tusd|process)_[a-z0-9_]+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
ADDED = {"instance", "le"}
"""Labels that Prometheus itself and histograms add."""


@pytest.fixture(scope="module")
def told(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrape]:
    """A server after some of everything."""
    settings = {"TUSD_REAP_INTERVAL": "1s", "TUSD_S3_PREFIX": seaweed.prefix()}
    folder = tmp_path_factory.mktemp("server")
    with ServerProcess(folder, seaweed, extra_env=settings) as server:
        tus = TusClient(server.uploads_url)
        tus.upload(b"some bytes")
        url = tus.create(10)
        assert tus.patch(url, 3, b"1234567").status == 409
        assert tus.delete(url).status == 204

        def swept() -> bool:
            now = scrape(server.url)
            return bool(now.total("tusd_py_reaper_sweep_duration_seconds_count"))

        poll(swept, timeout_s=60)
        yield scrape(server.url)


def described() -> dict[str, tuple[str, set[str]]]:
    """Type and labels by name, as the page tells."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[0].startswith("`"):
            name = cells[0].strip("`")
            assert name not in found, name
            found[name] = cells[1], set(re.findall(r"`(\w+)`", cells[2]))
            assert cells[3], f"{name} is not explained"
    return found


def labels_of(told: Scrape) -> dict[str, set[str]]:
    """The labels of every sample name; those of a histogram's parts are its own."""
    return {
        sample.name: set(sample.labels) - {"le"}
        for family in told.families.values()
        for sample in family.samples
    }


def test_the_page_tells_of_every_metric_and_of_no_other(told: Scrape) -> None:
    page = described()
    assert {name: kind for name, (kind, _) in page.items()} == {
        name: family.type for name, family in told.families.items()
    }
    for name, family in told.families.items():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == page[name][1], name


def test_everything_there_is_was_seen(told: Scrape) -> None:
    """What has no sample here would be compared with nothing."""
    unseen = {name for name, family in told.families.items() if not family.samples}
    assert unseen == set()


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def queries() -> list[str]:
    return [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])
    ]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check(expression: str, told: Scrape) -> None:
    """Raises AssertionError for a metric or label that no server tells."""
    labels = labels_of(told)
    used = NAME.findall(expression)
    assert used, expression
    known: set[str] = set(ADDED)
    for name, matchers in used:
        assert name in labels, f"{name} in {expression}"
        known |= labels[name]
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
            assert label in labels[name] | ADDED, f"{label} of {name} in {expression}"
    for group in GROUPED.findall(expression):
        assert {label.strip() for label in group.split(",")} <= known, expression
    assert expression.count("(") == expression.count(")"), expression


def test_the_dashboard_asks_only_for_what_there_is(told: Scrape) -> None:
    for expression in queries():
        check(expression, told)


def test_the_dashboard_shows_every_metric_of_this_server() -> None:
    shown = {name for expression in queries() for name, _ in NAME.findall(expression)}
    missing = {
        name
        for name in described()
        if not {name, f"{name}_bucket", f"{name}_count"} & shown
        and name != "tusd_s3_request_duration_ms"  # its histogram is shown
    }
    assert missing == set()


def test_the_dashboard_can_be_imported() -> None:
    loaded = dashboard()
    panels = loaded["panels"]
    assert [p["title"] for p in panels if p["type"] == "row"] == [
        *("Overview", "Traffic", "Storage", "Trouble", "Reaper and jobs", "Process")
    ]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    cells = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells, f"{panel['title']} covers another panel"
                cells.add((x, y))
    sources = {
        target["datasource"]["uid"] for panel in panels for target in panel.get("targets", [])
    }
    assert sources == {"${datasource}"}


def test_alerts_ask_only_for_what_there_is_and_say_what_is_wrong(told: Scrape) -> None:
    for rule in alerts():
        check(rule["expr"], told)
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} == set(rule["annotations"])
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
