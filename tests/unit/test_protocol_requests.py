"""Requests as frozen values: what the headers alone allow to refuse."""

import pytest

from tusd_py.protocol.errors import (
    InvalidHeader,
    NotConcatenable,
    ProtocolError,
    SizeExceeded,
    UnknownChecksumAlgorithm,
    UnsupportedMediaType,
    UnsupportedVersion,
)
from tusd_py.protocol.requests import CreateRequest, PatchRequest, parse_create, parse_patch

TUS = {"tus-resumable": "1.0.0"}
BODY = {"content-type": "application/offset+octet-stream", "content-length": "3"}
PATCH = TUS | BODY | {"upload-offset": "7"}
SHA1 = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="


def create(headers: dict[str, str], *, max_size: int | None = 100) -> CreateRequest:
    return parse_create(TUS | headers, base_path="/files/", max_size=max_size)


def patch(headers: dict[str, str], *without: str) -> PatchRequest:
    wanted = PATCH | headers
    return parse_patch({name: text for name, text in wanted.items() if name not in without})


def test_a_plain_creation() -> None:
    request = create({"upload-length": "5", "upload-metadata": "filename YQ==,empty"})
    assert request.length == 5
    assert request.metadata == "filename YQ==,empty"
    assert request.pairs == {"filename": b"a", "empty": b""}
    assert request.concat_header is None and not request.concat.partial
    assert request.body.is_empty and not request.body.checked


def test_a_deferred_creation() -> None:
    assert create({"upload-defer-length": "1"}).length is None


def test_the_longest_length_is_allowed() -> None:
    assert create({"upload-length": "100"}).length == 100
    assert create({"upload-length": "101"}, max_size=None).length == 101


def test_a_creation_with_body() -> None:
    body = create(BODY | {"upload-length": "3", "upload-checksum": SHA1}).body
    assert body.content_length == 3 and not body.is_empty
    assert body.checksum and body.checksum.algorithm == "sha1" and body.checked


def test_a_chunked_body_has_an_unknown_length() -> None:
    body = create(
        {
            "upload-length": "3",
            "content-type": BODY["content-type"],
            "transfer-encoding": "chunked",
            "trailer": "Upload-Checksum",
        }
    ).body
    assert body.content_length is None and not body.is_empty
    assert body.checksum is None and body.checksum_trailer and body.checked


def test_a_checksum_header_makes_the_trailer_needless() -> None:
    body = patch({"upload-checksum": SHA1, "trailer": "Upload-Checksum"}).body
    assert body.checksum and not body.checksum_trailer


def test_a_partial_upload() -> None:
    request = create({"upload-length": "5", "upload-concat": "partial"})
    assert request.concat.partial and request.concat_header == "partial"


def test_a_final_upload_needs_no_length() -> None:
    request = create({"upload-concat": "final;/files/a /files/b", "content-length": "0"})
    assert request.concat.ids == ("a", "b") and request.length is None


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, InvalidHeader),
        ({"upload-length": "-1"}, InvalidHeader),
        ({"upload-length": ""}, InvalidHeader),
        ({"upload-length": "5, 5"}, InvalidHeader),
        ({"upload-length": "5", "upload-defer-length": "1"}, InvalidHeader),
        ({"upload-defer-length": "0"}, InvalidHeader),
        ({"upload-length": "101"}, SizeExceeded),
        ({"upload-length": "5", "upload-metadata": "a b"}, InvalidHeader),
        ({"upload-length": "5", "upload-concat": "whole"}, InvalidHeader),
        ({"upload-length": "5", "upload-concat": "final;/files/a"}, InvalidHeader),
        ({"upload-defer-length": "1", "upload-concat": "final;/files/a"}, InvalidHeader),
        ({"upload-concat": "final;/else/a"}, NotConcatenable),
        ({"upload-concat": "final;/files/a"} | BODY, InvalidHeader),
        ({"upload-concat": "final;/files/a", "transfer-encoding": "chunked"}, InvalidHeader),
        ({"upload-length": "5", "content-length": "3"}, UnsupportedMediaType),
        ({"upload-length": "5", "transfer-encoding": "chunked"}, UnsupportedMediaType),
        ({"upload-length": "2"} | BODY, SizeExceeded),
        (
            {"upload-length": "5"} | BODY | {"upload-checksum": "sha9 AA=="},
            UnknownChecksumAlgorithm,
        ),
        ({"upload-length": "5", "tus-resumable": "0.2.2"}, UnsupportedVersion),
    ],
)
def test_creations_that_are_refused(headers: dict[str, str], error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        create(headers)


def test_the_version_is_checked_before_anything_else() -> None:
    with pytest.raises(UnsupportedVersion):
        parse_create({"upload-length": "x"}, base_path="/files/", max_size=None)
    with pytest.raises(UnsupportedVersion):
        parse_patch({"upload-offset": "x"})


def test_a_plain_patch() -> None:
    request = patch({})
    assert (request.offset, request.length, request.body.content_length) == (7, None, 3)


def test_a_patch_without_content_length_is_empty() -> None:
    assert patch({}, "content-length").body.is_empty


def test_a_patch_that_declares_the_length() -> None:
    assert patch({"upload-length": "10"}).length == 10


@pytest.mark.parametrize(
    ("headers", "without", "error"),
    [
        ({}, "upload-offset", InvalidHeader),
        ({"upload-offset": "-1"}, "", InvalidHeader),
        ({"upload-offset": "7, 7"}, "", InvalidHeader),
        ({"upload-offset": str(2**63)}, "", InvalidHeader),
        ({"upload-length": "x"}, "", InvalidHeader),
        ({}, "content-type", UnsupportedMediaType),
        ({"content-type": "application/json"}, "", UnsupportedMediaType),
        ({"upload-checksum": "sha9 AA=="}, "", UnknownChecksumAlgorithm),
        ({"upload-checksum": "sha1"}, "", InvalidHeader),
        ({"tus-resumable": "1.0.1"}, "", UnsupportedVersion),
        ({}, "tus-resumable", UnsupportedVersion),
    ],
)
def test_patches_that_are_refused(
    headers: dict[str, str], without: str, error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        patch(headers, without)
