"""`tusd-py work`: the job worker as a process of its own."""

import argparse
import asyncio

from tusd_py.commands.running import DONE, FAILED, UNREACHABLE, complain, on_stop, services
from tusd_py.settings import Settings
from tusd_storage.errors import StorageError

TEXT = "Run jobs, such as checking what arrived, until told to stop."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument("--once", action="store_true", help="Run what is due, then end.")


def run(settings: Settings, *, once: bool) -> int:
    """0: told to stop, or nothing is due any more; 1: there is nothing it could do; 3: the database
    cannot be asked."""
    try:
        return asyncio.run(_work(settings, once=once))
    except StorageError as error:
        complain(f"the worker cannot run: {error}")
        return UNREACHABLE


async def _work(settings: Settings, *, once: bool) -> int:
    async with services(settings, metrics="work_metrics_port") as running:
        worker = running.maintenance.worker
        if not running.job_handlers:
            complain("there is no kind of job that this program can run")
            return FAILED
        on_stop(worker.stop)
        if once:
            await worker.run_due()
        else:
            await worker.run()
    return DONE
