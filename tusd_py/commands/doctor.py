"""`tusd-py doctor`: what is wrong with this installation, and how to mend it."""

import argparse
import asyncio
from dataclasses import asdict
from datetime import UTC, datetime

from tusd_py.commands.running import DONE, FAILED, print_json, print_line
from tusd_py.doctor import database, disk, lifecycle, outside, routing
from tusd_py.doctor.findings import Finding, Status, is_broken, skipped
from tusd_py.doctor.store import LAST, StoreExamination
from tusd_py.settings import Settings
from tusd_py.telemetry import logs

TEXT = "Find out what is wrong before users do: database, store, disk, clocks, load balancer."

_MARKS = {Status.OK: "ok", Status.WARNING: "WARN", Status.BROKEN: "BROKEN", Status.SKIPPED: "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument("--json", action="store_true", help="Print the findings as JSON.")


def run(settings: Settings, *, json: bool) -> int:
    """0: nothing is broken; 1: something is."""
    settings.require_bucket()
    logs.configure(style=settings.log_format, level="error")
    findings = asyncio.run(examine(settings))
    if json:
        print_json({"broken": is_broken(findings), "checks": [asdict(one) for one in findings]})
    else:
        for finding in findings:
            print_line(f"{_MARKS[finding.status]:<7} {finding.id:<20} {finding.what}")
            if finding.mend:
                print_line(f"{'':<28} {finding.mend}")
    return FAILED if is_broken(findings) else DONE


async def examine(settings: Settings) -> list[Finding]:
    """Every check there is, one after the other."""
    from tusd_py.backends import Backends  # what `--help` needs none of

    behind = Backends(settings)
    try:
        findings = await database.examine(
            behind.sessions.ping, behind.schema_is_current, embedded=behind.embedded
        )
        probing = StoreExamination(
            behind.objects,
            bucket=settings.s3_bucket,
            prefix=settings.s3_prefix,
            checksum=settings.s3_checksum,
        )
        await probing.run()
        findings += probing.findings
        if any(one.id == "store.put" and one.status is Status.OK for one in findings):
            findings += await outside.examine(
                behind.objects,
                probing.spec,
                LAST,
                conditional_writes=settings.s3_conditional_writes,
                now=_now,
            )
            tidied = len(probing.findings)
            await probing.tidy()
            findings += probing.findings[tidied:]
        else:
            why = "There is no object to ask for."
            unseen = (outside.PRESIGNED, outside.CONDITIONAL, outside.CLOCK)
            findings += [skipped(check, why) for check in unseen]
        findings.append(
            await lifecycle.examine(
                behind.rules,
                bucket=settings.s3_bucket,
                prefix=settings.s3_prefix,
                lifetime_days=settings.max_lifetime.total_seconds() / 86_400,
            )
        )
    finally:
        await behind.aclose()
    findings += await asyncio.to_thread(disk.examine, settings.tmp_dir)
    findings.append(
        await asyncio.to_thread(routing.examine, settings.public_url, settings.base_path)
    )
    return findings


def _now() -> datetime:
    return datetime.now(UTC)
