"""Measures tusd-py and its peers, one workload after the other, the servers in turn.

make bench                      everything, three rounds: about an hour; RESULTS.md
make bench-quick                smaller, one round: a few minutes
make bench ARGS="--only A,H --servers tusd-py,node --rounds 5"
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import bars, machine, native, report
from bench.measure import Sample, drive, measure, measure_bare_loop
from bench.processes import Failed, Program, free_port
from bench.servers import Missing, Server, servers
from bench.workloads import GIB, MIB, Workload, workloads

HERE = Path(__file__).resolve().parent
RULER = [
    ("1 GiB in one PATCH", ["upload", "--size", str(GIB)]),
    ("100 KiB uploads", ["upload", "--uploads", "3000", "--clients", "16", "--size", "102400"]),
    ("HEAD", ["head", "--requests", "20000", "--clients", "16", "--size", "9", "--chunk", "5"]),
]


def main() -> int:
    options = parse()
    options.cache.mkdir(parents=True, exist_ok=True)
    rows = [row for row in workloads(quick=options.quick) if chosen(row.key, options.only)]
    started = datetime.now(UTC)
    columns, versions, skipped = install(options)
    print("the load generator against a sink:", file=sys.stderr)
    limits = ruler(options.cache)
    samples: list[Sample] = []
    text = ""
    for sample in run(rows, columns, options):
        samples.append(sample)
        print(described(sample, rows), file=sys.stderr, flush=True)
        results = report.Results(samples)
        text = page(results, rows, columns, versions, skipped, limits, started, options)
        if options.output:  # after each: a run that is ended early leaves what it has
            about = {
                "started": started.isoformat(timespec="seconds"),
                "machine": machine.description(),
                "versions": versions,
                "skipped": skipped,
                "load_generator": limits,
            }
            options.output.write_text(text)
            lines = (json.dumps(record) for record in [about, *(s.as_json() for s in samples)])
            options.output.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")
    print(text)
    return 1 if any(s.failure and s.server in report.OWN for s in samples) else 0


def parse() -> argparse.Namespace:
    """The command line."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Measure tusd-py and its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer bytes, one round")
    parser.add_argument("--rounds", type=int, help="rounds over all servers [3; quick: 1]")
    parser.add_argument("--only", default="", help="workloads, as in A,D,H")
    parser.add_argument("--servers", default="", help="servers, as in tusd-py,node")
    parser.add_argument("--database-url", help="PostgreSQL for tusd-py instead of SQLite")
    parser.add_argument(
        "--cache", type=Path, default=home / "tusd-py-bench", help="where peers are installed"
    )
    parser.add_argument(
        "--data", type=Path, help="where servers keep their state: a real disk [in the cache]"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="write the page there, raw data beside it [a run of everything: RESULTS.md]",
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    if not options.output and not (options.quick or options.only or options.servers):
        options.output = HERE / "RESULTS.md"
    return options


def install(options: argparse.Namespace) -> tuple[list[Server], dict[str, str], dict[str, str]]:
    """The servers that can be measured, their versions, and why others cannot."""
    columns, versions, skipped = [], {}, {}
    for server in servers(options.database_url):
        if not chosen(server.key, options.servers):
            continue
        try:
            versions[server.title] = server.install(options.cache)
            columns.append(server)
        except Missing as error:
            skipped[server.title] = str(error)
            print(f"skipped: {server.title}: {error}", file=sys.stderr)
    return columns, versions, skipped


def ruler(cache: Path) -> dict[str, str]:
    """What the load generator reaches against a server that does nothing."""
    limits = {}
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(native.build("nulls3", cache)), str(port)]
        with Program("sink", command, port=port, path="/-/stats", folder=Path(folder)):
            for title, arguments in RULER:
                seen = drive(cache, port, "/-/sink/", arguments)
                if seen["bytes"] > GIB / 2:
                    rate = f"{seen['bytes'] / MIB / seen['seconds']:,.0f} MiB/s"
                else:
                    rate = f"{seen['requests'] / seen['seconds']:,.0f} requests/s"
                limits[title] = f"{rate}, {seen['cpu_s']:.2f} CPU s"
                print(f"  {title}: {limits[title]}", file=sys.stderr)
    return limits


def run(
    rows: list[Workload], columns: list[Server], options: argparse.Namespace
) -> Iterator[Sample]:
    """A B A B …: each round of a workload asks all servers, before the next round."""
    parent = options.data or options.cache
    for row in rows:
        for number in range(options.rounds):
            order = columns[number % len(columns) :] + columns[: number % len(columns)]
            for server in order:
                if row.store != "null" and not server.uses_store:
                    continue
                with scratch(parent) as folder:
                    yield measure(server, row, number, cache=options.cache, data=folder)
            if row.store == "seaweed":
                with scratch(parent) as folder:
                    yield measure_bare_loop(row, number, cache=options.cache, data=folder)


class scratch:  # noqa: N801 - used like a function
    """A folder that is gone afterwards."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent

    def __enter__(self) -> Path:
        self._parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._parent))
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def chosen(name: str, wanted: str) -> bool:
    """Whether a list like `A,H` names it; an empty list names everything."""
    return not wanted or name in wanted.split(",")


def described(sample: Sample, rows: list[Workload]) -> str:
    """One line for whoever waits."""
    row = next(row for row in rows if row.key == sample.workload)
    begin = f"{row.key:8} {sample.server:13}"
    if sample.failure:
        return f"{begin} failed: {sample.failure}"
    return (
        f"{begin} {sample.rate:9.1f} {row.unit:10} {sample.cpu:7.2f} {row.cpu_unit:14}"
        f" {sample.peak_bytes / MIB:6.0f} MiB  {sample.s3_per_upload:6.1f} S3 requests/upload"
        f"  p95 {sample.p95_s * 1e3:.1f} ms  (load {sample.load_average:.1f})"
    )


def page(
    results: report.Results,
    rows: list[Workload],
    columns: list[Server],
    versions: dict[str, str],
    skipped: dict[str, str],
    limits: dict[str, str],
    started: datetime,
    options: argparse.Namespace,
) -> str:
    """RESULTS.md."""
    given = " ".join(
        f"--{name} {value}"
        for name, value in (("only", options.only), ("servers", options.servers))
        if value
    )
    command = f"make bench{'-quick' if options.quick else ''}"
    command += f' ARGS="{given}"' if given else ""
    lines = [
        "# Results",
        "",
        f"Made by `{command}` on {started:%Y-%m-%d}, medians of {options.rounds} rounds; "
        "what is measured and how to repeat it is in [README.md](README.md).",
        "",
        f"Machine: {machine.description()}. Server, store and load generator share it.",
        "",
        *(f"- {name}: {version}" for name, version in versions.items()),
        *(f"- {server.title}: {server.note}." for server in columns if server.note),
        *(f"- {name} is missing: {why}" for name, why in skipped.items()),
        "",
        "The load generator alone, against a sink: "
        + "; ".join(f"{name}: {limit}" for name, limit in limits.items())
        + ".",
        "",
        report.tables(results, rows, columns),
        bars.table(results, rows),
        "What is missed has its profile in [PROFILES.md](PROFILES.md).",
        "",
        "## Noise",
        "",
        f"- Load average before the runs: {of_all(results, rows, columns, 'load_average', '.1f')}.",
        "- What the machine's neighbours took of its processors during a run: "
        f"{of_all(results, rows, columns, 'stolen', '.0%')}.",
        report.notes(results, rows, columns),
        "",
    ]
    return "\n".join(lines)


def of_all(
    results: report.Results,
    rows: list[Workload],
    columns: list[Server],
    name: str,
    form: str,
) -> str:
    """A field of all samples: from, to, median."""
    values: list[float] = sorted(
        getattr(sample, name)
        for row in rows
        for server in columns
        for sample in results.good(row.key, server.key)
    )
    if not values:
        return "–"
    least, middle, most = values[0], values[len(values) // 2], values[-1]
    return f"{least:{form}} to {most:{form}}, median {middle:{form}}"


def leave(_number: int, _frame: object) -> None:
    """Unwinds, so that everything that was started is stopped."""
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(f"bench: {failed}")
