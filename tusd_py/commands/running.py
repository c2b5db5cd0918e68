"""The services of a server, for a command that ends: without its schedule and its worker.

Owns starting and stopping them, and exit codes. Logs go to standard error, results to standard
output.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tusd_py.settings import Settings, SettingsError
from tusd_py.telemetry import logs

if TYPE_CHECKING:
    from tusd_py.services import Services

DONE = 0
FAILED = 1
UNREACHABLE = 3


@asynccontextmanager
async def services(settings: Settings, *, metrics: str | None = None) -> AsyncIterator["Services"]:
    """The services, begun; ended with the block. `metrics`: the setting that may name a port on
    which theirs are served meanwhile. Raises: SettingsError, StateUnavailable.
    """
    from tusd_py.services import Services  # what `--help` needs none of

    settings.require_bucket()
    logs.configure(style=settings.log_format, level=settings.log_level)
    port: int | None = None
    if metrics is not None and settings.expose_metrics:
        port = getattr(settings, metrics)
    if port is not None:
        _check_port(settings.metrics_host or settings.host, port, str(metrics))
    own = {"reap": False, "work": False, "expose_metrics": port is not None, "metrics_port": port}
    running = Services(settings.model_copy(update=own), authorize=None)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


def _check_port(host: str, port: int, name: str) -> None:
    """Several processes can listen on the port of metrics, and a scrape would meet any of them.

    Raises: SettingsError.
    """
    from tusd_py.server import port_is_free

    try:
        port_is_free(host, port)
    except SettingsError as error:
        reason = getattr(error.__cause__, "strerror", None)
        raise SettingsError(
            f"Metrics cannot be served on port {port} of {host} ({reason}): "
            f"stop what uses it, or write another {name}"
        ) from error


def on_stop(stop: Callable[[], object]) -> None:
    """Has `stop` called in the running loop at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def print_json(value: object) -> None:
    """One JSON document on standard output; what could steer a terminal is escaped."""
    text = json.dumps(value, default=_simple, indent=2, ensure_ascii=False)
    lines = text.split("\n")  # its own; those inside of texts are escaped already
    sys.stdout.write("\n".join(map(_escaped, lines)) + "\n")


def print_line(text: str) -> None:
    """A line on standard output; what could steer a terminal is replaced."""
    sys.stdout.write(printable(text) + "\n")


def complain(text: str) -> None:
    """A sentence on standard error, as `print_line`."""
    sys.stderr.write(f"tusd-py: {printable(text)}\n")


def printable(text: str) -> str:
    """Names and errors may be chosen by strangers: what could steer a terminal is replaced."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _simple(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
