"""Sizes and time spans: what people write, and back."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5MiB", 5 * 1024**2),
        ("5 mib", 5 * 1024**2),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("10MB", 10_000_000),
        ("2TiB", 2 * 1024**4),
        ("123", 123),
        ("0", 0),
        (7, 7),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5 apples", "-1", "MiB", "1e6", "5MiBB", True, 1.5, None, []])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="5MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("24h", 86400),
        ("7d", 604800),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("90", 90),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "5 apples", "-1s", "1y", "s", True, None, -1, "inf", "1e3", float("nan")]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="24h"):
        parse_duration(text)


def test_a_span_beyond_a_lifetime_is_refused() -> None:
    with pytest.raises(ValueError, match="24h"):
        parse_duration("99999999999d")


@given(st.integers(min_value=0, max_value=2**60))
def test_a_shown_size_reads_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.integers(min_value=0, max_value=10**9))
def test_a_shown_duration_reads_back(milliseconds: int) -> None:
    span = timedelta(milliseconds=milliseconds)
    assert parse_duration(show_duration(span)) == span
