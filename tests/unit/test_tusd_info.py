"""tusd's `.info` objects, as anybody who writes to the bucket could have made them."""

import json

import pytest

from tusd_py.importing.refusals import NotTaken
from tusd_py.importing.tusd_info import parse

GOOD = {"ID": "key+multipart", "Size": 3, "MetaData": {"filename": "a.bin"}}


def test_what_tusd_writes_is_taken() -> None:
    upload = parse(json.dumps(GOOD).encode(), "key.info")
    assert (upload.multipart_id, upload.length, upload.metadata) == (
        "multipart",
        3,
        "filename YS5iaW4=",
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(json.dumps(GOOD | {"MetaData": {"a": "\ud800"}}).encode(), id="half a pair"),
        pytest.param(json.dumps(GOOD | {"MetaData": {"\ud800": "a"}}).encode(), id="half a name"),
        pytest.param(json.dumps(GOOD | {"MetaData": 5}).encode(), id="no pairs"),
        pytest.param(json.dumps(GOOD | {"Size": -1}).encode(), id="negative"),
    ],
)
def test_what_tusd_does_not_write_is_refused(text: bytes) -> None:
    with pytest.raises(NotTaken):
        parse(text, "key.info")
