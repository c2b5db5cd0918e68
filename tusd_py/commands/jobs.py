"""`tusd-py jobs`: what the outbox holds; one job in full; a dead one tried again."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tusd_py.commands.running import (
    DONE,
    FAILED,
    UNREACHABLE,
    complain,
    print_json,
    print_line,
    services,
)
from tusd_py.settings import Settings
from tusd_storage.errors import StorageError
from tusd_storage.records import Job, JobState

if TYPE_CHECKING:
    from tusd_py.services import Services

TEXT = "List jobs, show one, or try one again."
PAGE = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "action", choices=("list", "show", "retry"), metavar="{list,show,retry}", help="What to do."
    )
    parser.add_argument("job", nargs="*", default=[], metavar="ID", help="show, retry: which jobs.")
    parser.add_argument(
        "--state", choices=[state.value for state in JobState], help="list: only these."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def run(settings: Settings, *, action: str, job: list[str], state: str | None, json: bool) -> int:
    """0: done; 1: one of the jobs is not there or cannot be tried again; 3: no database."""
    try:
        return asyncio.run(_run(settings, action, job, state, as_json=json))
    except StorageError as error:
        complain(f"the jobs cannot be read: {error}")
        return UNREACHABLE


async def _run(
    settings: Settings, action: str, ids: list[str], state: str | None, *, as_json: bool
) -> int:
    if action != "list" and not ids:
        complain(f"write which job: tusd-py jobs {action} ID")
        return FAILED
    async with services(settings) as running:
        if action == "list":
            await _list(running, state, as_json=as_json)
            return DONE
        results = [await _one(running, action, job_id, as_json=as_json) for job_id in ids]
    return DONE if all(results) else FAILED


async def _one(running: "Services", action: str, job_id: str, *, as_json: bool) -> bool:
    if action == "retry" and not await running.sessions.revive(job_id, now=datetime.now(UTC)):
        complain(f"job {job_id} is not there, runs now, or is done")
        return False
    job = await running.sessions.job(job_id)
    if job is None:
        complain(f"there is no job {job_id}")
        return False
    if as_json or action == "show":
        print_json(asdict(job))
    else:
        _print(job)
    return True


async def _list(running: "Services", state: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(job) async for job in _all(running, state)])
        return
    found = False
    async for job in _all(running, state):
        found = True
        _print(job)
    if not found:
        complain("there are no jobs" if state is None else f"there are no {state} jobs")


async def _all(running: "Services", state: str | None) -> AsyncIterator[Job]:
    after = None
    while page := await running.sessions.jobs(state=state, after=after, limit=PAGE):
        for job in page:
            yield job
        after = page[-1].id


def _print(job: Job) -> None:
    error = f"  {job.error.splitlines()[0][:80]}" if job.error else ""
    when = job.run_at.isoformat(timespec="seconds")
    print_line(f"{job.id:<24} {job.state.value:<8} {job.attempts:>3}x  {when}  {job.kind}{error}")
