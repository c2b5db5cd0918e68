"""What watches a server: metrics, and traces where they are configured.

Owns the wiring between what happens and who counts it. Knows ports, no adapter.
"""

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

from tusd_py import __version__
from tusd_py.http import metrics as endpoint
from tusd_py.http.counted import CountedConnection
from tusd_py.http.observed import Observed
from tusd_py.settings import Settings, SettingsError
from tusd_py.telemetry.events import Telemetry
from tusd_py.telemetry.exposition import Exposition
from tusd_py.telemetry.lookups import StateLookup, TailLookup
from tusd_py.telemetry.metrics import Metrics
from tusd_py.telemetry.sampling import Sampler
from tusd_py.telemetry.stages import Stage, Stages
from tusd_py.telemetry.tracing_wanted import tracing
from tusd_py.uploads.engine import UploadEngine
from tusd_storage.leases import LeaseManager
from tusd_storage.ports import TailStore
from tusd_storage.ports.statistics import Statistics

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is looked at."""

    engine: UploadEngine
    leases: LeaseManager
    tails: TailStore
    statistics: Statistics
    is_dead: Callable[[str], bool]
    """Whether the process with this id, of the same server, is gone."""
    job_kinds: Callable[[], Iterable[str]]
    """Those that this process runs: told even while there is no job of them."""
    now: Callable[[], datetime]


class Observation:
    """Built before what it watches, so that this can be told whom to tell; `watch` completes it."""

    def __init__(
        self, settings: Settings, telemetry: Telemetry, provider: "TracerProvider | None" = None
    ) -> None:
        """`provider`: of an application that traces already; else the environment decides."""
        self._settings = settings
        self.stages = Stages()
        self.metrics = Metrics() if settings.expose_metrics else None
        self.exposition: Exposition | None = None
        self._sampler: Sampler | None = None
        self._lookups: tuple[StateLookup | TailLookup, ...] = ()
        self._server: endpoint.MetricsServer | None = None
        if self.metrics is not None:
            telemetry.subscribe(self.metrics.on_event)
            self.stages.observe(self.metrics.observe_stage)
        self.tracing = tracing(provider)
        if self.tracing is not None:
            self.stages.surround(self.tracing.stage)
        self.requests = Observed(self.metrics, self.tracing)

    def watch(self, watched: Watched) -> None:
        """From now on there is something to read."""
        metrics = self.metrics
        if metrics is None:
            return
        sampler = self._sampler = Sampler(metrics, lambda: self._look(metrics, watched))
        self._lookups = (
            StateLookup(watched.statistics, watched.now, watched.job_kinds),
            TailLookup(watched.tails.scan, self._in_thread),
        )
        self.exposition = Exposition(
            metrics,
            self._lookups,
            sample=sampler.sample,
            is_dead=watched.is_dead,
            build={
                "version": __version__,
                "python": platform.python_version(),
                "database": self._settings.database_url.partition(":")[0].partition("+")[0],
            },
        )

    def routes(self) -> list[BaseRoute]:
        """What is served beside the uploads."""
        if self.exposition is None or self._settings.metrics_port is not None:
            return []
        return endpoint.routes(self._settings.metrics_path, self.exposition.render)

    async def start(self) -> None:
        """Raises: SettingsError when the port for metrics cannot be had."""
        if self.exposition is None or self._sampler is None:
            return
        self._sampler.start()
        port = self._settings.metrics_port
        if port is None:
            return
        host = self._settings.metrics_host or self._settings.host
        self._server = endpoint.MetricsServer(
            host, port, self._settings.metrics_path, self.exposition.render
        )
        try:
            await self._server.start()
        except OSError as error:
            raise SettingsError(
                f"Metrics cannot be served on port {port} of {host} ({error.strerror}): "
                "stop what uses it, or write another metrics_port"
            ) from error

    async def stop(self) -> None:
        """Ends what `start` began."""
        if self._server is not None:
            await self._server.stop()
        if self._sampler is not None:
            await self._sampler.stop()
        for lookup in self._lookups:
            await lookup.aclose()
        if self.exposition is not None:
            self.exposition.close()
        if self.tracing is not None:
            await self.tracing.aclose()

    async def _in_thread(self, work: Callable[[], None]) -> None:
        assert self.exposition is not None
        await self.exposition.run(work)

    def _look(self, metrics: Metrics, watched: Watched) -> None:
        metrics.connections.set(CountedConnection.open)
        metrics.active.set(watched.engine.active)
        metrics.leases.set(watched.leases.held)
        metrics.memory_used.set(watched.engine.memory_used)
        metrics.memory_limit.set(self._settings.memory_budget)
        metrics.s3_demand.set(self.stages.active[Stage.PART])
        metrics.s3_limit.set(self._settings.s3_max_connections)
