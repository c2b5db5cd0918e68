"""Runs the application under uvicorn: port, workers, file limit, and what a stop signal does.

Owns the process. Knows nothing of uploads: all it asks of the application is
`app.state.begin_shutdown()`, which must return at once and make running requests end early.
"""

import asyncio
import ctypes
import errno
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from types import FrameType
from typing import NoReturn

import structlog
import uvicorn
from starlette.applications import Starlette

from tusd_py.http.connection import Requests
from tusd_py.http.connections import ConnectionLimits, Connections, affordable
from tusd_py.http.counted import CountedConnection
from tusd_py.settings import Settings, SettingsError
from tusd_py.telemetry import logs
from tusd_py.telemetry.exposition import FOLDER_VARIABLE

log = structlog.get_logger(__name__)

SETTINGS_VARIABLE = "_TUSD_PY_SETTINGS"
"""Carries the settings to worker processes, as JSON. Not for people."""

FACTORY = "tusd_py.server:create_application"
_M_ARENA_MAX = -8
"""From glibc's malloc.h."""
GC_THRESHOLD = 10_000
"""Objects more than were freed, before the collector looks; Python's own default is 700."""

FREE_FOR_ALL = 1024
"""The first TCP port that needs no right, where the system was not told otherwise."""

BACKLOG = 2048
WORKER_SILENCE_S = 60
"""A worker that does not answer its supervisor for so long is replaced."""


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    Raises:
        SettingsError: the port cannot be had.
    """
    port_is_free(settings.host, settings.port)
    raise_file_limit()
    warn_when_open(settings)
    if settings.expose_metrics and settings.metrics_port is not None:
        port_is_free(
            settings.metrics_host or settings.host, settings.metrics_port, flag="--metrics-"
        )
    exit_on_sigterm()
    os.environ[SETTINGS_VARIABLE] = settings.model_dump_json()
    with shared_metrics(settings):
        return _serve(settings)


def _serve(settings: Settings) -> int:
    try:
        uvicorn.run(
            FACTORY,
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            loop="uvloop",
            http=CountedConnection,  # type: ignore[arg-type]  # asyncio.BufferedProtocol is no Protocol
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=max(1, round(settings.keep_alive_timeout.total_seconds())),
            timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout.total_seconds())),
            timeout_worker_healthcheck=WORKER_SILENCE_S,
        )
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    finally:
        os.environ.pop(SETTINGS_VARIABLE, None)
    return 0


@contextmanager
def shared_metrics(settings: Settings) -> Iterator[None]:
    """A folder in which the workers count together, for as long as the server runs."""
    if settings.workers == 1 or not settings.expose_metrics:
        yield
        return
    with tempfile.TemporaryDirectory(
        prefix="tusd-py-metrics-", ignore_cleanup_errors=True
    ) as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            os.environ.pop(FOLDER_VARIABLE, None)


def create_application() -> Starlette:
    """What uvicorn calls in each serving process, inside its event loop."""
    from tusd_py.app import create_app  # the supervisor needs none of it

    settings = Settings.model_validate_json(os.environ[SETTINGS_VARIABLE])
    logs.configure(style=settings.log_format, level=settings.log_level, lasting=True)
    app = create_app(settings)
    Requests.places = Connections(connection_limits(settings))
    spare_the_collector()
    keep_memory_small()
    call_before_shutdown(app.state.begin_shutdown)
    end_with_parent()
    return app


def connection_limits(settings: Settings) -> ConnectionLimits:
    """What clients may take of this process; says so when its open files do not suffice."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = affordable(settings.max_connections, files=files)
    if most < settings.max_connections:
        log.warning(
            "fewer connections than max_connections: raise the limit of open files",
            max_connections=most,
            open_files=files,
        )
    return ConnectionLimits(
        max_connections=most,
        head_timeout_s=settings.head_timeout.total_seconds(),
        keep_alive_timeout_s=settings.keep_alive_timeout.total_seconds(),
        stall_timeout_s=settings.send_timeout.total_seconds(),
    )


def keep_memory_small() -> None:
    """Has all threads allocate from two arenas of the C library, not from eight for each core, and
    gives back what only the start needed.

    Python lets one thread run at a time: more arenas only keep more memory that is free.
    """
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 2)
        library.malloc_trim(0)


def spare_the_collector() -> None:
    """What the program is made of is never garbage: no collection need look at it again.

    Requests leave hardly any cycles behind, so the youngest generation may grow larger.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])


def call_before_shutdown(hook: Callable[[], object]) -> None:
    """Has `hook` called in the running loop at the first sign of SIGINT or SIGTERM.

    uvicorn waits for running requests before it ends the lifespan; an upload over a slow line
    would hold it for the whole of `shutdown_timeout`. uvicorn's own handler runs as well.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _chained(signal.getsignal(number), loop, hook))


def _chained(
    previous: object, loop: asyncio.AbstractEventLoop, hook: Callable[[], object]
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(hook)
        if callable(previous):
            previous(number, frame)

    return handle


def end_with_parent() -> None:
    """In a worker: stops in good order when the supervisor is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def exit_on_sigterm() -> None:
    """Makes SIGTERM an orderly exit with code 0; uvicorn raises it again when it has finished."""

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)


def port_is_free(host: str, port: int, *, flag: str = "--") -> None:
    """Returns when the address can be listened on; `flag` begins the flags that name it.

    Raises:
        SettingsError: it cannot; the message says why and what to write.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(
            f"Port {port} on {host} cannot be listened on ({reason}): {_remedy(error, port, flag)}"
        ) from error


def _remedy(error: OSError, port: int, flag: str) -> str:
    """What to write when an address cannot be listened on."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"it is no address of this machine; write {flag}host 127.0.0.1 to serve this machine "
            f"only, or {flag}host 0.0.0.0 to serve its network"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        if port >= FREE_FOR_ALL:
            return f"the system forbids it; write another {flag}port"
        return (
            f"ports below {FREE_FOR_ALL} need a right; write {flag}port {8000 + port}, or give the "
            "program the capability CAP_NET_BIND_SERVICE"
        )
    if error.errno == errno.EADDRINUSE:
        return f"stop what uses it, or write {flag}port {port + 1 if port < 65535 else 8080}"
    return f"write another {flag}host or {flag}port"


def warn_when_open(settings: Settings) -> None:
    """Says loudly that anybody who reaches this server may upload."""
    if settings.auth == ("none",) and not is_loopback(settings.host):
        structlog.get_logger(__name__).warning(
            "no_authentication",
            host=settings.host,
            reason="anybody who can reach this address may upload: set auth, or be sure that a "
            "proxy in front of it lets nobody else through",
        )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def raise_file_limit() -> None:
    """Each connection is an open file: takes as many as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
