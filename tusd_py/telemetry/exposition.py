"""The numbers as Prometheus reads them: of this process, or of all workers of a server together.

With several workers every process keeps its numbers in files of one folder (prometheus_client's
multiprocess mode), so whoever is asked answers for all, and what a worker counted outlives it. How
many uploads it had under way does not: gauges of a dead process are left out. Owns reading, text
and that folder. Knows no metric by name but for its own constants.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from tusd_py.telemetry.lookups import Lookup
from tusd_py.telemetry.metrics import COUNTERS_WITHOUT_TOTAL, Metrics

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's; decides at its import where numbers are kept."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Merged: Any = MultiProcessCollector  # prometheus_client has no types for these two
_forget: Callable[[str, str], None] = mark_process_dead

_LIVE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")

T = TypeVar("T")


def shared_folder() -> Path | None:
    """Where the processes of this server keep their numbers; None for in memory."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


class Exposition:
    """Answers scrapes. `sample` brings this process's own gauges up to date."""

    def __init__(
        self,
        metrics: Metrics,
        lookups: Sequence[Lookup],
        *,
        sample: Callable[[], None],
        is_dead: Callable[[str], bool],
        build: dict[str, str],
    ) -> None:
        self._metrics = metrics
        self._lookups = lookups
        self._sample = sample
        self._is_dead = is_dead
        self._build = build
        self._folder = shared_folder()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    async def run(self, work: Callable[[], T]) -> T:
        """Awaits blocking work on the thread for metrics."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def render(self) -> bytes:
        """All metrics in the text format 0.0.4. Never waits long, never blocks the loop."""
        self._sample()
        await asyncio.gather(*(lookup.refresh() for lookup in self._lookups))
        return await self.run(self._text)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False)

    def _text(self) -> bytes:
        text = generate_latest(self)
        for name in COUNTERS_WITHOUT_TOTAL:
            text = text.replace(f"# TYPE {name} gauge".encode(), f"# TYPE {name} counter".encode())
        return text

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client; blocks."""
        build = GaugeMetricFamily(
            "tusd_py_build_info", "What runs; always 1.", labels=list(self._build)
        )
        build.add_metric(list(self._build.values()), 1)
        yield build
        for metric in sorted(self._counted(), key=lambda metric: metric.name):
            metric.samples = [s for s in metric.samples if s.name != f"{metric.name}_created"]
            yield metric
        for lookup in self._lookups:
            yield from lookup.collect()

    def _counted(self) -> Iterator[Metric]:
        if self._folder is None:
            yield from self._metrics.registry.collect()
            return
        self._bury()
        merged: Iterable[Metric] = _Merged(None, path=str(self._folder)).collect()
        yield from merged

    def _bury(self) -> None:
        """Removes the gauges of processes that are gone."""
        assert self._folder is not None
        found = (_LIVE.fullmatch(path.name) for path in self._folder.glob("gauge_live*.db"))
        for pid in {match.group(1) for match in found if match}:
            if self._is_dead(pid):
                _forget(pid, str(self._folder))
