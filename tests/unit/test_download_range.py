"""Range requests (RFC 9110, section 14)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.http.download import ByteRange, parse_range

WHOLE = ByteRange(0, 10)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes=0-", WHOLE),
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=9-9", ByteRange(9, 1)),
        ("bytes=2-5", ByteRange(2, 4)),
        ("bytes=2-10", ByteRange(2, 8)),
        ("bytes=2-9999999999999999999", ByteRange(2, 8)),
        ("bytes=-1", ByteRange(9, 1)),
        ("bytes=-10", WHOLE),
        ("bytes=-11", WHOLE),
        ("bytes=-0", None),
        ("bytes=10-", None),
        ("bytes=10-20", None),
        # Ignored: the whole is sent.
        ("bytes=5-2", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=", WHOLE),
        ("bytes=0-1,3-4", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=1.5-2", WHOLE),
        ("bytes=--5", WHOLE),
        ("bytes 0-1", WHOLE),
        ("items=0-1", WHOLE),
        ("", WHOLE),
        ("bytes=" + "9" * 30 + "-", WHOLE),
    ],
)
def test_ranges(text: str, found: ByteRange | None) -> None:
    assert parse_range(text, 10) == found


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-"])
def test_nothing_has_no_ranges(text: str) -> None:
    assert parse_range(text, 0) is None


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 50))
@settings(deadline=None, max_examples=60)
def test_a_range_is_a_slice(first: int, last: int, length: int) -> None:
    data = bytes(range(length))
    found = parse_range(f"bytes={first}-{last}", length)
    if first >= length:
        assert found is None
    elif last < first:
        assert found == ByteRange(0, length)
    else:
        assert found
        assert data[found.first : found.first + found.size] == data[first : last + 1]


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9 ,-]{0,40}"), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_no_text_leads_outside(text: str, length: int) -> None:
    found = parse_range(text, length)
    if found is not None:
        assert 0 <= found.first <= found.first + found.size <= length
