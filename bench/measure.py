"""One measurement: a fresh server in front of a fresh store, warmed up, driven, and read."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import machine, native
from bench.processes import Failed, clean_environment
from bench.servers import PEERS, Server, credentials
from bench.stores import open_store
from bench.workloads import MIB, Workload

LOAD_TIMEOUT_S = 600


@dataclass(frozen=True)
class Sample:
    """What one run of a workload on a server gave."""

    workload: str
    server: str
    round: int
    seconds: float = 0.0
    rate: float = 0.0
    """In the workload's unit."""
    cpu_s: float = 0.0
    """Until the server is quiet again."""
    cpu_at_end_s: float = 0.0
    """Until the last answer."""
    cpu: float = 0.0
    """In the workload's CPU unit."""
    peak_bytes: int = 0
    p50_s: float = 0.0
    p95_s: float = 0.0
    max_s: float = 0.0
    s3_requests: dict[str, int] = field(default_factory=dict)
    s3_per_upload: float = 0.0
    load_average: float = 0.0
    stolen: float = 0.0
    """What neighbours took of all the processors meanwhile, 0 to 1."""
    failure: str | None = None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def drive(cache: Path, port: int, path: str, arguments: list[str]) -> dict[str, float]:
    """Runs the load generator; its report. Raises Failed."""
    command = [str(native.build("load", cache)), *arguments, "--port", str(port), "--path", path]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {LOAD_TIMEOUT_S} s") from None
    if done.returncode:
        raise Failed((done.stderr or done.stdout).strip()[:300])
    report: dict[str, float] = json.loads(done.stdout)
    return report


def measure(server: Server, workload: Workload, number: int, *, cache: Path, data: Path) -> Sample:
    """A sample, with `failure` set where the server could not do it."""
    load_before = machine.load_average()
    try:
        with (
            open_store(workload.store, cache, data / "store") as store,
            server.program(cache, data / "server", store) as program,
        ):
            warm_up(cache, program.port, server.path)
            store.requests()
            stolen_before, began = machine.stolen_s(), time.monotonic()
            cpu_before = machine.cpu_s(program.pid)
            report = drive(cache, program.port, server.path, workload.arguments)
            cpu_at_end = machine.cpu_s(program.pid) - cpu_before
            passed = (time.monotonic() - began) * (os.cpu_count() or 1)
            stolen = (machine.stolen_s() - stolen_before) / passed
            requests = store.requests()
            cpu_s = machine.cpu_s(program.pid) - cpu_before
            peak = machine.peak_bytes(program.pid)
    except Failed as error:
        return Sample(workload.key, server.key, number, failure=str(error))
    answered, moved, seconds = int(report["requests"]), int(report["bytes"]), report["seconds"]
    return Sample(
        workload.key,
        server.key,
        number,
        seconds=seconds,
        rate=workload.amount(answered, moved) / seconds,
        cpu_s=cpu_s,
        cpu_at_end_s=cpu_at_end,
        cpu=workload.cpu(cpu_s, answered, moved),
        peak_bytes=peak,
        p50_s=report["p50"],
        p95_s=report["p95"],
        max_s=report["max"],
        s3_requests=requests,
        s3_per_upload=sum(requests.values()) / max(1, workload.uploads),
        load_average=load_before,
        stolen=stolen,
    )


def warm_up(cache: Path, port: int, path: str) -> None:
    """Imports, connections, prepared statements: everything that is paid once."""
    drive(cache, port, path, ["upload", "--uploads", "10", "--clients", "2", "--size", "20000"])
    drive(cache, port, path, ["upload", "--uploads", "2", "--size", str(11 * MIB)])


def measure_bare_loop(workload: Workload, number: int, *, cache: Path, data: Path) -> Sample:
    """boto3 without a server, on the same store."""
    with open_store(workload.store, cache, data / "store") as store:
        command = [sys.executable, str(PEERS / "bare_loop.py")]
        done = subprocess.run(
            [*command, str(workload.uploads), str(workload.size)],
            env=clean_environment(credentials(store)),
            capture_output=True,
            text=True,
            timeout=LOAD_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        return Sample(workload.key, "bare", number, failure=done.stderr[-300:])
    seconds = float(done.stdout)
    moved = workload.uploads * workload.size
    return Sample(workload.key, "bare", number, seconds=seconds, rate=moved / MIB / seconds)
