"""The stores behind the servers: a null S3, the same one with a delay, and SeaweedFS on tmpfs."""

import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import native
from bench.processes import Program, free_port

DELAY_MS = 20
SETTLE_S = 1.5
SETTLE_MAX_S = 15.0
BUCKET = "uploads"
TMPFS = Path("/dev/shm")


@dataclass(frozen=True)
class Store:
    """Where a server puts its objects. `stats` is there for the null S3 only."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str = BUCKET
    region: str = "us-east-1"
    counts: bool = False

    def requests(self) -> dict[str, int]:
        """Requests by operation since the last call; empty where nobody counts.

        Waits until there are no more: some servers go on in the background.
        """
        if not self.counts:
            return {}
        deadline = time.monotonic() + SETTLE_MAX_S
        before, quiet_since = self._ask("stats"), time.monotonic()
        while time.monotonic() < min(deadline, quiet_since + SETTLE_S):
            time.sleep(0.1)
            seen = self._ask("stats")
            if seen != before:
                before, quiet_since = seen, time.monotonic()
        return self._ask("reset")

    def _ask(self, what: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.endpoint}/-/{what}", timeout=10) as answer:
            return {name: n for name, n in json.load(answer)["operations"].items() if n}


@contextmanager
def null_s3(cache: Path, folder: Path, *, delay_ms: int = 0) -> Iterator[Store]:
    """The C program of `nulls3/`."""
    port = free_port()
    command = [str(native.build("nulls3", cache)), str(port), "--delay", str(delay_ms)]
    with Program("nulls3", command, port=port, path="/-/stats", folder=folder):
        yield Store(f"http://127.0.0.1:{port}", "null", "null", counts=True)


@contextmanager
def seaweed() -> Iterator[Store]:
    """SeaweedFS with its data in memory."""
    from tusd_py.demo.engine import EmbeddedS3

    folder = Path(tempfile.mkdtemp(prefix="tusd-py-bench-", dir=TMPFS))
    try:
        engine = EmbeddedS3.start(folder, bucket=BUCKET)
        try:
            yield Store(engine.endpoint, engine.access_key, engine.secret_key)
        finally:
            engine.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_store(name: str, cache: Path, folder: Path) -> Iterator[Store]:
    """`null`, `delay` or `seaweed`."""
    if name == "seaweed":
        with seaweed() as store:
            yield store
    else:
        delay_ms = DELAY_MS if name == "delay" else 0
        with null_s3(cache, folder, delay_ms=delay_ms) as store:
            yield store
