"""Reading `/metrics` as Prometheus does: scrape, parse, look up."""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

PATH = "/metrics"


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer. Raises AssertionError for what no Prometheus could read."""

    families: dict[str, Metric]
    """By the name in the `# TYPE` line."""

    def value(self, name: str, **labels: str) -> float:
        """The sample with exactly these labels; 0 when there is none."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        assert len(found) <= 1, found
        return found[0] if found else 0.0

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples with at least these labels."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        """Every value of a label."""
        return {
            sample.labels[label]
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and label in sample.labels
        }

    def samples(self) -> Iterator[str]:
        """The names of all samples."""
        for family in self.families.values():
            for sample in family.samples:
                yield sample.name


def scrape(url: str, path: str = PATH) -> Scrape:
    """What the server at `url` tells now."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, (answer.status, body)
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    finally:
        connection.close()
    return parse(body)


def _as_told(sample: Sample, told: set[str]) -> Sample:
    """The client library gives every counter's name an end that not all have."""
    return (
        sample if sample.name in told else sample._replace(name=sample.name.removesuffix("_total"))
    )


def parse(text: str) -> Scrape:
    """The families of a text; each name has one type and one help."""
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(types) == len(set(types)), "a metric is described twice"
    told = {line.partition("{")[0].split()[0] for line in text.splitlines() if line[:1] != "#"}
    families = list(text_string_to_metric_families(text))
    for family in families:
        family.samples = [_as_told(sample, told) for sample in family.samples]
    assert all(family.type != "unknown" for family in families), "a metric without a type"
    return Scrape(dict(zip(types, families, strict=True)))
