"""What a process says of itself: memory, processor, files, and how late its event loop is.

Owns one task that looks once a second, and costs nothing else. Knows no upload.
"""

import asyncio
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tusd_py.telemetry.metrics import Metrics

EVERY_S = 1.0
FILES_EVERY = 10
"""Open files are counted every so many times: that takes longer the more there are."""

_PAGE_SIZE = resource.getpagesize()


class Sampler:
    """Runs from `start` to `stop`; `look` reads what the application knows of itself."""

    def __init__(self, metrics: Metrics, look: Callable[[], None]) -> None:
        self._metrics = metrics
        self._look = look
        self._cpu_s = 0.0
        self._round = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """In the running loop."""
        self._metrics.workers.set(1)
        self._metrics.started.set(time.time())
        self._metrics.max_files.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.sample()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="metrics-sampler")

    async def stop(self) -> None:
        """Ends the task."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def sample(self) -> None:
        """Brings the gauges up to date."""
        self._look()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = usage.ru_utime + usage.ru_stime
        self._metrics.cpu.inc(max(0.0, cpu_s - self._cpu_s))
        self._cpu_s = cpu_s
        with suppress(OSError):  # /proc is Linux's
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self._metrics.resident.set(pages * _PAGE_SIZE)
            if self._round % FILES_EVERY == 0:
                self._metrics.open_files.set(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        self._round += 1

    async def _run(self) -> None:
        loop_time = asyncio.get_running_loop().time
        while True:
            wanted = loop_time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._metrics.lag.observe(max(0.0, loop_time() - wanted))
            self.sample()
