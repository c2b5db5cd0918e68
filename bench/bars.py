"""What the figures have to reach, and whether they do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.measure import Sample
from bench.report import OWN, Results
from bench.workloads import MIB, Workload

MB = 1_000_000
PEERS = ("node", "litestar", "tuspyserver")
NAMES = {"node": "@tus/server", "litestar": "litestar-tus", "tusd": "tusd", "bare": "a boto3 loop"}


@dataclass(frozen=True, slots=True)
class Bar:
    """At least `factor` times the best of `of`, or a limit of our own figure."""

    what: str
    value: Callable[[Sample], float]
    least: float | None = None
    most: float | None = None
    of: tuple[str, ...] = ()

    def measured(self, results: Results, workload: str) -> float | None:
        """Our figure, or its ratio to the best of the others; None where one is missing."""
        own = results.middle(workload, OWN[0], self.value)
        if own is None or not self.of:
            return own
        others = [results.middle(workload, key, self.value) for key in self.of]
        best = max((other for other in others if other), default=None)
        return own / best if best else None

    def met(self, measured: float) -> bool:
        """Whether it is reached."""
        if self.least is not None and measured < self.least:
            return False
        return self.most is None or measured <= self.most


def _rate(sample: Sample) -> float:
    return sample.rate


def _times(factor: float, *of: str) -> Bar:
    names = " and ".join(NAMES[key] for key in of) if of != PEERS else "the best in Python and Node"
    return Bar(f"{factor:g} × {names}", _rate, least=factor, of=of)


def _cpu(most: float, unit: str) -> Bar:
    return Bar(f"{most:g} {unit}", lambda sample: sample.cpu, most=most)


def _memory(most: int) -> Bar:
    return Bar(f"{most} MB of memory", lambda sample: sample.peak_bytes / MB, most=most)


def _requests(most: int) -> Bar:
    return Bar(f"{most} S3 requests an upload", lambda sample: sample.s3_per_upload, most=most)


def _bars(row: Workload) -> list[Bar]:
    parts = -(-row.size // (5 * MIB))
    return {
        "A": [
            _times(6, "node"),
            _times(2, "litestar"),
            _times(1, "tusd"),
            _cpu(1.6, "CPU s/GiB"),
            _memory(120),
        ],
        "B": [_times(5, *PEERS), _times(1, "tusd")],
        "C": [_times(3, *PEERS), _times(1, "tusd"), _cpu(1.8, "CPU s/GiB"), _memory(250)],
        "D": [_times(8, "node"), _times(3, "tusd"), _cpu(3, "CPU ms"), _requests(1)],
        "E": [_times(12, *PEERS), _times(3, "tusd"), _requests(1)],
        "F": [
            Bar("2,000 requests/s", _rate, least=2000),
            _times(3, "tusd"),
            _requests(2),  # of the upload that is asked for, before
        ],
        "G": [_memory(120), _cpu(4, "CPU s")],
        "H": [_times(25, *PEERS), _times(3, "tusd"), _requests(parts + 2)],
        "A-weed": [_times(1, "bare")],
        "C-weed": [_times(1, "bare")],
        "A-delay": [_times(6, *PEERS)],
    }[row.key]


def table(results: Results, rows: list[Workload]) -> str:
    """Markdown: every bar, what was measured, and what is missed in bold."""
    lines = [
        "### Against the bars",
        "",
        "| | at least, or at most | measured | |",
        "|---|---|---:|---|",
    ]
    lines += [line for row in rows for line in _lines(results, row)]
    return "\n".join([*lines, ""])


def _lines(results: Results, row: Workload) -> Iterator[str]:
    for bar in _bars(row):
        measured = bar.measured(results, row.key)
        if measured is None:
            yield f"| {row.key} | {bar.what} | – | not measured |"
            continue
        shown = f"{measured:,.0f}" if measured >= 100 else f"{measured:.2f}"
        cell = f"{shown} ×" if bar.of else shown
        if bar.met(measured):
            yield f"| {row.key} | {bar.what} | {cell} | |"
        else:
            yield f"| {row.key} | {bar.what} | **{cell}** | missed |"
