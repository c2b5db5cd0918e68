"""A chaos run: the real program under everything that goes wrong, from one seed.

make chaos ARGS="--minutes 60 --seed 7"

The seed repeats what goes wrong and when, and what each client uploads and how it cuts it up. It
cannot repeat how threads and processes are scheduled: which request meets a fault differs.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import settle
from tests.chaos.clients import Client, Tally
from tests.chaos.schedule import Accident, Accidents, draw
from tests.chaos.world import Broken, World
from tests.support.engines import Engine
from tusd_py.demo.engine import EmbeddedS3
from tusd_storage.partplan import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is made of."""

    seed: int
    seconds: float
    database: str = "postgresql"
    clients: int = 6
    every_s: float = 3.0
    """Mean time between two accidents."""


class Chaos:
    """One run in a world of its own."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan = plan
        self.tally = Tally()
        self.world = world
        self.accidents = Accidents(world)
        self._started = time.monotonic()
        self._ends = self._started + plan.seconds

    async def run(self) -> dict[str, Any]:
        """The report. Never raises for a broken promise: the report says so."""
        failures: list[str] = []
        try:
            await self._attack()
            self.accidents.heal()
            self.world.journal.note("settling")
            await settle.settle(self.world, self.tally)
        except* Broken as broken:
            failures += [str(one) for one in _leaves(broken)]
        failures += [f"unexpected in a log: {line}" for line in self.world.crashes()[:20]]
        for failure in failures:
            self.world.journal.note(f"BROKEN {failure}")
        return self._report(failures)

    async def _attack(self) -> None:
        plan, world = self.plan, self.world
        clients = [Client(world, plan.seed, n, self.tally) for n in range(plan.clients)]
        async with asyncio.TaskGroup() as everything:
            for node in world.nodes.values():
                everything.create_task(node.keep())
            try:
                async with asyncio.TaskGroup() as people:
                    for client in clients:
                        people.create_task(client.run(self._over))
                    schedule = draw(plan.seed, plan.seconds, plan.every_s)
                    people.create_task(self._accidents(schedule))
            finally:
                for node in world.nodes.values():
                    node.wanted = False

    def _over(self) -> bool:
        return time.monotonic() > self._ends

    async def _accidents(self, schedule: Iterator[Accident]) -> None:
        await self.accidents.run(schedule)
        self.accidents.heal()

    def _report(self, failures: list[str]) -> dict[str, Any]:
        happened = self.accidents.counted()
        return {
            "seed": self.plan.seed,
            "seconds": round(time.monotonic() - self._started),
            "database": self.plan.database,
            "nodes": len(self.world.nodes),
            "clients": self.plan.clients,
            "clean": not failures,
            "failures": failures,
            "faults_happened": sum(happened.values()),
            "faults_by_kind": dict(sorted(happened.items())),
            "accidents_planned": dict(sorted(self.accidents.planned.items())),
            "impossible_here": self.world.impossible,
            "restarts": sum(sum(node.exits.values()) for node in self.world.nodes.values()),
            "exit_codes": {
                name: {str(code): n for code, n in sorted(node.exits.items())}
                for name, node in self.world.nodes.items()
            },
            "uploads": dict(sorted(self.tally.counts.items())),
            "bytes_uploaded": self.tally.bytes_uploaded,
            "bytes_sent": self.tally.bytes_sent,
            "answers": dict(sorted(self.tally.answers.items())),
        }


def _leaves(group: BaseExceptionGroup[Broken]) -> list[BaseException]:
    found: list[BaseException] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found


def text_of(report: dict[str, Any]) -> str:
    """The report for people."""
    faults = "\n".join(f"  {n:6}  {kind}" for kind, n in report["faults_by_kind"].items())
    uploads = "\n".join(f"  {n:6}  {kind}" for kind, n in report["uploads"].items())
    answers = ", ".join(f"{kind}: {n}" for kind, n in report["answers"].items())
    impossible = "".join(
        f"not possible here: {kind} ({why})\n" for kind, why in report["impossible_here"].items()
    )
    end = "clean" if report["clean"] else "BROKEN\n" + "\n".join(report["failures"])
    verb = "survived" if report["clean"] else "injected"
    return (
        f"chaos, seed {report['seed']}, {report['seconds']} s, {report['nodes']} nodes on "
        f"{report['database']}, {report['clients']} clients\n"
        f"{report['faults_happened']} faults {verb}:\n{faults}\n{impossible}"
        f"{report['restarts']} restarts, exit codes {report['exit_codes']}\n"
        f"uploads, {report['bytes_uploaded'] / MIB:.0f} MiB compared, "
        f"{report['bytes_sent'] / MIB:.0f} MiB sent:\n{uploads}\n"
        f"answers: {answers}\n{end}\n"
    )


def run(plan: Plan, engine: Engine, folder: Path) -> dict[str, Any]:
    """One run in `folder`; its report, also in `report.json` and `report.txt` there."""
    with World(folder, engine, database=plan.database) as world:
        report = asyncio.run(Chaos(plan, world).run())
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "report.txt").write_text(text_of(report))
    return report


def main() -> int:
    """0 when the run was clean."""
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two accidents")
    parser.add_argument("--output", type=Path, help="keep journal, logs and report in this folder")
    options = parser.parse_args()
    folder = options.output or Path(tempfile.mkdtemp(prefix="tusd-chaos-"))
    plan = Plan(
        seed=options.seed,
        seconds=options.minutes * 60,
        database=options.database,
        clients=options.clients,
        every_s=options.every,
    )
    with closing(_Store(folder / "s3")) as store:
        report = run(plan, store.engine, folder / "run")
    sys.stdout.write(text_of(report))
    if report["clean"] and options.output is None:
        shutil.rmtree(folder)
    else:
        sys.stdout.write(f"journal, logs and report: {folder / 'run'}\n")
    return 0 if report["clean"] else 1


class _Store:
    def __init__(self, folder: Path) -> None:
        self._embedded = EmbeddedS3.start(folder, bucket="chaos")
        self.engine = Engine(
            name="seaweed",
            endpoint=self._embedded.endpoint,
            access_key=self._embedded.access_key,
            secret_key=self._embedded.secret_key,
            region=self._embedded.region,
            bucket=self._embedded.bucket,
        )

    def close(self) -> None:
        self._embedded.kill()
        self._embedded.stop()


if __name__ == "__main__":
    raise SystemExit(main())
