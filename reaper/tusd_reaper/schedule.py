"""Runs the reaper again and again inside a serving process.

Owns when. A run that fails is told and followed by the next one: this loop ends only when stopped.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import structlog

log = structlog.get_logger(__name__)

JITTER = 0.25
"""Share of the interval by which a run may come earlier or later: nodes that were started together
drift apart. The first run comes after up to a whole interval."""


class Schedule:
    """One task that calls `run`; runs never overlap."""

    def __init__(
        self,
        run: Callable[[], Awaitable[object]],
        *,
        interval: timedelta,
        uniform: Callable[[float, float], float] = random.uniform,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._run = run
        self._interval_s = interval.total_seconds()
        self._uniform = uniform
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins; does nothing when it has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="reaper")

    async def stop(self) -> None:
        """Ends it. A run under way is cancelled, which every action survives."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _loop(self) -> None:
        delay_s = self._uniform(0.0, self._interval_s)
        while True:
            await self._sleep(delay_s)
            try:
                await self._run()
            except Exception as error:  # the process's own loop
                log.warning("reaper_failed", error=f"{type(error).__name__}: {error}")
            delay_s = self._interval_s * self._uniform(1 - JITTER, 1 + JITTER)
