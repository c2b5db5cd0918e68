"""The stages of an upload as something to be measured: when one begins, how it ends.

Owns the names and the one way to mark a stage in the code. Knows nobody who measures; while nobody
does, a stage costs one call. A stage is a body, a part or a commit, never a chunk.

    with stages.measure(Stage.PART, size=body.size):
        await objects.upload_part(...)
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from enum import StrEnum
from types import TracebackType


class Stage(StrEnum):
    """What is measured."""

    RECEIVE = "receive"
    """Reading one body, to its end or to what broke it off. As fast as the client."""
    PART = "part"
    """Sending one part or one whole object to the store: waiting for a slot, all tries."""
    COPY = "copy"
    """Copying one part inside the store."""
    COMMIT = "commit"
    """One transaction that moves the offset."""
    COMPLETE = "complete"
    """From the last byte to the object in the bucket and in the database."""
    HOOK = "hook"
    """Asking one hook."""


Observe = Callable[[Stage, float, bool], None]
"""Called when a stage ends, with its seconds and whether it ended without an exception."""

Around = Callable[[Stage, dict[str, int | str]], AbstractContextManager[object]]
"""Entered when a stage begins, left when it ends."""


class Stages:
    """Measures for whoever asked. Used from one event loop."""

    def __init__(self) -> None:
        self.active = dict.fromkeys(Stage, 0)
        """Stages under way, while somebody measures."""
        self._observers: list[Observe] = []
        self._arounds: list[Around] = []

    def observe(self, observer: Observe) -> None:
        """Calls `observer` at the end of every stage from now on; it must return at once."""
        self._observers.append(observer)

    def surround(self, around: Around) -> None:
        """Has every stage from now on run inside `around`."""
        self._arounds.append(around)

    def measure(self, stage: Stage, **facts: int | str) -> AbstractContextManager[object]:
        """To be held while the stage runs. `facts` hold no id, key or URL."""
        if not self._observers and not self._arounds:
            return nullcontext()
        observed = _Observed(self, stage)
        return self._surrounded(observed, stage, facts) if self._arounds else observed

    def begin(self, stage: Stage) -> float:
        """When it began."""
        self.active[stage] += 1
        return time.perf_counter()

    def end(self, stage: Stage, started: float, *, good: bool) -> None:
        """Tells the observers."""
        self.active[stage] -= 1
        seconds = time.perf_counter() - started
        for observer in self._observers:
            observer(stage, seconds, good)

    @contextmanager
    def _surrounded(
        self, observed: "_Observed", stage: Stage, facts: dict[str, int | str]
    ) -> Iterator[None]:
        with observed, ExitStack() as stack:
            for around in self._arounds:
                stack.enter_context(around(stage, facts))
            yield


class _Observed:
    """One stage under way. No generator: a request has several, and most have nobody around."""

    __slots__ = ("_stage", "_stages", "_started")

    def __init__(self, stages: Stages, stage: Stage) -> None:
        self._stages = stages
        self._stage = stage
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._stages.begin(self._stage)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stages.end(self._stage, self._started, good=kind is None)
