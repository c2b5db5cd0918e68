"""Shows the same picture to everybody who looks: taken once a second, while somebody does.

Owns the one task, the bounded number of viewers, and what they are told when the database is away.
A viewer that reads slowly misses pictures; nobody waits for it.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from tusd_py.operator.errors import TooManyViewers
from tusd_py.operator.views import View

log = structlog.get_logger(__name__)

EVERY_S = 1.0
SHARE = 4.0
"""A picture comes at most so many times its own duration after the one before: a database that is
slow is not asked all the time."""

MAX_VIEWERS = 32


class Viewer:
    """One who looks."""

    def __init__(self, watcher: "Watcher") -> None:
        self._watcher = watcher
        self._news = asyncio.Event()
        self._left = False
        self._seen: bytes | None = None

    async def next(self) -> bytes | None:
        """The next picture, as JSON; None when there will be no more."""
        while not self._left:
            latest = self._watcher.latest
            if latest is not None and latest is not self._seen:
                self._seen = latest
                return latest
            self._news.clear()
            await self._news.wait()
        return None

    def leave(self) -> None:
        """Looks no more; `next` returns None."""
        self._left = True
        self._news.set()

    def wake(self) -> None:
        """There is a new picture."""
        self._news.set()


class Watcher:
    """Of one process. `take` makes a picture; what it raises is told to the viewers."""

    def __init__(self, take: Callable[[], Awaitable[View]], *, every_s: float = EVERY_S) -> None:
        self._take = take
        self._every_s = every_s
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._taking = asyncio.Lock()
        self._taken_at = 0.0
        self._closing = False
        self._hurry = asyncio.Event()
        self.latest: bytes | None = None

    @property
    def viewers(self) -> int:
        """How many look now."""
        return len(self._viewers)

    @contextmanager
    def viewing(self) -> Iterator[Viewer]:
        """A viewer, for the time of the block. Raises: TooManyViewers."""
        if self._closing or len(self._viewers) >= MAX_VIEWERS:
            raise TooManyViewers(f"{MAX_VIEWERS} look already; try again later")
        viewer = Viewer(self)
        self._viewers.add(viewer)
        if not self._is_fresh():
            self.latest = None
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="operator-watch")
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    async def picture(self) -> bytes:
        """A picture that is at most `every_s` old, as JSON. Raises: StateUnavailable."""
        async with self._taking:
            if self.latest is None or not self._is_fresh():
                self._show(await self._take())
            assert self.latest is not None
            return self.latest

    def refresh(self) -> None:
        """The next picture is wanted at once."""
        self._taken_at = 0.0
        self._hurry.set()

    def begin_shutdown(self) -> None:
        """All viewers are sent away, and nobody is let in. Returns at once."""
        self._closing = True
        for viewer in self._viewers:
            viewer.leave()
        self._hurry.set()

    async def aclose(self) -> None:
        """Ends the task."""
        self.begin_shutdown()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        """Ends by itself when nobody looks."""
        while self._viewers and not self._closing:
            started = time.monotonic()
            try:
                async with self._taking:
                    self._show(await self._take())
            except Exception as error:  # the process's own loop
                log.warning("operator_picture_failed", error=type(error).__name__)
                self._show({"trouble": "The database does not answer."})
            took_s = time.monotonic() - started
            self._hurry.clear()
            try:
                async with asyncio.timeout(max(self._every_s - took_s, SHARE * took_s)):
                    await self._hurry.wait()
            except TimeoutError:
                pass
        self._task = None

    def _is_fresh(self) -> bool:
        return time.monotonic() < self._taken_at + self._every_s

    def _show(self, view: View) -> None:
        self.latest = json.dumps(view, separators=(",", ":")).encode()
        self._taken_at = time.monotonic()
        for viewer in self._viewers:
            viewer.wake()
