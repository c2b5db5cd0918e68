"""Looks after the bodies being read: ends idle ones, and moves bytes that wait too long to disk."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from tusd_py.uploads.appender import Appender
from tusd_py.uploads.body import Stop

_EVERY_S = 0.5


class Watch:
    """One task for all appenders of the process; it runs only while there are any."""

    def __init__(self, *, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._appenders: set[Appender] = set()
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    @contextmanager
    def over(self, appender: Appender) -> Iterator[None]:
        """Watches the appender while it runs."""
        self._appenders.add(appender)
        if self.closing:
            appender.stop(Stop.SHUTDOWN)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="body-watch")
        try:
            yield
        finally:
            self._appenders.discard(appender)

    @property
    def active(self) -> int:
        """Bodies being read now."""
        return len(self._appenders)

    def stop_all(self) -> None:
        """Shutdown: every running body ends here, and every later one at once."""
        self.closing = True
        for appender in list(self._appenders):
            appender.stop(Stop.SHUTDOWN)

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
            for appender in list(self._appenders):
                since = appender.idle_since
                if since is not None and now - since > self._idle_timeout_s:
                    appender.stop(Stop.IDLE)
                else:
                    await appender.spill_if_stale(now)
        self._task = None
