"""The composition root: the only module that names an adapter.

`create_app(settings)` is a whole server; mounted in another Starlette or FastAPI application it
works below that application's path.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tusd_py.auth.signatures import UrlSigner
from tusd_py.broker import promotion
from tusd_py.broker.assembly import DirectUploads, Ports
from tusd_py.broker.profiles import destination_of
from tusd_py.broker.validation import Validator
from tusd_py.hooks import Hook, delivery, origin
from tusd_py.hooks.assembly import HookSet
from tusd_py.hooks.sessions import Sessions
from tusd_py.hooks.sinks import Sink
from tusd_py.hooks.tus import TusHooks
from tusd_py.hooks.watched import WatchedSink
from tusd_py.http import direct, ops
from tusd_py.http import operator as operator_page
from tusd_py.http.auth import Authorize
from tusd_py.http.authorizers import make_authorizers, make_signer
from tusd_py.http.cors import Cors
from tusd_py.http.download import Downloads
from tusd_py.http.json_bodies import JsonBodies
from tusd_py.http.locations import Locations, Sign
from tusd_py.http.operator_gate import Gate
from tusd_py.http.tus import TusEndpoint
from tusd_py.maintenance import Maintenance, Parts
from tusd_py.observation import Observation, Watched
from tusd_py.operator import assembly
from tusd_py.preparation import prepare_database
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import load
from tusd_py.telemetry.commits import TellingSessions
from tusd_py.telemetry.events import CleanupRun, Telemetry
from tusd_py.telemetry.exposition import shared_folder
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.destinations import Destination
from tusd_py.uploads.engine import UploadEngine
from tusd_reaper.actions import Tools
from tusd_reaper.report import Report
from tusd_reaper.worker import Handler
from tusd_storage.leases import LeaseManager
from tusd_storage.locks import ProcessLock
from tusd_storage.records import Protocol, Quota, Strategy
from tusd_storage.s3 import Observe, S3Config, S3Store
from tusd_storage.sql import SqlStore
from tusd_storage.tail import NodeTails

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


def utc_now() -> datetime:
    """The clock of the program."""
    return datetime.now(UTC)


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
                self.objects, mode=settings.download, inline_types=settings.inline_types
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
        )

    def _direct_ports(self, told: TellingSessions) -> Ports:
        """What the broker works with."""
        return Ports(
            sessions=told,
            state=self.sessions,
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


class TusdApp(Starlette):
    """Starlette for everything but the uploads themselves, which go straight to their endpoint."""

    def __init__(self, services: Services) -> None:
        probes: dict[str, ops.Probe] = {
            "database": services.sessions.ping,
            "store": partial(services.objects.probe, services.config.bucket),
        }
        super().__init__(
            routes=[
                *ops.routes(probes),
                *services.observation.routes(),
                *direct_routes(services),
                *operator_routes(services),
                *demo_routes(services.settings),
            ],
            lifespan=self._lifespan,
        )
        self._services = services
        own = [*ops.routes({}), *services.observation.routes()]
        self._own_paths = {route.path for route in own if hasattr(route, "path")}
        self.state.services = services
        self.state.begin_shutdown = services.begin_shutdown

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self._services.start()
        try:
            yield
        finally:
            await self._services.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Starts by itself where a surrounding application runs no lifespan for it."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        is_upload = self._is_upload(scope)
        if is_upload or self._is_ours(_own_path(scope)):
            await self._start()
        serve: ASGIApp = self._services.tus if is_upload else super().__call__
        if not is_upload and self._is_ours(_own_path(scope)):
            serve = self._services.json_bodies.around(serve)
        if is_upload or self._is_direct(_own_path(scope)):
            endpoint = "tus" if is_upload else "direct"
            serve = self._services.observation.requests.around(endpoint, serve)
        if not self._services.hooks.hooks:
            await serve(scope, receive, send)
            return
        with origin.serving(scope):
            await serve(scope, receive, send)

    async def _start(self) -> None:
        if not self._services.started:
            await self._services.start()

    def _is_upload(self, scope: Scope) -> bool:
        path: str = scope["path"]
        base = self._services.locations.path(scope)
        if not path.startswith(base):
            return path == base[:-1]
        if base != "/":
            return True
        return path not in self._own_paths and not self._is_ours(_own_path(scope))

    def _is_ours(self, path: str) -> bool:
        """Whether it is no upload, whatever the base path, and needs the services begun."""
        settings = self._services.settings
        if settings.operator_page and operator_page.is_operator(path):
            return True
        return self._is_direct(path)

    def _is_direct(self, path: str) -> bool:
        return self._services.settings.direct_uploads and direct.is_direct(path)


def metrics_lock() -> ProcessLock | None:
    """Tells the workers that count together which of them live; None for one that counts alone."""
    folder = shared_folder()
    return ProcessLock(folder / "processes", str(os.getpid())) if folder else None


def _never(_: str) -> bool:
    """There are no siblings."""
    return False


def _own_path(scope: Scope) -> str:
    """The path below that of a surrounding application."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root.rstrip("/"))


def create_app(
    settings: Settings | None = None,
    *,
    authorize: Authorize | None = None,
    validator: Validator | None = None,
    hooks: Sequence[Hook] = (),
    tracer_provider: "TracerProvider | None" = None,
) -> TusdApp:
    """The server as an ASGI application; without settings, from environment and file.

    `authorize` is asked for every request, see `tusd_py.http.auth`; `validator` for every upload
    that arrived, see `tusd_py.broker.validation`; `hooks` are told of what happens and asked
    before it, beside those of the settings, see `tusd_py.hooks`; `tracer_provider` makes
    the OpenTelemetry spans, instead of what `OTEL_…` variables ask for. Mounted in another
    application, call `await app.state.services.stop()` when that one ends.
    Raises: SettingsError.
    """
    if settings is None:
        settings = load().settings
    settings.require_bucket()
    return TusdApp(
        Services(
            settings, authorize, validator=validator, hooks=hooks, tracer_provider=tracer_provider
        )
    )


def direct_routes(services: Services) -> list[BaseRoute]:
    """Sessions whose bytes go straight to the store, where they are wanted."""
    if not services.settings.direct_uploads:
        return []
    return direct.routes(
        services.broker,
        objects=services.objects,
        companion_profile=services.settings.companion_profile,
        locations=services.locations,
        cors=services.cors,
        authorize=services.authorize,
        before_end=None if services.tus_hooks is None else services.tus_hooks.before_end,
    )


def operator_routes(services: Services) -> list[BaseRoute]:
    """The operator's page, where it is wanted."""
    settings = services.settings
    if not settings.operator_page:
        return []
    gate = Gate(settings.operator_token, is_open=settings.operator_open)
    return operator_page.routes(services.operator, gate)


def demo_routes(settings: Settings) -> list[BaseRoute]:
    """The page for trying uploads, where it is wanted."""
    if not settings.demo_page:
        return []
    from tusd_py.demo import pages

    return pages.routes(settings)


def upload_urls(settings: Settings, signer: UrlSigner) -> Sign:
    """Signs the URLs of uploads, for as long as the settings say."""
    lifetime = settings.url_lifetime or settings.max_lifetime

    def sign(upload_id: str, created_at: datetime | None) -> str:
        return signer.for_upload(upload_id, expires_at=(created_at or utc_now()) + lifetime)

    return sign


def upload_config(settings: Settings) -> UploadConfig:
    """The settings as the use cases take them."""
    return UploadConfig(
        bucket=settings.s3_bucket,
        node=settings.node_name(),
        prefix=settings.s3_prefix,
        limits=settings.store_limits(),
        max_size=settings.max_size,
        profile_max_sizes={
            name: profile.max_size
            for name, profile in settings.profiles.items()
            if profile.max_size is not None
        },
        expires_in=settings.expires_in,
        max_lifetime=settings.max_lifetime,
        tail_loss=settings.tail_loss,
        body_idle_timeout_s=settings.body_idle_timeout.total_seconds(),
        min_body_rate=settings.min_body_rate,
        memory_budget=settings.memory_budget,
        owner_size_limited=settings.owner_max_bytes is not None,
    )


def quota_of(settings: Settings) -> Quota | None:
    """What each owner may have open; None without a limit."""
    if settings.owner_max_uploads is None and settings.owner_max_bytes is None:
        return None
    return Quota(max_sessions=settings.owner_max_uploads, max_size=settings.owner_max_bytes)


def s3_config(settings: Settings) -> S3Config:
    """The settings as the S3 adapter takes them."""
    style = settings.s3_addressing_style
    return S3Config(
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        region=settings.s3_region,
        addressing_style=None if style == "auto" else style,
        checksum=settings.s3_checksum,
        max_connections=settings.s3_max_connections,
        deadline_s=settings.s3_deadline_s,
    )
