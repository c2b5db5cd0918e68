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

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.progress = name, 0
        self.idle_since = asyncio.get_running_loop().time()
        self.looks = 0
        self.stopped: Stop | None = None
        self._error = error

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
