"""The part list of a CompleteMultipartUpload."""

import base64

import pytest

from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.records import Part
from tusd_storage.s3 import fields


@pytest.mark.parametrize(
    ("crc32", "told"),
    [(0, b"\0\0\0\0"), (1, b"\0\0\0\1"), (2**32 - 1, b"\xff" * 4), (None, None)],
)
def test_a_part_has_its_checksum_unless_nobody_knows_it(
    crc32: int | None, told: bytes | None
) -> None:
    part = Part(number=1, size=MIN_PART_SIZE, etag='"a"', crc32=crc32)
    (entry,) = fields.completed([part], with_crc32=True)
    expected = {} if told is None else {"ChecksumCRC32": base64.b64encode(told).decode()}
    assert entry == {"PartNumber": 1, "ETag": '"a"'} | expected
    (without,) = fields.completed([part], with_crc32=False)
    assert "ChecksumCRC32" not in without


@pytest.mark.parametrize("text", [None, "", "?", "AAAA", "AAAAAA==-3", "AAAAAAAAAA==", "ÀAAAAA=="])
def test_a_checksum_that_is_none_is_not_told(text: str | None) -> None:
    assert fields.crc32_of(text) is None
    assert fields.crc32_of(fields.crc32_text(2**32 - 1)) == 2**32 - 1
