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

from tusd_py.settings import Settings
from tusd_py.telemetry import logs

if TYPE_CHECKING:
    from tusd_py.services import Services

DONE = 0
FAILED = 1
UNREACHABLE = 3


@asynccontextmanager
async def services(settings: Settings) -> AsyncIterator["Services"]:
    """The services, begun; ended with the block. Raises: SettingsError, StateUnavailable."""
    from tusd_py.services import Services  # what `--help` needs none of

    settings.require_bucket()
    logs.configure(style=settings.log_format, level=settings.log_level)
    quiet = settings.model_copy(update={"reap": False, "work": False, "expose_metrics": False})
    running = Services(quiet, authorize=None)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


def on_stop(stop: Callable[[], object]) -> None:
    """Has `stop` called in the running loop at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, default=_plain, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def complain(text: str) -> None:
    """A sentence on standard error."""
    sys.stderr.write(f"tusd-py: {text}\n")


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
