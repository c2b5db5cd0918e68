"""The watch over bodies: what goes wrong with one is nothing to the others."""

import asyncio
from typing import Any, cast

import pytest

from tusd_py.uploads import watch
from tusd_py.uploads.appender import Appender
from tusd_py.uploads.body import Stop
from tusd_py.uploads.watch import Watch


class Body:
    """As much of an appender as the watch looks at."""

    received = 0
    last_activity = 0.0

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.progress = name, 0
        self.idle_since = asyncio.get_running_loop().time()
        self.looks = 0
        self.collects = 1
        self.stopped: Stop | None = None
        self._error = error

    def collect(self, size: int) -> None:
        self.collects = size

    def is_stale(self, now: float) -> bool:
        return True

    async def spill_if_stale(self, now: float) -> None:
        self.looks += 1
        if self._error is not None:
            raise self._error

    def stop(self, why: Stop) -> None:
        self.stopped = why


async def test_a_body_that_cannot_be_moved_ends_no_watch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "_EVERY_S", 0.01)
    guard = Watch(idle_timeout_s=2.0)  # longer than it takes to write a traceback
    broken, well = Body("n~broken", RuntimeError("unforeseen")), Body("n~well")
    with guard.over(cast(Appender, broken)), guard.over(cast(Appender, well)):
        async with asyncio.timeout(10):
            while Stop.IDLE not in {broken.stopped, well.stopped}:
                await asyncio.sleep(0.01)
            while None in {broken.stopped, well.stopped}:
                await asyncio.sleep(0.01)
    assert well.looks > 1
    assert broken.looks == 1
    told = cast(Any, capsys.readouterr()).out
    assert told.count("body_watch_failed") == 1
    assert "n~broken" in told
    await guard.aclose()


class Paced(Body):
    """A body that brings so many bytes a second."""

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(name)
        self._began = asyncio.get_running_loop().time()
        self.rate = rate

    @property
    def last_activity(self) -> float:  # type: ignore[override]
        return self._began if not self.rate else asyncio.get_running_loop().time()

    @property
    def received(self) -> int:  # type: ignore[override]
        return int((asyncio.get_running_loop().time() - self._began) * self.rate)


async def test_only_what_comes_slowly_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_EVERY_S", 0.01)
    monkeypatch.setattr(watch, "_PACE_S", 0.1)
    guard = Watch(idle_timeout_s=10.0)
    slow, fast, drip = Paced("n~slow", 64 * 1024), Paced("n~fast", 1 << 30), Paced("n~drip", 100)
    with guard.over(cast(Appender, slow)):
        with guard.over(cast(Appender, fast)), guard.over(cast(Appender, drip)):
            async with asyncio.timeout(10):
                while slow.collects == 1:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert 24 * 1024 < slow.collects < 40 * 1024
            assert (fast.collects, drip.collects) == (1, 1)
        monkeypatch.setattr(watch, "_QUIET_S", 0.05)
        slow.rate = 0  # it falls silent: every byte is wanted again
        async with asyncio.timeout(10):
            while slow.collects > 1:
                await asyncio.sleep(0.01)
        slow.collects = 7
    assert slow.collects == 1
    await guard.aclose()
