"""What does not grow: the cost of a request with the upload, with the number of uploads, with time.

make bench-growth                       a few minutes
make bench-growth ARGS="--rows 1000000" the reaper over a million dead uploads

Everything in front of the null S3, SQLite, defaults. Prints a page.
"""

import argparse
import http.client
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import machine
from bench.measure import drive, warm_up
from bench.processes import Program, clean_environment
from bench.servers import PART_SIZE, Launch, Server, credentials, servers
from bench.stores import Store, null_s3
from bench.workloads import MIB

PARTS = (1, 100, 1_000, 9_000)
OPEN = 100_000
SMALL = 4096
PATCHES = 100
HEADS = 500


def main() -> int:
    options = parse()
    options.cache.mkdir(parents=True, exist_ok=True)
    own = {server.key: server for server in servers(None)}["tusd-py"]
    print(f"{machine.description()}\n")
    for name, part in (
        ("parts", parts_of_one_upload),
        ("open", open_uploads),
        ("rows", dead_rows),
        ("workers", workers),
    ):
        if not options.only or name in options.only.split(","):
            part(own, options)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Measure what must not grow.")
    parser.add_argument("--only", default="", help="of parts,open,rows,workers")
    parser.add_argument("--rows", type=int, default=100_000, help="dead uploads for the reaper")
    parser.add_argument("--cache", type=Path, default=home / "tusd-py-bench")
    return parser.parse_args()


class Bench:
    """A server in front of the null S3, in a folder that is gone afterwards."""

    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self.server, self.cache = server, options.cache
        self.folder = Path(tempfile.mkdtemp(prefix="growth-", dir=options.cache))
        self.store_context = null_s3(options.cache, self.folder / "store")
        self.program: Program | None = None

    def __enter__(self) -> "Bench":
        self.store = self.store_context.__enter__()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.store_context.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        self.program = self.server.program(self.cache, self.folder / "server", self.store)
        self.program.__enter__()
        warm_up(self.cache, self.program.port, self.server.path)

    def stop(self) -> None:
        if self.program is not None:
            self.program.__exit__(None, None, None)
            self.program = None

    @property
    def database(self) -> Path:
        return next((self.folder / "server").rglob("tusd.sqlite3"))

    def client(self) -> "Client":
        assert self.program is not None
        return Client(self.program.port, self.program.pid)

    def reap(self) -> tuple[float, float, int]:
        """One pass of the reaper: its wall and processor seconds, and its peak memory."""
        launch = self.server.launch(self.cache, 9, self.folder / "server", self.store)
        environment = clean_environment({**credentials(self.store), **launch.environment})
        command = [launch.command[0], "-m", "tusd_py.cli", "reap", "--apply"]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"tusd-py reap ended with {process.returncode}")
        seconds = time.perf_counter() - started
        return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


class Client:
    """One connection of a tus client."""

    def __init__(self, port: int, pid: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self._pid = pid
        self.offset = 0
        self.url = ""

    def create(self, length: int) -> None:
        """A new upload."""
        answer = self._ask("POST", "/files/", {"Upload-Length": str(length)})
        assert answer.status == 201, answer.status
        self.url = (answer.headers["Location"] or "").split("/files/")[-1]
        self.offset = 0

    def patch(self, size: int, block: bytes) -> None:
        """Appends `size` bytes, a repetition of `block`."""
        sending = (block[: min(len(block), size - at)] for at in range(0, size, len(block)))
        headers = {
            "Upload-Offset": str(self.offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(size),
        }
        answer = self._ask("PATCH", f"/files/{self.url}", headers, sending)
        assert answer.status == 204, answer.status
        self.offset += size

    def head(self) -> None:
        """Where the upload stands."""
        answer = self._ask("HEAD", f"/files/{self.url}", {})
        assert answer.headers["Upload-Offset"] == str(self.offset)

    def timed(self, times: int, call: Callable[[], None]) -> tuple[float, float]:
        """Median milliseconds of a call, and the server's processor milliseconds for each."""
        seconds = []
        before = machine.cpu_s(self._pid)
        for _ in range(times):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        used = machine.cpu_s(self._pid) - before
        return statistics.median(seconds) * 1e3, used / times * 1e3

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: object = None
    ) -> http.client.HTTPResponse:
        self._connection.request(
            method,
            path,
            body=body,  # type: ignore[arg-type]
            headers={"Tus-Resumable": "1.0.0", **headers},
            encode_chunked=False,
        )
        answer = self._connection.getresponse()
        answer.read()
        return answer


def parts_of_one_upload(server: Server, options: argparse.Namespace) -> None:
    """HEAD and a small PATCH of one upload that has more and more parts."""
    print("## One upload that grows\n")
    print("| parts stored | PATCH of 4 KiB, ms | CPU ms | HEAD, ms | CPU ms |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    block = os.urandom(8 * MIB)
    with Bench(server, options) as bench:
        client = bench.client()
        client.create((PARTS[-1] + 2) * PART_SIZE)
        for parts in PARTS:
            client.patch(parts * PART_SIZE - client.offset, block)
            patch = client.timed(PATCHES, lambda: client.patch(SMALL, block))
            head = client.timed(HEADS, client.head)
            print(
                f"| {parts:,} | {patch[0]:.2f} | {patch[1]:.2f} | {head[0]:.2f} | {head[1]:.2f} |"
            )
    print()


def open_uploads(server: Server, options: argparse.Namespace) -> None:
    """HEAD and a small PATCH among more and more open uploads."""
    print("## Many open uploads\n")
    print("| open uploads | PATCH of 4 KiB, ms | CPU ms | HEAD, ms | CPU ms | resident, MiB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with Bench(server, options) as bench:
        for count in (0, OPEN):
            bench.stop()
            multiply(bench.database, count, state="signed")
            bench.start()
            client = bench.client()
            client.create(100 * MIB)
            patch = client.timed(PATCHES, partial(client.patch, SMALL, bytes(SMALL)))
            head = client.timed(HEADS, client.head)
            assert bench.program is not None
            resident = machine.resident_bytes(bench.program.pid) / MIB
            print(
                f"| {count:,} | {patch[0]:.2f} | {patch[1]:.2f} | {head[0]:.2f} | {head[1]:.2f}"
                f" | {resident:.0f} |",
                flush=True,
            )
    print()


def dead_rows(server: Server, options: argparse.Namespace) -> None:
    """A pass of the reaper over uploads that expired, and one over what it left."""
    print("## The reaper over uploads that have expired\n")
    print("| rows | seconds | rows/s | CPU s | peak memory, MiB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for count in (options.rows // 10, options.rows):
        with Bench(server, options) as bench:
            bench.stop()
            multiply(bench.database, count, state="signed", expired=True)
            seconds, cpu, peak = bench.reap()
            left = (
                sqlite3.connect(bench.database)
                .execute("SELECT count(*) FROM upload_sessions WHERE state = 'signed'")
                .fetchone()[0]
            )
            print(
                f"| {count:,} | {seconds:.1f} | {count / seconds:,.0f} | {cpu:.1f}"
                f" | {peak / MIB:.0f} |" + (f" {left} left!" if left > 1 else ""),
                flush=True,
            )
    print()


def multiply(database: Path, count: int, *, state: str, expired: bool = False) -> None:
    """Copies the newest session so often, each with an id and a key of its own."""
    connection = sqlite3.connect(database)
    names = [row[1] for row in connection.execute("PRAGMA table_info(upload_sessions)")]
    now = time.time_ns() // 1000
    hour = 3_600_000_000
    new: dict[str, object] = {
        "id": "'bench~' || printf('%012d', n.value) || hex(randomblob(6))",
        "object_key": "'bench/' || printf('%012d', n.value)",
        "asset_id": "NULL",
        "state": f"'{state}'",
        "upload_id": "NULL",
        "length": "1000",
        '"offset"': "0",
        "parts_count": "0",
        "parts_size": "0",
        "tail_node": "NULL",
        "etag": "NULL",
        "crc32": "NULL",
        "completed_at": "NULL",
        "creation_key": "NULL",
        "created_at": f"{now - 48 * hour}",
        "updated_at": f"{now - (30 if expired else 0) * hour}",
        "expires_at": f"{now - hour if expired else now + 24 * hour}",
    }
    columns = [f'"{name}"' for name in names]
    values = [str(new.get(name, new.get(f'"{name}"', f's."{name}"'))) for name in names]
    # Only names from the schema and values from above.
    connection.execute(
        f"INSERT INTO upload_sessions ({', '.join(columns)})"
        " WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?)"
        f" SELECT {', '.join(values)} FROM n,"
        " (SELECT * FROM upload_sessions WHERE protocol = 'tus' LIMIT 1) s WHERE n.value <= ?",
        (max(1, count), count),
    )
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def workers(server: Server, options: argparse.Namespace) -> None:
    """The same server with one and with two processes on its port."""
    print("## Processes on one port\n")
    print("| --workers | 100 KiB uploads/s | 8 × 128 MiB at once, MiB/s | HEAD/s |")
    print("| ---: | ---: | ---: | ---: |")
    for count in (1, 2):
        several = with_workers(server, count)
        with Bench(several, options) as bench:
            assert bench.program is not None
            port = bench.program.port
            shapes = (
                ["upload", "--uploads", "1000", "--clients", "16", "--size", "102400"],
                ["upload", "--uploads", "8", "--clients", "8", "--size", str(128 * MIB)],
                ["head", "--requests", "10000", "--clients", "16", "--size", "9", "--chunk", "5"],
            )
            small, large, head = (drive(options.cache, port, server.path, list(s)) for s in shapes)
            print(
                f"| {count} | {1000 / small['seconds']:,.0f}"
                f" | {large['bytes'] / MIB / large['seconds']:,.0f}"
                f" | {head['requests'] / head['seconds']:,.0f} |",
                flush=True,
            )
    print()


def with_workers(server: Server, count: int) -> Server:
    """The server with so many processes."""

    def launch(cache: Path, port: int, folder: Path, store: Store) -> Launch:
        one = server.launch(cache, port, folder, store)
        return Launch(one.command, {**one.environment, "TUSD_WORKERS": str(count)})

    return replace(server, launch=launch)


if __name__ == "__main__":
    sys.exit(main())
