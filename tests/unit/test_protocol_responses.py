"""Headers of answers."""

from datetime import UTC, datetime

import pytest

from tusd_py.protocol import responses

EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)
EXPIRES_TEXT = "Tue, 01 Jan 2030 00:00:00 GMT"


def test_options_names_what_works() -> None:
    headers = responses.options(None)
    assert headers["Tus-Version"] == "1.0.0"
    assert set(headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "expiration",
        "checksum",
        "checksum-trailer",
        "termination",
        "concatenation",
        "concatenation-unfinished",
    }
    assert set(headers["Tus-Checksum-Algorithm"].split(",")) >= {"sha1", "sha256", "md5", "crc32"}
    assert "Tus-Max-Size" not in headers
    assert responses.options(0)["Tus-Max-Size"] == "0"


@pytest.mark.parametrize(
    ("offset", "expires", "extra"),
    [
        (None, None, {}),
        (0, None, {"Upload-Offset": "0"}),
        (5, EXPIRES, {"Upload-Offset": "5", "Upload-Expires": EXPIRES_TEXT}),
        (None, EXPIRES, {"Upload-Expires": EXPIRES_TEXT}),
    ],
)
def test_created(offset: int | None, expires: datetime | None, extra: dict[str, str]) -> None:
    headers = responses.created("/files/a", offset=offset, expires=expires)
    assert headers == {"Location": "/files/a"} | extra


def test_patched() -> None:
    assert responses.patched(0, expires=None) == {"Upload-Offset": "0"}
    assert responses.patched(7, expires=EXPIRES) == {
        "Upload-Offset": "7",
        "Upload-Expires": EXPIRES_TEXT,
    }


def test_the_files_checksum_has_the_form_of_the_requests() -> None:
    told = {"Upload-Checksum": "crc32 AAAAAA=="}
    assert responses.patched(7, expires=None, crc32=0) == {"Upload-Offset": "7"} | told
    created = responses.created("/files/a", offset=None, expires=None, crc32=0)
    assert created == {"Location": "/files/a"} | told
    assert responses.file_checksum(None) == {}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"offset": 0, "length": 0}, {"Upload-Offset": "0", "Upload-Length": "0"}),
        ({"offset": 3, "length": 9}, {"Upload-Offset": "3", "Upload-Length": "9"}),
        ({"offset": 3, "length": None}, {"Upload-Offset": "3", "Upload-Defer-Length": "1"}),
        (
            {"offset": 3, "length": None, "concat": "partial"},
            {"Upload-Offset": "3", "Upload-Defer-Length": "1", "Upload-Concat": "partial"},
        ),
        (
            {"offset": None, "length": 9, "concat": "final;/files/a"},
            {"Upload-Length": "9", "Upload-Concat": "final;/files/a"},
        ),
        (
            {"offset": None, "length": None, "concat": "final;/files/a"},
            {"Upload-Concat": "final;/files/a"},
        ),
        (
            {"offset": 0, "length": 1, "metadata": "a YQ==, b", "expires": EXPIRES},
            {
                "Upload-Offset": "0",
                "Upload-Length": "1",
                "Upload-Metadata": "a YQ==, b",
                "Upload-Expires": EXPIRES_TEXT,
            },
        ),
        (
            {"offset": 1, "length": 1, "crc32": 2**32 - 1},
            {"Upload-Offset": "1", "Upload-Length": "1", "Upload-Checksum": "crc32 /////w=="},
        ),
    ],
)
def test_head(facts: dict[str, object], expected: dict[str, str]) -> None:
    defaults: dict[str, object] = {"metadata": "", "concat": None, "expires": None}
    headers = responses.head(**(defaults | facts))  # type: ignore[arg-type]
    assert headers == {"Cache-Control": "no-store"} | expected
