"""Upload-Checksum and Trailer."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.protocol import checksum
from tusd_py.protocol.errors import ChecksumMismatch, InvalidHeader, UnknownChecksumAlgorithm

EXPECTED = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}


def header(algorithm: str, digest: bytes) -> str:
    return f"{algorithm} {base64.b64encode(digest).decode()}"


def test_all_algorithms_are_known_here() -> None:
    assert set(checksum.ALGORITHMS) == set(EXPECTED)
    assert checksum.ALGORITHMS[0] == "sha1"  # the text: MUST at least


def test_the_example_of_the_text() -> None:
    declared = checksum.parse("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")
    digest = declared.start()
    digest.update(b"hello world")
    declared.check(digest)


@given(st.sampled_from(sorted(EXPECTED)), st.lists(st.binary(max_size=50), max_size=6))
@settings(deadline=None, max_examples=60)
def test_any_chunking_matches(algorithm: str, pieces: list[bytes]) -> None:
    declared = checksum.parse(header(algorithm, EXPECTED[algorithm](b"".join(pieces))))
    digest = declared.start()
    for piece in pieces:
        digest.update(piece)
    declared.check(digest)


@given(st.sampled_from(sorted(EXPECTED)), st.binary(max_size=50), st.data())
@settings(deadline=None, max_examples=60)
def test_one_other_byte_does_not_match(algorithm: str, data: bytes, draw: st.DataObject) -> None:
    expected = bytearray(EXPECTED[algorithm](data))
    expected[draw.draw(st.integers(0, len(expected) - 1))] ^= draw.draw(st.integers(1, 255))
    declared = checksum.parse(header(algorithm, bytes(expected)))
    digest = declared.start()
    digest.update(data)
    with pytest.raises(ChecksumMismatch, match=algorithm):
        declared.check(digest)


@pytest.mark.parametrize("name", ["SHA1", "sha-1", "sha3", "crc64", "md4", "shake_128", "", "é"])
def test_other_algorithms_are_unknown(name: str) -> None:
    with pytest.raises(UnknownChecksumAlgorithm, match="sha256"):
        checksum.parse(f"{name} AAAA")


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha1", "sha1:AAAA", "md5 ", "md5  1B2M2Y8AsgTpgAmY7PhCfg==", "md5 !!!!"),
        "md5 1B2M2Y8AsgTpgAmY7PhCfg",
        "md5 1B2M2Y8AsgTpgAmY7PhCfg== ",
        "md5 1B2M2Y8AsgTpgAmY7PhCfg==, md5 1B2M2Y8AsgTpgAmY7PhCfg==",
        "sha1 1B2M2Y8AsgTpgAmY7PhCfg==",
        "crc32 AAAAAAA=",
        "md5 1B2M2Y8AsgTpgAmY7PhCfé==",
        "md5 d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidHeader, match="Upload-Checksum"):
        checksum.parse(text)


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        (None, False),
        ("", False),
        ("Upload-Checksum", True),
        ("upload-checksum", True),
        ("Server-Timing, UPLOAD-CHECKSUM ,X", True),
        ("Upload-Checksum-2", False),
        ("X-Upload-Checksum", False),
    ],
)
def test_trailers_are_announced(text: str | None, declared: bool) -> None:
    assert checksum.trailer_declared(text) is declared


@given(st.integers(0, 2**32 - 1))
def test_what_is_told_of_a_file_can_be_declared(crc32: int) -> None:
    text = checksum.crc32_text(crc32)
    assert checksum.declared_crc32({"upload-checksum": text.encode()}) == crc32
    assert checksum.parse(text).expected == crc32.to_bytes(4, "big")


def test_a_file_without_a_declared_checksum_has_none() -> None:
    assert checksum.declared_crc32({"checksum": b"sha256 of somebody else's making"}) is None
