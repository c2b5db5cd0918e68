"""What a small upload costs at least: a creation with upload, by more and more of a server.

make bench-floor

Each row does what the one above does and one thing more, with the parts the server itself uses. The
rest up to "tusd-py" is the protocol, the lease, telemetry and the promotion. What the first rows
take no change of the server can save.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench import machine
from bench.measure import drive
from bench.processes import Failed, Program, free_port
from bench.servers import Server, credentials, servers
from bench.stores import Store, null_s3

ROOT = Path(__file__).resolve().parents[1]
SIZE = 100 * 1024
UPLOADS = 1000
LOAD = ["upload", "--clients", "16", "--size", str(SIZE), "--with-creation", "--uploads"]
STAGES = {
    "receive": "the body is received, and 201 answered",
    "put": "... and PutObject",
    "rows": "... and the two commits: created, completed",
}
PEERS = {"tusd-py": "tusd-py, all of it", "tusd": "tusd, all of it"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a small upload costs at least.")
    parser.add_argument("--rounds", type=int, default=3)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=home / "tusd-py-bench")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    whole = {server.key: server for server in servers(None) if server.key in PEERS}
    for key, server in list(whole.items()):
        try:
            server.install(options.cache)
        except Exception as error:
            print(f"skipped: {key}: {error}", file=sys.stderr)
            del whole[key]
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for name in [*STAGES, *whole]:
            found.setdefault(name, []).append(one(name, whole.get(name), options.cache))
    print(page(found))
    return 0


def one(name: str, server: Server | None, cache: Path) -> tuple[float, float]:
    """Uploads per second, and CPU milliseconds of the server for one."""
    folder = Path(tempfile.mkdtemp(prefix="floor-", dir=cache))
    try:
        with (
            null_s3(cache, folder / "store") as store,
            started(name, server, cache, folder, store) as (program, path),
        ):
            drive(cache, program.port, path, [*LOAD, "100"])
            store.requests()
            before = machine.cpu_s(program.pid)
            seen = drive(cache, program.port, path, [*LOAD, str(UPLOADS)])
            store.requests()
            if seen["failures"]:
                raise Failed(f"{name}: {seen['failures']:.0f} uploads failed")
            cpu_s = machine.cpu_s(program.pid) - before
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return UPLOADS / seen["seconds"], 1000 * cpu_s / UPLOADS


@contextmanager
def started(
    name: str, server: Server | None, cache: Path, folder: Path, store: Store
) -> Iterator[tuple[Program, str]]:
    """The program to be measured, and where it takes uploads."""
    if server is not None:
        with server.program(cache, folder / "server", store) as program:
            yield program, server.path
        return
    port = free_port()
    environment = {
        **credentials(store),
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "storage", "reaper")),
    }
    command = [str(cache / "own" / "bin" / "python"), "-m", "bench.floor_parts", name, str(port)]
    with Program(
        name, command, port=port, path="/files/", folder=folder / "app", environment=environment
    ) as program:
        yield program, "/files/"


def page(found: dict[str, list[tuple[float, float]]]) -> str:
    """A table."""
    lines = [
        f"{UPLOADS} creations with upload of {SIZE // 1024} KiB, 16 at once",
        machine.description(),
        f"{datetime.now(UTC):%Y-%m-%d}, medians of {len(next(iter(found.values())))} rounds",
        "",
        "| what is done | uploads/s | CPU ms |",
        "| --- | ---: | ---: |",
    ]
    for name, samples in found.items():
        rate = statistics.median(rate for rate, _ in samples)
        cpu_ms = statistics.median(cpu for _, cpu in samples)
        lines.append(f"| {(STAGES | PEERS)[name]} | {rate:,.0f} | {cpu_ms:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
