"""Many slow uploads and a fast one beside them: memory, fairness, and whether anybody is lost.

make bench-load
make bench-load ARGS="--slow 300 --rate 16384 --seconds 20"

One server with its defaults in front of the null S3. The fast upload is measured alone, then
`slow` uploads trickle, and it is measured again beside them. Resident memory is that of the
server's process and its children, read four times a second over the whole run.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine, native
from bench.measure import drive, warm_up
from bench.processes import Failed
from bench.servers import servers
from bench.stores import open_store

MIB = 2**20
SETTLE_S = 4.0
"""Until the slow ones have all been created and send."""
EVERY_S = 0.25
MEMORY_LIMIT = 200 * MIB
FAIR_SHARE = 0.5


@dataclass
class Report:
    """What one run showed."""

    slow: int
    rate: int
    """Bytes per second of each slow upload."""
    alone: list[float] = field(default_factory=list)
    """MiB/s of the fast upload, each time, alone."""
    beside: list[float] = field(default_factory=list)
    slow_report: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    """What a slow upload takes when nobody holds it up."""
    peak_bytes: int = 0
    idle_bytes: int = 0
    cpu_s: float = 0.0

    @property
    def share(self) -> float:
        """Of its lone speed, what the fast upload kept."""
        return statistics.median(self.beside) / statistics.median(self.alone)

    @property
    def problems(self) -> list[str]:
        """What was promised and not kept."""
        found = []
        if self.peak_bytes >= MEMORY_LIMIT:
            found.append(f"memory: {self.peak_bytes / MIB:.0f} MiB")
        if self.share < FAIR_SHARE:
            found.append(f"the fast upload kept {self.share:.0%} of its speed")
        if self.slow_report["failures"]:
            found.append(f"{self.slow_report['failures']:.0f} slow uploads failed")
        return found

    def page(self) -> str:
        """For people."""
        slow = self.slow_report
        lines = [
            f"{self.slow} slow uploads at {self.rate / 1024:.0f} KiB/s, and a fast one",
            f"{machine.description()}, load average {machine.load_average():.1f}",
            "",
            f"fast upload alone         {_speeds(self.alone)}",
            f"fast upload beside them   {_speeds(self.beside)}   {self.share:.0%}",
            f"resident memory           {self.idle_bytes / MIB:.0f} MiB before, "
            f"{self.peak_bytes / MIB:.0f} MiB at most",
            f"slow uploads              {slow['failures']:.0f} failed, {slow['seconds']:.1f} s "
            f"for all (unhindered: {self.seconds:.1f} s), last answer after {slow['max']:.1f} s",
            f"processor                 {self.cpu_s:.1f} s while the slow ones ran",
        ]
        return "\n".join([*lines, *(f"NOT KEPT: {problem}" for problem in self.problems)])


def _speeds(values: list[float]) -> str:
    each = ", ".join(f"{value:.0f}" for value in values)
    return f"{statistics.median(values):6.0f} MiB/s (of {each})"


class Memory:
    """Watches the resident memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self.peak = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most that was seen, in bytes."""
        self._ended.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.peak = max(self.peak, machine.resident_bytes(self._pid))


def fast(options: argparse.Namespace, port: int) -> float:
    """MiB/s of one upload at full speed."""
    report = drive(options.cache, port, "/files/", ["upload", "--size", str(options.fast_size)])
    return options.fast_size / MIB / report["seconds"]


def run(options: argparse.Namespace, data: Path) -> Report:
    """One whole run. Raises Failed."""
    report = Report(options.slow, options.rate, seconds=options.seconds)
    server = servers(settings=dict(options.setting))[0]
    with (
        open_store(options.store, options.cache, data / "store") as store,
        server.program(options.cache, data / "server", store) as program,
    ):
        warm_up(options.cache, program.port, server.path)
        report.alone = [fast(options, program.port) for _ in range(options.rounds)]
        report.idle_bytes = machine.resident_bytes(program.pid)
        memory = Memory(program.pid)
        cpu_before = machine.cpu_s(program.pid)
        with _trickle(options, program.port) as slow:
            time.sleep(SETTLE_S)
            while slow.poll() is None and len(report.beside) < options.rounds:
                report.beside.append(fast(options, program.port))
            if slow.poll() is not None:
                report.beside = report.beside[:-1]  # the last one had a part of its way for itself
            out, err = slow.communicate(timeout=600)
        report.cpu_s = machine.cpu_s(program.pid) - cpu_before
        report.peak_bytes = memory.stop()
        if not report.beside:
            raise Failed(f"no fast upload ended in time: --seconds is too short; {err[:200]}")
        report.slow_report = json.loads(out)
    return report


def _trickle(options: argparse.Namespace, port: int) -> subprocess.Popen[str]:
    size = int(options.rate * options.seconds)
    command = [str(native.build("load", options.cache)), "trickle", "--port", str(port)]
    command += ["--path", "/files/", "--rate", str(options.rate), "--size", str(size)]
    command += ["--uploads", str(options.slow), "--clients", str(options.slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main() -> int:
    """Prints the page; the exit code is 1 when something promised was not kept."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Many slow uploads and a fast one.")
    parser.add_argument("--slow", type=int, default=1000, help="slow uploads at once")
    parser.add_argument("--rate", type=int, default=64 * 1024, help="bytes/s of each")
    parser.add_argument("--seconds", type=float, default=45, help="that each takes")
    parser.add_argument("--rounds", type=int, default=3, help="fast uploads, one after another")
    parser.add_argument("--fast-size", type=int, default=512 * MIB)
    parser.add_argument("--store", default="null", choices=["null", "delay", "seaweed"])
    parser.add_argument(
        "--setting",
        type=lambda text: text.split("=", 1),
        action="append",
        default=[],
        help="of the server, as in TUSD_MEMORY_BUDGET=32MiB",
    )
    parser.add_argument("--cache", type=Path, default=home / "tusd-py-bench")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="load-", dir=options.cache))
    try:
        report = run(options, data)
    except Failed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(data, ignore_errors=True)
    print(report.page())
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
