"""What a request may do to an upload in a given state, as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tusd_py.protocol import rules
from tusd_py.protocol.errors import (
    FinalNotWritable,
    InvalidHeader,
    OffsetMismatch,
    ProtocolError,
    SizeExceeded,
    UploadGone,
)
from tusd_py.protocol.requests import BodyFacts, PatchRequest
from tusd_py.protocol.rules import UploadFacts

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MAX = 1000
OPEN = UploadFacts(
    offset=10, length=100, is_final=False, ended=False, finished=False, expires_at=NOW + SECOND
)
DEFERRED = replace(OPEN, length=None)


def request(offset: int, body: int | None = 0, *, length: int | None = None) -> PatchRequest:
    facts = BodyFacts(content_length=body, checksum=None, checksum_trailer=False)
    return PatchRequest(offset=offset, length=length, body=facts)


@pytest.mark.parametrize(
    ("facts", "asked", "length", "declares", "room"),
    [
        (OPEN, request(10), 100, False, 90),
        (OPEN, request(10, 90), 100, False, 90),
        (OPEN, request(10, None), 100, False, 90),
        (OPEN, request(10, 1, length=100), 100, False, 90),
        (replace(OPEN, offset=100), request(100), 100, False, 0),
        (replace(OPEN, expires_at=None), request(10), 100, False, 90),
        (replace(OPEN, finished=True, expires_at=NOW), request(10), 100, False, 90),
        (DEFERRED, request(10, 990), None, False, 990),
        (DEFERRED, request(10, None), None, False, 990),
        (DEFERRED, request(10, length=10), 10, True, 0),
        (DEFERRED, request(10, 5, length=15), 15, True, 5),
        (DEFERRED, request(10, length=MAX), MAX, True, 990),
        (replace(DEFERRED, offset=0), request(0, length=0), 0, True, 0),
    ],
)
def test_patches_that_are_accepted(
    facts: UploadFacts, asked: PatchRequest, length: int | None, declares: bool, room: int
) -> None:
    accepted = rules.check_patch(facts, asked, now=NOW, max_size=MAX)
    assert accepted == rules.Acceptance(length=length, declares_length=declares, max_bytes=room)


@pytest.mark.parametrize(
    ("facts", "asked", "error"),
    [
        (OPEN, request(9), OffsetMismatch),
        (OPEN, request(11), OffsetMismatch),
        (OPEN, request(9, 1000), OffsetMismatch),
        (OPEN, request(10, 91), SizeExceeded),
        (replace(OPEN, offset=100), request(100, 1), SizeExceeded),
        (OPEN, request(10, length=99), InvalidHeader),
        (OPEN, request(10, length=101), InvalidHeader),
        (DEFERRED, request(10, length=9), InvalidHeader),
        (DEFERRED, request(10, length=MAX + 1), SizeExceeded),
        (DEFERRED, request(10, 991), SizeExceeded),
        (DEFERRED, request(10, 6, length=15), SizeExceeded),
        (replace(OPEN, ended=True), request(10), UploadGone),
        (replace(OPEN, ended=True), request(99), UploadGone),
        (replace(OPEN, expires_at=NOW), request(10), UploadGone),
        (replace(OPEN, expires_at=NOW - SECOND), request(10), UploadGone),
        (replace(OPEN, is_final=True), request(10), FinalNotWritable),
        (replace(OPEN, is_final=True), request(0, 5), FinalNotWritable),
        (replace(OPEN, is_final=True, finished=True, offset=100), request(100), FinalNotWritable),
        (replace(OPEN, is_final=True, ended=True), request(10), UploadGone),
    ],
)
def test_patches_that_are_refused(
    facts: UploadFacts, asked: PatchRequest, error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        rules.check_patch(facts, asked, now=NOW, max_size=MAX)


def test_a_conflict_tells_the_offset() -> None:
    with pytest.raises(OffsetMismatch) as caught:
        rules.check_patch(OPEN, request(0), now=NOW, max_size=MAX)
    assert caught.value.offset == 10


size = st.integers(0, 1200)


@given(
    facts=st.builds(
        UploadFacts,
        offset=size,
        length=st.none() | size,
        is_final=st.booleans(),
        ended=st.booleans(),
        finished=st.booleans(),
        expires_at=st.none() | st.just(NOW) | st.just(NOW + SECOND),
    ),
    asked=st.builds(request, size, st.none() | size, length=st.none() | size),
)
@settings(deadline=None, max_examples=150)
def test_what_is_accepted_never_leads_beyond_the_length(
    facts: UploadFacts, asked: PatchRequest
) -> None:
    assume(facts.offset <= (MAX if facts.length is None else facts.length) <= MAX)
    try:
        accepted = rules.check_patch(facts, asked, now=NOW, max_size=MAX)
    except ProtocolError:
        return
    assert asked.offset == facts.offset and not facts.ended and not facts.is_final
    end = facts.offset + accepted.max_bytes
    assert end == (MAX if accepted.length is None else accepted.length)
    assert facts.offset + (asked.body.content_length or 0) <= end
    if facts.length is not None:
        assert accepted.length == facts.length and not accepted.declares_length


@pytest.mark.parametrize(
    ("facts", "gone"),
    [
        (OPEN, False),
        (replace(OPEN, expires_at=NOW), True),
        (replace(OPEN, expires_at=None), False),
        (replace(OPEN, expires_at=NOW, finished=True), False),
        (replace(OPEN, ended=True), True),
        (replace(OPEN, ended=True, finished=True), True),
    ],
)
def test_what_still_exists(facts: UploadFacts, gone: bool) -> None:
    if gone:
        with pytest.raises(UploadGone):
            rules.check_exists(facts, NOW)
    else:
        rules.check_exists(facts, NOW)


@pytest.mark.parametrize(
    ("age_s", "left_s"), [(0, 60), (100, 60), (240, 60), (241, 59), (299, 1), (300, 0), (400, -100)]
)
def test_expiry_slides_up_to_the_lifetime(age_s: int, left_s: int) -> None:
    at = rules.expires_at(NOW - age_s * SECOND, NOW, idle=60 * SECOND, life=timedelta(seconds=300))
    assert at == NOW + left_s * SECOND
