"""What a request may do to an upload in a given state. The section of the text beside each rule."""

from datetime import datetime, timedelta

from tusd_py.protocol.errors import (
    FileRefused,
    FinalNotWritable,
    InvalidHeader,
    OffsetMismatch,
    SizeExceeded,
    UploadGone,
)
from tusd_py.protocol.requests import PatchRequest
from tusd_storage.frozen import record


@record(frozen=True, slots=True, kw_only=True)
class UploadFacts:
    """What the rules need to know about an upload."""

    offset: int
    length: int | None
    is_final: bool
    ended: bool
    """Terminated, expired or failed."""
    failure: str | None = None
    """Stable code of why it failed."""
    finished: bool
    expires_at: datetime | None


@record(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What a PATCH may do: where the upload ends, and how many bytes it may bring."""

    length: int | None
    """Total length after this request's headers; None while still deferred."""
    declares_length: bool
    max_bytes: int
    """Bytes this body may bring at most."""


def check_exists(facts: UploadFacts, now: datetime) -> None:
    """Expiration and Termination: 410 for what existed and is gone. Raises: UploadGone."""
    if facts.failure == FileRefused.code:
        raise FileRefused("the file was not the one declared at creation; the upload has failed")
    if facts.ended:
        raise UploadGone("the upload was terminated or has expired")
    if not facts.finished and facts.expires_at is not None and facts.expires_at <= now:
        raise UploadGone("the upload has expired")


def check_patch(
    facts: UploadFacts, request: PatchRequest, *, now: datetime, max_size: int
) -> Acceptance:
    """Everything about a PATCH that can be decided before its body is read.

    `max_size`: the most bytes this upload may ever have.
    Raises: UploadGone, FinalNotWritable, InvalidHeader, OffsetMismatch, SizeExceeded.
    """
    check_exists(facts, now)
    if facts.is_final:  # Concatenation: MUST respond 403 to PATCH against a final upload
        raise FinalNotWritable("a final upload takes no bytes")
    length = _length_after(facts, request, max_size)
    if request.offset != facts.offset:  # Core, PATCH: offsets MUST be equal
        raise OffsetMismatch(facts.offset)
    room = (max_size if length is None else length) - facts.offset
    if request.body.content_length is not None and request.body.content_length > room:
        raise SizeExceeded(f"the body has more than the {room} bytes this upload may still take")
    return Acceptance(
        length=length, declares_length=facts.length is None and length is not None, max_bytes=room
    )


def _length_after(facts: UploadFacts, request: PatchRequest, max_size: int) -> int | None:
    """Creation, Upload-Defer-Length: set in a later PATCH; once set it MUST NOT be changed."""
    declared = request.length
    if declared is None or declared == facts.length:
        return facts.length
    if facts.length is not None:
        raise InvalidHeader("Upload-Length", "is already known and must not be changed")
    if declared < facts.offset:
        raise InvalidHeader("Upload-Length", f"is below the upload's offset, {facts.offset}")
    if declared > max_size:
        raise SizeExceeded(f"Upload-Length is {declared}, the maximum is {max_size} bytes")
    return declared


def expires_at(
    created_at: datetime, now: datetime, *, idle: timedelta, life: timedelta
) -> datetime:
    """Expiration: each accepted byte renews it, but an upload never outlives `life`."""
    return min(now + idle, created_at + life)
