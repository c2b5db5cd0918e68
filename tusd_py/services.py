"""The composition root: makes everything behind the routes, each part with what it needs.

Adapters are named here, and beside it in `configs`, `backends` and `preparation`.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tusd_py.broker import promotion
from tusd_py.broker.assembly import DirectUploads, Ports
from tusd_py.broker.profiles import destination_of
from tusd_py.broker.validation import Validator
from tusd_py.clock import utc_now
from tusd_py.configs import quota_of, s3_config, upload_config, upload_urls
from tusd_py.hooks import Hook, delivery
from tusd_py.hooks.assembly import HookSet
from tusd_py.hooks.sessions import Sessions
from tusd_py.hooks.sinks import Sink
from tusd_py.hooks.tus import TusHooks
from tusd_py.hooks.watched import WatchedSink
from tusd_py.http.auth import Authorize
from tusd_py.http.authorizers import make_authorizers, make_signer
from tusd_py.http.cors import Cors
from tusd_py.http.download import Downloads
from tusd_py.http.json_bodies import JsonBodies
from tusd_py.http.locations import Locations
from tusd_py.http.tus import TusEndpoint
from tusd_py.maintenance import Maintenance, Parts
from tusd_py.observation import Observation, Watched
from tusd_py.operator import assembly
from tusd_py.preparation import prepare_database
from tusd_py.settings import Settings, SettingsError
from tusd_py.telemetry.commits import TellingSessions
from tusd_py.telemetry.events import CleanupRun, Telemetry
from tusd_py.telemetry.exposition import shared_folder
from tusd_py.uploads.destinations import Destination
from tusd_py.uploads.engine import UploadEngine
from tusd_reaper.actions import Tools
from tusd_reaper.report import Report
from tusd_reaper.worker import Handler
from tusd_storage.leases import LeaseManager
from tusd_storage.locks import ProcessLock
from tusd_storage.records import Protocol, Strategy
from tusd_storage.s3 import Observe, S3Store
from tusd_storage.sql import SqlStore
from tusd_storage.tail import NodeTails

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


class Services:
    """Everything behind the routes. Built at once; touches disk and network from `start` on."""

    def __init__(
        self,
        settings: Settings,
        authorize: Authorize | None = None,
        *,
        observe_s3: Observe | None = None,
        validator: Validator | None = None,
        hooks: Sequence[Hook] = (),
        tracer_provider: "TracerProvider | None" = None,
    ) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self._siblings = metrics_lock()  # first: who counts without it is taken for dead
        self.observation = Observation(settings, self.telemetry, tracer_provider)
        metrics = self.observation.metrics
        if observe_s3 is None and metrics is not None:
            observe_s3 = metrics.observe_s3
        self.config = upload_config(settings)
        self.hooks = HookSet(settings, hooks, utc_now, watch=self._watch_hook)
        self.sessions = SqlStore.connect(
            settings.database_url,
            pool_size=settings.database_pool_size,
            wait_s=settings.database_wait_timeout.total_seconds(),
            synchronous=settings.sqlite_synchronous,
            quota=quota_of(settings),
            outbox=self.hooks.outbox(),
        )
        self.objects = S3Store(s3_config(settings), observe=observe_s3)
        self.tails = NodeTails(settings.tmp_dir, fsync=settings.tail_fsync)
        told = TellingSessions(self.sessions, self.telemetry.emit, self.observation.stages)
        self._lock = ProcessLock(settings.tmp_dir / "processes", secrets.token_hex(8))
        self.leases = LeaseManager(
            told,
            node=self.config.node,
            instance=self._lock.instance,
            ttl=settings.lease_ttl,
            now=utc_now,
            is_dead=self._lock.is_dead,
            keep_s=settings.lease_keep.total_seconds() if settings.workers == 1 else 0.0,
        )
        self.engine = UploadEngine(
            config=self.config,
            sessions=told,
            objects=self.objects,
            tails=self.tails,
            leases=self.leases,
            now=utc_now,
            find_destination=self._destination,
            emit=self.telemetry.emit,
            stages=self.observation.stages,
        )
        self.observation.watch(self._watched())
        self.locations = Locations(
            settings.base_path,
            public_url=settings.public_url,
            trusted_proxies=settings.trusted_proxies,
            sign=upload_urls(settings, signer) if (signer := make_signer(settings)) else None,
        )
        self.builtin_auth = make_authorizers(settings, self.locations, signer, utc_now)
        if authorize is not None and self.builtin_auth is not None:
            raise SettingsError("authorize is given and auth is set: use one of them")
        self.authorize = authorize or self.builtin_auth
        self.cors = Cors(settings.cors_origins)
        self.direct = DirectUploads(
            settings, self._direct_ports(told), validator=validator, signer=self.hooks.signer
        )
        self.broker = self.direct.broker
        self.tus_hooks = self._tus_hooks() if self.hooks.hooks else None
        self.tus = TusEndpoint(
            self.engine,
            locations=self.locations,
            cors=self.cors,
            downloads=Downloads(
                self.objects,
                find_asset=self.sessions.asset,
                mode=settings.download,
                inline_types=settings.inline_types,
                now=utc_now,
            ),
            authorize=self.authorize,
            key_metadata=settings.idempotency_metadata,
            emit=self.telemetry.emit,
            hooks=self.tus_hooks,
        )
        self.json_bodies = JsonBodies(timeout_s=settings.body_idle_timeout.total_seconds())
        self.job_handlers: dict[str, Handler] = {
            promotion.KIND: self.direct.promoter.promote,
            **delivery.handlers(self.hooks.hooks, utc_now),
        }
        self.on_reaped: list[Callable[[Report], None]] = []
        maintained = self._maintained()
        self.maintenance = Maintenance(settings, maintained)
        self.operator = assembly.assemble(
            settings,
            state=self.sessions,
            broker=self.broker,
            tools=maintained.tools,
            receiving=self.engine.receiving,
        )
        self._starting = asyncio.Lock()
        self.started = False

    def _destination(self, profile: str) -> Destination:
        """For uploads whose grant names a profile. Raises: UnknownProfile, UploadUnsupported."""
        found = self.direct.profiles.get(profile, Strategy.RESUMABLE)
        return destination_of(found, self.config)

    def _watch_hook(self, sink: Sink) -> Sink:
        return WatchedSink(sink, self.telemetry.emit, self.observation.stages)

    def _watched(self) -> Watched:
        """What metrics are read from."""
        siblings = self._siblings
        return Watched(
            engine=self.engine,
            leases=self.leases,
            tails=self.tails,
            statistics=self.sessions.statistics,
            is_dead=siblings.is_dead if siblings else _never,
            job_kinds=lambda: self.job_handlers,
            now=utc_now,
        )

    def _maintained(self) -> Parts:
        """What the reaper and the worker work with."""
        return Parts(
            tools=Tools(
                sessions=self.sessions,
                listings=self.sessions,
                sweeps=self.sessions,
                objects=self.objects,
                tails=self.tails,
                leases=self.leases,
                finishers={Protocol.TUS: self.engine.finish, Protocol.S3: self.broker.finish},
                node=self.config.node,
                now=utc_now,
                grace=self.settings.reap_grace,
            ),
            holder=self.leases.holder,
            is_dead=self._lock.is_dead,
            queue=self.sessions,
            registry=self.sessions,
            diary=self.sessions,
            handlers=self.job_handlers,
            shortcut=self.direct.promoter.promote_unquestioned,
            more_areas=self.direct.areas(),
            publish=self._tell_reaped,
        )

    def _tus_hooks(self) -> TusHooks:
        """Hooks around the tus endpoints."""
        return TusHooks(
            self.hooks.hooks,
            self.engine,
            answers=self.sessions,
            profiles=self.direct.profiles,
            interval=self.settings.progress_hooks_interval,
            now=utc_now,
            check_room=self.sessions.check_room,
        )

    def _direct_ports(self, told: TellingSessions) -> Ports:
        """What the broker works with."""
        return Ports(
            sessions=told,
            direct=self.sessions,
            assets=self.sessions,
            objects=self.objects,
            tails=self.tails,
            leases=self.leases,
            resumables=self.engine,
            uploads=self.config,
            session_uri=self.locations.known,
            emit=self.telemetry.emit,
            now=utc_now,
            admit=Sessions(self.hooks.hooks).admit,
        )

    def _tell_reaped(self, report: Report) -> None:
        for sweep in report.sweeps:
            self.telemetry.emit(
                CleanupRun(
                    sweep=sweep.sweep,
                    dry_run=not report.applied,
                    duration_s=sweep.seconds,
                    counts=sweep.counters,
                    skipped=sweep.skipped is not None,
                )
            )
        for listener in self.on_reaped:
            listener(report)

    def begin_shutdown(self) -> None:
        """Running bodies end early, no new job begins. Returns at once."""
        self.engine.begin_shutdown()
        self.tus.begin_shutdown()
        self.json_bodies.begin_shutdown()
        self.maintenance.begin_shutdown()
        self.operator.watcher.begin_shutdown()

    async def start(self) -> None:
        """Makes the schema current, or says who has to. Raises: SettingsError, StateUnavailable."""
        async with self._starting:
            if not self.started:
                await asyncio.to_thread(prepare_database, self.settings)
                await self.observation.start()
                self.maintenance.start()
                self.started = True

    async def stop(self) -> None:
        """Ends running bodies, keeps what they have, closes everything."""
        self.begin_shutdown()
        await self.observation.stop()
        await self.maintenance.stop()
        await self.operator.watcher.aclose()
        await self.direct.aclose()
        if self.tus_hooks is not None:
            await self.tus_hooks.aclose()
        await self.hooks.aclose()
        if self.builtin_auth is not None:
            await self.builtin_auth.aclose()
        await self.engine.aclose()
        await self.leases.aclose()
        await self.objects.aclose()
        await self.tails.aclose()
        await self.sessions.aclose()
        self._lock.close()
        if self._siblings is not None:
            self._siblings.close()


def metrics_lock() -> ProcessLock | None:
    """Tells the workers that count together which of them live; None for one that counts alone."""
    folder = shared_folder()
    return ProcessLock(folder / "processes", str(os.getpid())) if folder else None


def _never(_: str) -> bool:
    """There are no siblings."""
    return False
