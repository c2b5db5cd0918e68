"""Tables of medians and ratios from samples."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from bench.measure import Sample
from bench.servers import Server
from bench.workloads import MIB, Workload

OWN = ("tusd-py", "tusd-py-fast")
NO_PEERS = (*OWN, "bare", "rustus")  # the last two do something else


class Results:
    """All samples of a run, by workload and server."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        for sample in samples:
            self._samples.setdefault((sample.workload, sample.server), []).append(sample)

    def good(self, workload: str, server: str) -> list[Sample]:
        """The runs that ended well."""
        return [s for s in self._samples.get((workload, server), []) if s.failure is None]

    def failure(self, workload: str, server: str) -> str | None:
        """Why there is no good run; None when there is, or when it was not tried."""
        samples = self._samples.get((workload, server), [])
        if not samples or self.good(workload, server):
            return None
        return samples[-1].failure

    def middle(self, workload: str, server: str, value: Callable[[Sample], float]) -> float | None:
        """The median over the rounds."""
        samples = self.good(workload, server)
        return median(map(value, samples)) if samples else None

    def spread(self, workload: str, server: str) -> float:
        """(largest - smallest) / median of the rate."""
        rates = [s.rate for s in self.good(workload, server)]
        return (max(rates) - min(rates)) / median(rates) if len(rates) > 1 else 0.0


def tables(results: Results, rows: Sequence[Workload], columns: Sequence[Server]) -> str:
    """Markdown: speed with ratios, processor time, memory, S3 requests, latency."""
    extra = [("bare", "boto3 loop")]
    names = [(server.key, server.title) for server in columns]

    def table(
        title: str,
        value: Callable[[Sample], float],
        label: Callable[[Workload], str],
        *,
        bare: bool = False,
        ratio: bool = False,
    ) -> list[str]:
        shown = names + (extra if bare else [])
        lines = [f"### {title}", ""]
        head = ["", "", *(name for _, name in shown), *(["best peer", "ratio"] if ratio else [])]
        lines += [_row(head), _row(["---", "---", *["---:"] * (len(head) - 2)])]
        for row in rows:
            middles = {key: results.middle(row.key, key, value) for key, _ in shown}
            if not any(middle is not None for middle in middles.values()):
                continue
            cells = [row.key, label(row)]
            for key, _ in shown:
                failed = results.failure(row.key, key)
                cells.append("failed" if failed else _number(middles[key]))
            if ratio:
                cells += _ratio(middles)
            lines.append(_row(cells))
        return [*lines, ""]

    blocks = [
        table(
            "Speed (median)",
            lambda s: s.rate,
            lambda w: f"{w.title}, {w.unit}",
            bare=True,
            ratio=True,
        ),
        table("Processor time of the server", lambda s: s.cpu, lambda w: w.cpu_unit),
        table("Peak resident memory, MiB", lambda s: s.peak_bytes / MIB, lambda w: w.title),
        table("S3 requests per upload", lambda s: s.s3_per_upload, lambda w: w.title),
        table("Latency of one request, 95th percentile, ms", lambda s: s.p95_s * 1e3, _title),
    ]
    return "\n".join(line for block in blocks for line in block)


def notes(results: Results, rows: Sequence[Workload], columns: Sequence[Server]) -> str:
    """What failed, and how much the runs of one cell differ."""
    lines = []
    for row in rows:
        for server in columns:
            failed = results.failure(row.key, server.key)
            if failed:
                lines.append(f"- {row.key}, {server.title}, failed: `{failed.splitlines()[0]}`")
    spreads = [
        (results.spread(row.key, server.key), row.key, server.title)
        for row in rows
        for server in columns
    ]
    worst = sorted(spreads, reverse=True)[:5]
    if worst and worst[0][0]:
        told = ", ".join(f"{key} {title} {spread:.0%}" for spread, key, title in worst if spread)
        lines.append(f"- Largest differences between runs of one cell (of its median): {told}.")
    return "\n".join(lines)


def _ratio(middles: dict[str, float | None]) -> list[str]:
    peers = [value for key, value in middles.items() if value and key not in NO_PEERS]
    own = middles.get(OWN[0])
    if not peers or not own:
        return ["", ""]
    return [_number(max(peers)), f"**{own / max(peers):.1f}×**"]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _title(workload: Workload) -> str:
    return workload.title


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
