"""The store as clients see it: signed addresses at the public endpoint, and its clock."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from tusd_py.doctor.findings import Finding, broken, ok, skipped, warning
from tusd_py.doctor.web import NoAnswer, WebAnswer, ask
from tusd_storage.errors import StorageError
from tusd_storage.ports import ObjectStore
from tusd_storage.records import ObjectSpec

PRESIGNED, CLOCK = "store.presigned", "store.clock"
MUCH = timedelta(minutes=5)
"""S3 refuses signatures that are 15 minutes off; the two clocks drift further."""
SOME = timedelta(seconds=30)

_PUBLIC = (
    "Set TUSD_S3_PUBLIC_ENDPOINT to the address under which clients reach the store; a proxy on the"
    " way must pass the Host header on."
)
_SYNC = "Let an NTP service set the clocks of this machine and of the store."


async def examine(
    objects: ObjectStore,
    probe: ObjectSpec,
    content: bytes,
    *,
    now: Callable[[], datetime],
    ask: Callable[..., WebAnswer] = ask,
) -> list[Finding]:
    """Two checks on a probe object that is there."""
    try:
        url = await objects.presign_get(probe.bucket, probe.key, expires_in_s=300)
        answer = await asyncio.to_thread(ask, "GET", url)
    except (StorageError, NoAnswer) as error:
        what = f"A signed address cannot be reached from here ({error})."
        return [broken(PRESIGNED, what, _PUBLIC), skipped(CLOCK, "The store did not answer.")]
    return [_presigned(answer, content), _clock(answer, now())]


def _presigned(answer: WebAnswer, content: bytes) -> Finding:
    if answer.status == 200 and answer.body == content:
        return ok(PRESIGNED, "Signed addresses lead to the object.")
    what = f"A signed address does not lead to the object: the answer is {answer.status}."
    return broken(PRESIGNED, what, _PUBLIC)


def _clock(answer: WebAnswer, now: datetime) -> Finding:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
        skew = abs(now - theirs)
    except (KeyError, ValueError, TypeError):
        return skipped(CLOCK, "The store does not tell its time.")
    what = f"The clocks of this machine and of the store are {skew.total_seconds():.0f} s apart."
    if skew > MUCH:
        return broken(CLOCK, what, _SYNC)
    if skew > SOME:
        return warning(CLOCK, what, _SYNC)
    return ok(CLOCK, what)
