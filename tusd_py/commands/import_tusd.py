"""`tusd-py import-tusd`: unfinished uploads of a tusd in the same bucket go on here."""

import argparse
import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import asdict
from urllib.parse import urlsplit

from tusd_py.clock import utc_now
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
from tusd_py.importing.takeover import Outcome, Takeover, Tools
from tusd_py.settings import Settings
from tusd_storage.errors import StorageError

TEXT = "Take over unfinished uploads of tusd. Tells what it would do; --apply does it."

AMAZON = ".amazonaws.com"
_QUIET = ("finished", "already")
"""Counted, not listed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument("--apply", action="store_true", help="Act, instead of only telling.")
    parser.add_argument(
        "--object-prefix",
        metavar="PREFIX",
        help="What tusd had as -s3-object-prefix. Default: s3_prefix.",
    )
    parser.add_argument(
        "--owner-key", metavar="KEY", help="The metadata that names an upload's owner."
    )
    parser.add_argument("--json", action="store_true", help="Print the report as JSON.")


def run(
    settings: Settings, *, apply: bool, object_prefix: str | None, owner_key: str | None, json: bool
) -> int:
    """0: everything unfinished is, or would be, taken over; 1: some is not; 3: the database or the
    store cannot be asked."""
    prefix = settings.s3_prefix if object_prefix is None else folder(object_prefix)
    outcomes: list[Outcome] = []
    try:
        asyncio.run(_run(settings, prefix, owner_key, outcomes, apply=apply, tell=not json))
    except asyncio.CancelledError:
        complain("stopped before the end; run it again")
        return FAILED
    except StorageError as error:
        complain(f"the import cannot go on: {error}")
        return UNREACHABLE
    counted = Counter(outcome.code for outcome in outcomes)
    if json:
        listed = [asdict(one) for one in outcomes if one.code not in _QUIET]
        print_json({"applied": apply, "counts": counted, "uploads": listed})
    else:
        print_line(_summary(counted, apply=apply))
    return DONE if not counted.keys() - {"taken", *_QUIET} else FAILED


async def _run(
    settings: Settings,
    prefix: str,
    owner_key: str | None,
    outcomes: list[Outcome],
    *,
    apply: bool,
    tell: bool,
) -> None:
    task = asyncio.current_task()
    assert task is not None
    # Nothing is created: tusd has told its hooks of these uploads, under the same ids.
    async with services(settings.model_copy(update={"hooks_http": ()})) as running:
        on_stop(task.cancel)
        tools = Tools(
            config=running.config,
            sessions=running.sessions,
            objects=running.objects,
            listing=running.objects,
            tails=running.tails,
            leases=running.leases,
            now=utc_now,
        )
        takeover = Takeover(
            tools, prefix=prefix, owner_key=owner_key, checksums=checksums(settings)
        )
        async with aclosing(takeover.run(apply=apply)) as found:
            async for outcome in found:
                outcomes.append(outcome)
                if tell and outcome.code not in _QUIET:
                    print_line(_line(outcome, apply=apply))


def folder(prefix: str) -> str:
    """The prefix as tusd puts it before keys: with a slash at its end."""
    return f"{prefix}/" if prefix and not prefix.endswith("/") else prefix


def checksums(settings: Settings) -> str | None:
    """Amazon takes into a multipart upload only parts with the checksum it was opened with."""
    host = urlsplit(settings.s3_endpoint or "").hostname
    if host is not None and not host.endswith(AMAZON):
        return None
    return "crc32" if settings.s3_checksum == "crc32" else "other"


def _line(outcome: Outcome, *, apply: bool) -> str:
    name = outcome.id or outcome.key
    if outcome.code != "taken":
        return f"not taken  {name}  {outcome.code}: {outcome.reason}"
    length = "?" if outcome.length is None else outcome.length
    lost = f", {outcome.lost} bytes are to be sent again" if outcome.lost else ""
    return f"{'taken' if apply else 'would take'}  {name}  at {outcome.offset} of {length}{lost}"


def _summary(counted: Counter[str], *, apply: bool) -> str:
    not_taken = sum(counted.values()) - sum(counted[code] for code in ("taken", *_QUIET))
    taken = "taken over" if apply else "would be taken over (write --apply to do it)"
    return (
        f"{counted['taken']} {taken}, {not_taken} not, {counted['already']} already here, "
        f"{counted['finished']} finished or ended at tusd"
    )
