"""`tusd-py reap`: one run of the sweeps, from a terminal, a timer or a CronJob."""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from tusd_py.commands.running import (
    DONE,
    FAILED,
    UNREACHABLE,
    complain,
    on_stop,
    print_json,
    print_line,
    services,
)
from tusd_py.settings import Settings
from tusd_reaper.report import Report, Sweep, lines
from tusd_storage.errors import StorageError

TEXT = "Sweep up what uploads left behind. Tells what it would do; --apply does it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument("--apply", action="store_true", help="Act, instead of only telling.")
    parser.add_argument(
        "--only",
        action="append",
        choices=[sweep.value for sweep in Sweep],
        metavar="SWEEP",
        help=f"Only this sweep; may be given again. One of {', '.join(Sweep)}.",
    )
    parser.add_argument("--json", action="store_true", help="Print the report as JSON.")


def run(settings: Settings, *, apply: bool, only: Sequence[str] | None, json: bool) -> int:
    """0: all that was due is done; 1: something failed; 3: the database cannot be asked."""
    wanted = [Sweep(name) for name in only or tuple(Sweep)]
    try:
        report = asyncio.run(_reap(settings, wanted, apply=apply))
    except asyncio.CancelledError:
        complain("stopped before the end; run it again")
        return FAILED
    except StorageError as error:
        complain(f"the sweeps cannot run: {error}")
        return UNREACHABLE
    if json:
        print_json(asdict(report) | {"failed": report.failed})
    else:
        for line in lines(report):
            print_line(line)
    return FAILED if report.failed else DONE


async def _reap(settings: Settings, only: Sequence[Sweep], *, apply: bool) -> Report:
    task = asyncio.current_task()
    assert task is not None
    async with services(settings, metrics="reap_metrics_port") as running:
        on_stop(task.cancel)
        return await running.maintenance.reap(only, apply=apply)
