"""`/metrics`: beside the uploads, or on a port of its own."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tusd_py.telemetry.exposition import CONTENT_TYPE

BACKLOG = 64

Render = Callable[[], Awaitable[bytes]]


def routes(path: str, render: Render) -> list[BaseRoute]:
    """Metrics in Prometheus' text format at `path`."""

    async def metrics(_: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(await render(), headers=headers, media_type=CONTENT_TYPE)

    return [Route(path, metrics)]


class MetricsServer:
    """Serves metrics on an address of their own, in this process's event loop.

    All workers of a server listen there; the system chooses who answers, and each answers for all.
    """

    def __init__(self, host: str, port: int, path: str, render: Render) -> None:
        self._address = host, port
        self._app = Starlette(routes=routes(path, render))
        self._server: _Quiet | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens. Raises: OSError."""
        listener = _listen(*self._address)
        config = uvicorn.Config(
            self._app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = _Quiet(config)
        self._task = asyncio.create_task(
            self._server.serve(sockets=[listener]), name="metrics-server"
        )

    async def stop(self) -> None:
        """Ends with the answers under way."""
        server, self._server = self._server, None
        task, self._task = self._task, None
        if server is not None and task is not None:
            server.should_exit = True
            await asyncio.wait([task])


class _Quiet(uvicorn.Server):
    """Leaves the signals of the process alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
