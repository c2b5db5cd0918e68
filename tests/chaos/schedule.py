"""What goes wrong, and when: a list drawn from a seed alone, and how each thing is done."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tests.chaos.world import Node, World
from tests.support import fake_s3
from tests.support.fake_s3 import Answer, Call, Hang, Reset, Slow, Truncate
from tusd_storage.partplan import MIB

OPERATIONS = {
    "UploadPart": 8,
    "CompleteMultipartUpload": 6,
    "CreateMultipartUpload": 4,
    "PutObject": 4,
    "HeadObject": 2,
    "UploadPartCopy": 2,
    "AbortMultipartUpload": 1,
    "DeleteObject": 1,
}
"""S3 requests that are hit, and how often."""

CLOCK_S = 60
"""How far a clock goes wrong, either way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accident:
    """One thing that goes wrong. `number` and `size` mean what its kind makes of them."""

    at_s: float
    kind: str
    node: int
    operation: str
    executed: bool
    number: float
    size: int

    def __str__(self) -> str:
        at = "after" if self.executed else "before"
        return f"{self.kind} n{self.node + 1} {at} {self.operation} {self.number:.2f} {self.size}"


KINDS = {
    "kill": 5,
    "kill at S3 request": 9,
    "terminate": 3,
    "pause past the lease": 2,
    "connection cut": 10,
    "connection reset": 6,
    "answer lost": 8,
    "all connections cut": 3,
    "S3 500": 4,
    "S3 503 SlowDown": 4,
    "S3 200 with an error": 4,
    "S3 no answer": 1,
    "S3 slow": 3,
    "S3 reset": 5,
    "S3 answer truncated": 2,
    "database stopped": 2,
    "database crashed": 2,
    "disk full": 3,
    "clock jumped": 3,
}
"""Every kind, and how often it is drawn."""


def draw(seed: int, seconds: float, every_s: float) -> Iterator[Accident]:
    """The schedule of a run: the same for the same arguments."""
    chance = random.Random(f"{seed} schedule")
    kinds, weights = list(KINDS), list(KINDS.values())
    at_s = 1.0
    while at_s < seconds:
        yield Accident(
            at_s=at_s,
            kind=chance.choices(kinds, weights)[0],
            node=chance.randrange(2),
            operation=chance.choices(list(OPERATIONS), list(OPERATIONS.values()))[0],
            executed=chance.random() < 0.5,
            number=chance.random(),
            size=int(4 * MIB * chance.random() ** 3),
        )
        at_s += chance.expovariate(1 / every_s)


class Accidents:
    """Makes them happen, and counts those that did."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.planned: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self._database = asyncio.Lock()
        self._ways: dict[str, Callable[[Node, Accident], Awaitable[bool | None]]] = {
            "kill": self._kill,
            "kill at S3 request": self._kill_at_request,
            "terminate": self._terminate,
            "pause past the lease": self._pause,
            "connection cut": self._cut,
            "connection reset": self._cut,
            "answer lost": self._lose_answer,
            "all connections cut": self._cut_all,
            "database stopped": self._stop_database,
            "database crashed": self._stop_database,
            "disk full": self._fill,
            "clock jumped": self._jump,
        }

    async def run(self, schedule: Iterator[Accident]) -> None:
        """All of them, each in its time."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for accident in schedule:
                await asyncio.sleep(max(0.0, started + accident.at_s - loop.time()))
                tasks.create_task(self._cause(accident))

    async def _cause(self, accident: Accident) -> None:
        nodes = list(self._world.nodes.values())
        node = nodes[accident.node % len(nodes)]
        self.planned[accident.kind] += 1
        self._world.journal.note(str(accident))
        cause = self._ways.get(accident.kind, self._store_fault)
        if await cause(node, accident):
            self.happened[accident.kind] += 1

    def heal(self) -> None:
        """Takes back what has not happened yet, and counts what the store and the lines did."""
        for node in self._world.nodes.values():
            node.store.heal()
            node.signal(signal.SIGCONT)
            if node.clock:
                node.clock.set_ahead(0)
            if node.disk:
                node.disk.free()

    def counted(self) -> Counter[str]:
        """By kind, those that happened: a fault of the store counts when a request met it."""
        met = Counter(
            _name(fault) for node in self._world.nodes.values() for _, fault in node.store.met
        )
        return self.happened + met

    async def _kill(self, node: Node, accident: Accident) -> bool:
        return node.signal(signal.SIGKILL)

    async def _terminate(self, node: Node, accident: Accident) -> bool:
        return node.signal(signal.SIGTERM)

    async def _pause(self, node: Node, accident: Accident) -> bool:
        if not node.signal(signal.SIGSTOP):
            return False
        await asyncio.sleep(4 + 3 * accident.number)
        node.signal(signal.SIGCONT)
        return True

    async def _kill_at_request(self, node: Node, accident: Accident) -> None:
        kill = partial(node.signal, signal.SIGKILL)
        node.store.fail(accident.operation, Call(kill, accident.executed))

    async def _cut(self, node: Node, accident: Accident) -> bool:
        reset = accident.kind == "connection reset"
        before = node.line.happened
        await asyncio.to_thread(node.line.cut_after, accident.size, reset=reset)
        return await self._came(lambda: node.line.happened > before)

    async def _lose_answer(self, node: Node, accident: Accident) -> bool:
        before = node.line.happened
        await asyncio.to_thread(node.line.cut_answer_after, int(400 * accident.number))
        return await self._came(lambda: node.line.happened > before)

    async def _came(self, happened: Callable[[], bool]) -> bool:
        for _ in range(300):
            if happened():
                return True
            await asyncio.sleep(0.1)
        return False

    async def _cut_all(self, node: Node, accident: Accident) -> bool:
        await asyncio.to_thread(node.line.cut_now)
        return True

    async def _store_fault(self, node: Node, accident: Accident) -> None:
        burst = 1 + int(5 * accident.number**2)
        faults: dict[str, tuple[fake_s3.Fault, int]] = {
            "S3 500": (Answer(500, "InternalError", executed=accident.executed), burst),
            "S3 503 SlowDown": (Answer(503, "SlowDown"), 2 * burst),
            "S3 200 with an error": (
                Answer(200, "InternalError", executed=accident.executed),
                1,
            ),
            "S3 no answer": (Hang(accident.executed), 1),
            "S3 slow": (Slow(0.5 + 4 * accident.number), burst),
            "S3 reset": (Reset(accident.size, accident.executed), burst),
            "S3 answer truncated": (Truncate(), 1),
        }
        fault, times = faults[accident.kind]
        operation = accident.operation
        if accident.kind == "S3 200 with an error":  # only these answer 200 before they are done
            operation = "UploadPartCopy" if "Copy" in operation else "CompleteMultipartUpload"
        node.store.fail(operation, *[fault] * times)

    async def _stop_database(self, node: Node, accident: Accident) -> bool:
        server = self._world.postgres
        if server is None or self._database.locked():
            return False
        async with self._database:
            await asyncio.to_thread(server.stop, fast=accident.kind == "database stopped")
            try:
                await asyncio.sleep(3 * accident.number)
            finally:
                await asyncio.to_thread(server.start)
        return True

    async def _fill(self, node: Node, accident: Accident) -> bool:
        if node.disk is None:
            return False
        with suppress(FileNotFoundError):
            await asyncio.to_thread(node.disk.fill, accident.size // 20)
            await asyncio.sleep(1 + 4 * accident.number)
            node.disk.free()
        return True

    async def _jump(self, node: Node, accident: Accident) -> bool:
        if node.clock is None:
            return False
        node.clock.set_ahead(round(CLOCK_S * (2 * accident.number - 1)))
        return True


def _name(fault: fake_s3.Fault) -> str:
    match fault:
        case Call():
            return "kill at S3 request"
        case Answer(503):
            return "S3 503 SlowDown"
        case Answer(200):
            return "S3 200 with an error"
        case Answer():
            return "S3 500"
        case Hang():
            return "S3 no answer"
        case Slow():
            return "S3 slow"
        case Reset():
            return "S3 reset"
        case _:
            return "S3 answer truncated"
