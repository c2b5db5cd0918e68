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

PRESIGNED, CONDITIONAL, CLOCK = "store.presigned", "store.conditional", "store.clock"
MUCH = timedelta(minutes=5)
"""S3 refuses signatures that are 15 minutes off; the two clocks drift further."""
SOME = timedelta(seconds=30)

_PUBLIC = (
    "Set TUSD_S3_PUBLIC_ENDPOINT to the address under which clients reach the store; a proxy on the"
    " way must pass the Host header on."
)
_ONCE = (
    "Take a version of the store that has conditional writes, or let readers ask for the etag that"
    " was proven (docs/broker.md)."
)
_NO_HEADER = (
    "Set TUSD_S3_CONDITIONAL_WRITES to false: signed PUTs work then, and may replace an object"
    " until they run out."
)
_SYNC = "Let an NTP service set the clocks of this machine and of the store."


async def examine(
    objects: ObjectStore,
    probe: ObjectSpec,
    content: bytes,
    *,
    conditional_writes: bool,
    now: Callable[[], datetime],
    ask: Callable[..., WebAnswer] = ask,
) -> list[Finding]:
    """Three checks on a probe object that is there."""
    try:
        url = await objects.presign_get(probe.bucket, probe.key, expires_in_s=300)
        answer = await asyncio.to_thread(ask, "GET", url)
    except (StorageError, NoAnswer) as error:
        what = f"A signed address cannot be reached from here ({error})."
        silent = "The store did not answer."
        return [
            broken(PRESIGNED, what, _PUBLIC),
            skipped(CONDITIONAL, silent),
            skipped(CLOCK, silent),
        ]
    if conditional_writes:
        conditional = await _conditional(objects, probe, content, ask)
    else:
        conditional = skipped(CONDITIONAL, "s3_conditional_writes is off: signed PUTs may replace.")
    return [_presigned(answer, content), conditional, _clock(answer, now())]


async def _conditional(
    objects: ObjectStore, probe: ObjectSpec, content: bytes, ask: Callable[..., WebAnswer]
) -> Finding:
    """A signed PUT where there is an object already: it must be refused, and with 412."""
    try:
        put = await objects.presign_put(probe, expires_in_s=300, content_length=len(content))
        answer = await asyncio.to_thread(ask, put.method, put.url, put.headers, content)
    except (StorageError, NoAnswer) as error:
        return skipped(CONDITIONAL, f"A signed PUT cannot be sent from here ({error}).")
    if answer.status == 412:
        return ok(CONDITIONAL, "A signed PUT does not replace an object that is there.")
    if answer.status == 200:
        what = "The store passes over If-None-Match: a signed PUT may replace what is there."
        return warning(CONDITIONAL, what, _ONCE)
    what = f"The store refuses signed PUTs with If-None-Match: the answer is {answer.status}."
    return broken(CONDITIONAL, what, _NO_HEADER)


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
