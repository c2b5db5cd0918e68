"""Which promises bytes can break, and what the sniffer makes of real first bytes."""

import io
import zipfile

import pytest

from tusd_py.broker.sniffing import UNKNOWN, Sniffer, contradicts

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(40)


def office_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<w/>")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00" + bytes(40), "image/jpeg"),
        (b"GIF89a" + bytes(40), "image/gif"),
        (b"%PDF-1.7\n" + b"x" * 40, "application/pdf"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "video/mp4"),
        (b"<!DOCTYPE html><html><script>", "text/html"),
        (b"", UNKNOWN),
        (bytes(range(7, 250)) * 3, UNKNOWN),
    ],
)
async def test_first_bytes_tell_the_type(head: bytes, expected: str) -> None:
    sniffer = Sniffer()
    try:
        assert await sniffer.sniff(head) == expected
    finally:
        sniffer.close()


@pytest.mark.parametrize(
    ("declared", "head"),
    [
        ("image/png", PNG),
        ("image/x-png", PNG),
        ("text/csv; charset=utf-8", b"a,b\n1,2\n" * 9),
        ("application/json", b'{"a": 1}'),
        ("text/plain", b"just a line of text\n" * 4),
        ("image/svg+xml", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">'),
        (
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            office_file(),
        ),
        ("application/octet-stream", PNG),
        (None, PNG),
        ("application/x-our-own-format", bytes(range(7, 250))),
    ],
)
async def test_honest_files_pass(declared: str | None, head: bytes) -> None:
    sniffer = Sniffer()
    try:
        assert not contradicts(declared, await sniffer.sniff(head))
    finally:
        sniffer.close()


@pytest.mark.parametrize(
    ("declared", "head"),
    [
        ("image/png", b"<!DOCTYPE html><html><script>alert(1)</script>"),
        ("image/png", b"MZ\x90\x00" + bytes(80)),
        ("image/png", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00" + bytes(40)),
        ("image/jpeg", bytes(range(7, 250))),
        ("application/pdf", b"just text, no document at all\n" * 3),
        ("text/plain", PNG),
        ("video/mp4", PNG),
        ("application/pdf", office_file()),
    ],
)
async def test_lies_are_told(declared: str, head: bytes) -> None:
    sniffer = Sniffer()
    try:
        assert contradicts(declared, await sniffer.sniff(head))
    finally:
        sniffer.close()


@pytest.mark.parametrize(
    ("declared", "sniffed"),
    [
        ("audio/webm", "video/webm"),
        ("video/quicktime", "video/mp4"),
        ("audio/mp4", "video/mp4"),
        ("application/msword", "application/CDFV2"),
        ("application/java-archive", "application/zip"),
    ],
)
def test_containers_go_by_several_names(declared: str, sniffed: str) -> None:
    assert not contradicts(declared, sniffed)
