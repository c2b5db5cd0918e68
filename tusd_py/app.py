"""The server as an ASGI application.

`create_app(settings)` is a whole server; mounted in another Starlette or FastAPI application it
works below that application's path.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tusd_py.broker.validation import Validator
from tusd_py.hooks import Hook, origin
from tusd_py.http import direct, ops, unrouted
from tusd_py.http import operator as operator_page
from tusd_py.http.auth import Authorize
from tusd_py.http.operator_gate import Gate
from tusd_py.services import Services
from tusd_py.settings import Settings
from tusd_py.settings.sources import load

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


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
            exception_handlers=unrouted.handlers(services.locations),
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
            observed = self._services.observation.requests
            serve = observed.around(endpoint, serve, overrides=is_upload)
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
        check_room=services.sessions.check_room,
    )


def operator_routes(services: Services) -> list[BaseRoute]:
    """The operator's page, where it is wanted."""
    settings = services.settings
    if not settings.operator_page:
        return []
    gate = Gate(settings.operator_token, is_open=settings.operator_open)
    if not settings.operator_open:
        return operator_page.routes(services.operator, gate)
    from tusd_py.demo import recorded  # who is on this machine may have been started by `dev`

    command = recorded.listing_command_without_paths(settings)
    return operator_page.routes(services.operator, gate, command=command)


def demo_routes(settings: Settings) -> list[BaseRoute]:
    """The page for trying uploads, where it is wanted."""
    if not settings.demo_page:
        return []
    from tusd_py.demo import pages

    return pages.routes(settings)
