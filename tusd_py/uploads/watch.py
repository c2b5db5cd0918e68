"""Looks after the bodies being read: ends idle ones, and moves bytes that wait too long to disk."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from tusd_py.uploads.appender import Appender
from tusd_py.uploads.body import BodyReader, Interrupted, Stop
from tusd_py.uploads.deadlines import Deadlines

log = structlog.get_logger(__name__)

_EVERY_S = 0.25

_PACE_S = 2.0
"""So long we look at a body to know its pace."""
_SLOWEST, _FASTEST = 4 * 1024, 128 * 1024
"""Bytes per second. What is faster would be held up by its window; see `_pace`."""
_COLLECT_S = 0.5
_QUIET_S = 1.0
"""After so long without a byte we want to hear of each again."""


@dataclass(slots=True)
class _Mark:
    """Where a body was when it last had moved far enough."""

    received: int
    at: float
    paced: int
    paced_at: float
    """The same for its pace."""
    broken: bool = False
    """Its bytes could not be moved, for a reason nobody knows."""


class Watch:
    """One task for all appenders of the process; it runs only while there are any."""

    def __init__(self, *, idle_timeout_s: float, min_rate: int = 0) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._step = min_rate * idle_timeout_s
        """Bytes that a body must bring in the idle time-out."""
        self._appenders: dict[Appender, _Mark] = {}
        self._deadlines = Deadlines()
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    @contextmanager
    def over(self, appender: Appender) -> Iterator[None]:
        """Watches the appender while it runs."""
        received, now = appender.received, asyncio.get_running_loop().time()
        self._appenders[appender] = _Mark(received, now, received, now)
        if self.closing:
            appender.stop(Stop.SHUTDOWN)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="body-watch")
        try:
            yield
        finally:
            del self._appenders[appender]
            appender.collect(1)

    def check_open(self) -> None:
        """Raises Interrupted when the server ends."""
        if self.closing:
            raise Interrupted(Stop.SHUTDOWN)

    async def read(self, reader: BodyReader) -> bytes:
        """The next bytes of a body that no appender reads.

        Raises: Interrupted, when they do not come in time or the server ends; ClientGone.
        """
        self.check_open()
        if reader.at_hand:  # most small bodies have come with their heads
            return await reader.read()
        try:
            async with self._deadlines.within(self._idle_timeout_s):
                return await reader.read()
        except TimeoutError:
            raise Interrupted(Stop.SHUTDOWN if self.closing else Stop.IDLE) from None

    @property
    def active(self) -> int:
        """Bodies being read now."""
        return len(self._appenders)

    def received(self) -> dict[str, int]:
        """Offsets of the uploads whose bodies are being read, by id; see `Appender.progress`."""
        return dict(appender.progress for appender in self._appenders)

    def stop_all(self) -> None:
        """Shutdown: every running body ends here, and every later one at once."""
        self.closing = True
        for appender in list(self._appenders):
            appender.stop(Stop.SHUTDOWN)
        self._deadlines.expire()

    async def aclose(self) -> None:
        """Ends the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while self._appenders:
            await asyncio.sleep(_EVERY_S)
            now = asyncio.get_running_loop().time()
            stale = []
            for appender, mark in self._appenders.items():
                if self._stands_still(appender, mark, now):
                    appender.stop(Stop.IDLE)
                    continue
                self._pace(appender, mark, now)
                if appender.is_stale(now) and not mark.broken:
                    stale.append(self._spill(appender, mark, now))
            if stale:  # together, as one thread then writes them all
                await asyncio.gather(*stale)
        self._task = None

    @staticmethod
    async def _spill(appender: Appender, mark: _Mark, now: float) -> None:
        """One body must not end the watch over all others: its bytes stay where they are."""
        try:
            await appender.spill_if_stale(now)
        except Exception as error:
            mark.broken = True
            upload_id, _ = appender.progress
            log.exception("body_watch_failed", upload=upload_id, exc_info=error)

    def _pace(self, appender: Appender, mark: _Mark, now: float) -> None:
        """The system collects what a slow body sends in a while, so that we wake up less often."""
        if now - appender.last_activity > min(_QUIET_S, self._idle_timeout_s / 4):
            appender.collect(1)
        elif now - mark.paced_at >= _PACE_S:
            rate = (appender.received - mark.paced) / (now - mark.paced_at)
            slow = _SLOWEST < rate < _FASTEST
            appender.collect(int(rate * _COLLECT_S) if slow else 1)
        else:
            return
        mark.paced, mark.paced_at = appender.received, now

    def _stands_still(self, appender: Appender, mark: _Mark, now: float) -> bool:
        """Whether the client sends nothing, or next to nothing. What we hold up is not counted."""
        since = appender.idle_since
        if since is None or appender.received - mark.received >= max(1, self._step):
            mark.received, mark.at = appender.received, now
        return since is not None and now - min(since, mark.at) > self._idle_timeout_s
