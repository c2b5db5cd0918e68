"""Grammar of the single headers."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.protocol import headers
from tusd_py.protocol.errors import InvalidHeader, UnsupportedMediaType, UnsupportedVersion


@given(st.integers(0, headers.MAX_INTEGER))
@settings(deadline=None, max_examples=60)
def test_every_size_survives_its_header(value: int) -> None:
    assert headers.integer({"upload-offset": str(value)}, "Upload-Offset") == value


def test_an_absent_integer_is_none() -> None:
    assert headers.integer({"upload-length": "1"}, "Upload-Offset") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-1", "+1", "1.0", "1e3", "0x10", "1_000", "1,000", "abc", " 1", "1 ", "1\t"),
        *("5, 5", "NaN", "١٢", "²", "½", "1\x00", "1\r\n", "None"),
        str(2**63),
        "9" * 20,
        "1" * 10_000,
    ],
)
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(InvalidHeader, match="Upload-Offset"):
        headers.integer({"upload-offset": text}, "Upload-Offset")


def test_leading_zeros_are_decimal() -> None:
    assert headers.integer({"upload-offset": "0010"}, "Upload-Offset") == 10


@given(st.text(max_size=25))
@settings(deadline=None, max_examples=60)
def test_an_integer_is_only_ever_digits(text: str) -> None:
    try:
        value = headers.integer({"x": text}, "X")
    except InvalidHeader:
        return
    assert value is not None and 0 <= value < 2**63
    assert set(text) <= set("0123456789") and int(text) == value


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0", "1.0.0 ", "1.0.0, 1.0.0", "2.0.0"])
def test_other_versions_are_refused(version: str | None) -> None:
    given_headers = {} if version is None else {"tus-resumable": version}
    with pytest.raises(UnsupportedVersion, match=r"1\.0\.0"):
        headers.check_version(given_headers)


def test_the_right_version_passes() -> None:
    headers.check_version({"tus-resumable": "1.0.0"})


@pytest.mark.parametrize(
    "text",
    [
        "application/offset+octet-stream",
        "Application/Offset+Octet-Stream",
        "application/offset+octet-stream; charset=binary",
        " application/offset+octet-stream ",
    ],
)
def test_the_media_type_of_bodies(text: str) -> None:
    headers.check_media_type({"content-type": text})


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "application/octet-stream", "application/offset", "text/plain"),
        "application/offset+octet-stream, text/plain",
        "x;application/offset+octet-stream",
    ],
)
def test_other_media_types_are_refused(text: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        headers.check_media_type({} if text is None else {"content-type": text})


@pytest.mark.parametrize(
    ("method", "override", "effective"),
    [
        ("POST", None, "POST"),
        ("POST", "PATCH", "PATCH"),
        ("POST", "delete", "DELETE"),
        ("GET", "HEAD", "HEAD"),
        ("PATCH", "POST", "POST"),
        ("POST", "", ""),
    ],
)
def test_the_override_wins(method: str, override: str | None, effective: str) -> None:
    given_headers = {} if override is None else {"x-http-method-override": override}
    assert headers.effective_method(method, given_headers) == effective


def test_deferring_is_said_with_a_one() -> None:
    assert headers.deferred({"upload-defer-length": "1"})
    assert not headers.deferred({})


@pytest.mark.parametrize("text", ["", "0", "2", "true", "01", "1, 1", " 1"])
def test_deferring_is_said_with_nothing_else(text: str) -> None:
    with pytest.raises(InvalidHeader, match="Upload-Defer-Length"):
        headers.deferred({"upload-defer-length": text})


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
@settings(deadline=None, max_examples=60)
def test_dates_round_trip_in_whole_seconds(at: datetime, zone: timezone) -> None:
    at = at.replace(tzinfo=zone)
    text = headers.http_date(at)
    assert text.endswith(" GMT") and len(text) == 29
    assert parsedate_to_datetime(text) == at.astimezone(UTC).replace(microsecond=0)


def test_a_date_as_the_rfc_writes_it() -> None:
    at = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert headers.http_date(at) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_names_for_browsers_cover_every_tus_header() -> None:
    exposed = {name.lower() for name in headers.EXPOSED_HEADERS}
    assert {
        "location",
        "upload-offset",
        "upload-length",
        "upload-defer-length",
        "upload-metadata",
        "upload-expires",
        "upload-concat",
        "tus-version",
        "tus-resumable",
        "tus-max-size",
        "tus-extension",
        "tus-checksum-algorithm",
    } <= exposed
    allowed = {name.lower() for name in headers.REQUEST_HEADERS}
    assert {
        "content-type",
        "tus-resumable",
        "upload-checksum",
        "upload-concat",
        "upload-defer-length",
        "upload-length",
        "upload-metadata",
        "upload-offset",
        "x-http-method-override",
    } <= allowed
