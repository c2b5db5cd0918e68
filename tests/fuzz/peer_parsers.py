"""Parsers of what others than clients say: hooks, the store, tusd's files."""

import contextlib
import http.client
import json
import socket
from typing import Any
from xml.sax.saxutils import escape

import atheris
import botocore.session
from botocore.parsers import create_parser

from tusd_py.hooks.answers import checked, with_default_type
from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.wire import response_from
from tusd_py.importing import tusd_info
from tusd_py.importing.refusals import NotTaken
from tusd_storage.errors import StorageError
from tusd_storage.s3 import faults, fields, listing, transmit

OPERATIONS = (
    "ListParts",
    "ListMultipartUploads",
    "ListObjectsV2",
    "CompleteMultipartUpload",
    "CreateMultipartUpload",
    "UploadPartCopy",
    "HeadObject",
)
ELEMENTS = (
    *("Result", "Part", "PartNumber", "Size", "ETag", "LastModified", "ChecksumCRC32"),
    *("Upload", "Key", "UploadId", "Initiated", "IsTruncated", "NextPartNumberMarker"),
    *("NextKeyMarker", "NextUploadIdMarker", "Contents", "NextContinuationToken"),
    *("CopyPartResult", "Error", "Code", "Message"),
)
VALUES = ("1", "-1", "x", "true", "2030-01-01T00:00:00Z", "AAAAAA==", "99999999999999999999")
INFO = ("Size", "SizeIsDeferred", "MetaData", "IsPartial", "IsFinal", "Storage")
HOOK = ("RejectUpload", "RejectTermination", "StopUpload", "ChangeFileInfo")
HTTP = ("StatusCode", "Body", "Header", "Headers")
_parser = create_parser("rest-xml")
_model = botocore.session.Session().get_service_model("s3")
_shapes = {name: _model.operation_model(name).output_shape for name in OPERATIONS}


def hook(data: bytes) -> None:
    """The answer of an HTTP hook."""
    fed = atheris.FuzzedDataProvider(data)
    told: dict[str, object] = {name: _value(fed, 3) for name in HOOK if fed.ConsumeBool()}
    told["HTTPResponse"] = {name: _value(fed, 3) for name in HTTP if fed.ConsumeBool()}
    for text in (data, json.dumps(told).encode()):
        with contextlib.suppress(HookFailed):
            answer = checked(response_from(text).http_response)
            for name, value in with_default_type(answer).items():
                name.encode("ascii")
                value.encode("latin-1")
            answer.body.encode()


def tusd(data: bytes) -> None:
    """tusd's `.info` objects."""
    fed = atheris.FuzzedDataProvider(data)
    info = {name: _value(fed, 3) for name in INFO if fed.ConsumeBool()}
    info["ID"] = f"key+{fed.ConsumeUnicode(12)}"
    for text in (data, json.dumps(info).encode()):
        with contextlib.suppress(NotTaken):
            tusd_info.parse(text, "key.info").metadata.encode("ascii")


def _value(fed: atheris.FuzzedDataProvider, depth: int) -> object:
    """Anything that JSON can say."""
    kind = fed.ConsumeIntInRange(0, 6 if depth else 4)
    if kind == 5:
        return [_value(fed, depth - 1) for _ in range(fed.ConsumeIntInRange(0, 3))]
    if kind == 6:
        names = [fed.ConsumeUnicode(12) for _ in range(fed.ConsumeIntInRange(0, 3))]
        return {name: _value(fed, depth - 1) for name in names}
    plain = (None, fed.ConsumeBool(), fed.ConsumeInt(9), fed.ConsumeFloat(), fed.ConsumeUnicode(12))
    return plain[kind]


def store(data: bytes) -> None:
    """Answers of the store, as botocore hands them on: a value, or one of our taxonomy."""
    fed = atheris.FuzzedDataProvider(data)
    operation = OPERATIONS[fed.ConsumeIntInRange(0, len(OPERATIONS) - 1)]
    status = fed.PickValueInList([200, 206, 400, 404, 412, 500, 503])
    header = fed.ConsumeUnicodeNoSurrogates(20)
    headers = {"content-length": header, "etag": header, "last-modified": header}
    body = _document(fed).encode() if fed.ConsumeBool() else fed.ConsumeBytes(4096)
    answer = {"status_code": status, "headers": headers, "body": body}
    try:
        _take(operation, _parser.parse(answer, _shapes[operation]))
    except faults.FOREIGN as error:
        assert isinstance(faults.from_exception(operation, error), StorageError)
    assert isinstance(faults.from_answer(operation, status, faults.code_of(body)), StorageError)


def _document(fed: atheris.FuzzedDataProvider) -> str:
    """XML of the names that S3 uses, in any order and depth."""
    opened = [ELEMENTS[0]]
    text = f"<{opened[0]}>"
    while opened and fed.remaining_bytes():
        step = fed.ConsumeIntInRange(0, 3)
        if step == 0:
            text += f"</{opened.pop()}>"
        elif step == 1:
            text += VALUES[fed.ConsumeIntInRange(0, len(VALUES) - 1)]
        elif step == 2:
            text += escape(fed.ConsumeUnicodeNoSurrogates(12))
        else:
            opened.append(ELEMENTS[fed.ConsumeIntInRange(0, len(ELEMENTS) - 1)])
            text += f"<{opened[-1]}>"
    return text + "".join(f"</{name}>" for name in reversed(opened))


def _take(operation: str, found: Any) -> None:
    if "Error" in found:
        return
    if operation == "ListParts":
        listing.newest(found.get("Parts", ()))
        int(found.get("NextPartNumberMarker") or 0)
    elif operation == "ListMultipartUploads":
        list(listing._uploads(found))
    elif operation == "UploadPartCopy":
        fields.copied(found)
    elif operation == "HeadObject":
        fields.info(found)


def wire(data: bytes) -> None:
    """The answer of the store to what we send ourselves."""
    with contextlib.suppress(http.client.HTTPException, OSError):
        transmit.read_answer(_Socket([data[: len(data) // 2], data[len(data) // 2 :]]))


class _Socket(socket.socket):
    """Receives what it was made with."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.close()
        self._pieces = pieces

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""
