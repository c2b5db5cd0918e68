"""Every answer and exception has its place in the taxonomy, and no message gives anything away."""

import http.client
import socket
import ssl
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from tusd_storage.errors import (
    AccessDenied,
    ChecksumRejected,
    InvalidPart,
    NoSuchObject,
    NoSuchUpload,
    Rejected,
    StorageError,
    StoreRefused,
    StoreUnavailable,
    StoreUnresolved,
)
from tusd_storage.s3 import faults
from tusd_storage.s3.faults import Throttled

URL = "https://bucket.s3.example/key?X-Amz-Signature=abc"


def unresolved() -> Exception:
    """What urllib3 raises for a name that nobody knows."""
    error = Exception(URL)
    error.__cause__ = socket.gaierror(socket.EAI_NONAME, URL)
    return error


@pytest.mark.parametrize(
    ("operation", "status", "code", "expected"),
    [
        ("UploadPart", 503, "SlowDown", Throttled),
        ("UploadPart", 429, "", Throttled),
        ("CompleteMultipartUpload", 500, "SlowDown", StoreUnavailable),
        ("CompleteMultipartUpload", 503, "ServiceUnavailable", StoreUnavailable),
        ("UploadPart", 500, "InternalError", StoreUnavailable),
        ("UploadPart", 500, "", StoreUnavailable),
        ("UploadPart", 507, "XMinioStorageFull", StoreUnavailable),
        ("UploadPart", 400, "RequestTimeout", StoreUnavailable),
        ("UploadPart", 408, "", StoreUnavailable),
        ("PutObject", 409, "OperationAborted", StoreUnavailable),
        ("CompleteMultipartUpload", 400, "EntityTooSmall", InvalidPart),
        ("CompleteMultipartUpload", 500, "InvalidPart", InvalidPart),
        ("CompleteMultipartUpload", 400, "InvalidPartOrder", InvalidPart),
        ("UploadPart", 404, "NoSuchUpload", NoSuchUpload),
        ("UploadPart", 404, "NoSuchKey", NoSuchUpload),
        ("UploadPart", 404, "", StoreUnavailable),
        ("CompleteMultipartUpload", 404, "", StoreUnavailable),
        ("AbortMultipartUpload", 404, "", StoreUnavailable),
        ("DeleteObject", 404, "", StoreUnavailable),
        ("GetObject", 404, "", StoreUnavailable),
        ("CompleteMultipartUpload", 500, "NoSuchUpload", NoSuchUpload),
        ("UploadPartCopy", 404, "NoSuchKey", NoSuchObject),
        ("UploadPartCopy", 404, "NoSuchUpload", NoSuchUpload),
        ("HeadObject", 404, "", NoSuchObject),
        ("HeadObject", 403, "", AccessDenied),
        ("PutObject", 404, "NoSuchBucket", StoreRefused),
        ("PutObject", 400, "BadDigest", ChecksumRejected),
        ("PutObject", 400, "XAmzContentChecksumMismatch", ChecksumRejected),
        ("PutObject", 403, "AccessDenied", AccessDenied),
        ("PutObject", 403, "SomethingNew", AccessDenied),
        ("PutObject", 401, "", AccessDenied),
        ("PutObject", 400, "InvalidArgument", StoreRefused),
        ("PutObject", 301, "PermanentRedirect", StoreRefused),
        ("PutObject", 501, "NotImplemented", StoreRefused),
        ("GetObject", 416, "InvalidRange", StoreRefused),
    ],
)
def test_answers(operation: str, status: int, code: str, expected: type[StorageError]) -> None:
    error = faults.from_answer(operation, status, code)
    assert type(error) is expected
    assert operation in str(error)
    if isinstance(error, StoreRefused):
        assert error.code == (code or str(status))
    response: Any = {
        "Error": {"Code": code or str(status)},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    assert type(faults.from_exception(operation, ClientError(response, operation))) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EndpointConnectionError(endpoint_url=URL), StoreUnavailable),
        (EndpointConnectionError(endpoint_url=URL, error=socket.gaierror(URL)), StoreUnresolved),
        (EndpointConnectionError(endpoint_url=URL, error=unresolved()), StoreUnresolved),
        (EndpointConnectionError(endpoint_url=URL, error=OSError(URL)), StoreUnavailable),
        (socket.gaierror(socket.EAI_NONAME, URL), StoreUnresolved),
        (ConnectTimeoutError(endpoint_url=URL), StoreUnavailable),
        (ReadTimeoutError(endpoint_url=URL), StoreUnavailable),
        (ProxyConnectionError(proxy_url=URL), StoreUnavailable),
        (ResponseStreamingError(error=URL), StoreUnavailable),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailable),
        (ResponseParserError(URL), StoreUnavailable),
        (CredentialRetrievalError(provider="p", error_msg=URL), StoreUnavailable),
        (SSLError(endpoint_url=URL, error=ssl.SSLError("EOF")), StoreUnavailable),
        (SSLError(endpoint_url=URL, error=ssl.SSLError("CERTIFICATE_VERIFY_FAILED")), StoreRefused),
        (ssl.SSLCertVerificationError(URL), StoreRefused),
        (ssl.SSLEOFError(URL), StoreUnavailable),
        (ConnectionResetError(URL), StoreUnavailable),
        (TimeoutError(URL), StoreUnavailable),
        (http.client.BadStatusLine(URL), StoreUnavailable),
        (KeyError(URL), StoreUnavailable),
        (NoCredentialsError(), AccessDenied),
        (ParamValidationError(report=URL), StoreRefused),
        (BotoCoreError(), StoreRefused),
    ],
)
def test_exceptions(error: Exception, expected: type[StorageError]) -> None:
    assert isinstance(error, faults.FOREIGN)
    fault = faults.from_exception("HeadObject", error)
    assert type(fault) is expected
    assert "s3.example" not in str(fault)
    assert "Signature" not in str(fault)


def test_outcomes() -> None:
    assert faults.outcome(Throttled("x")) == "throttled"
    assert faults.outcome(StoreUnavailable("x")) == "unavailable"
    assert faults.outcome(NoSuchUpload("x")) == faults.outcome(NoSuchObject("x")) == "missing"
    assert faults.outcome(Rejected("x")) == "rejected"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<Error><Code>SlowDown</Code></Error>", "SlowDown"),
        (b'<?xml version="1.0"?>\n<Error xmlns="x">\n<Code>\n A.b-1 </Code></Error>', "A.b-1"),
        (b"<Error><Code></Code></Error>", ""),
        (b"<Error><Code>not a <code/></Code></Error>", ""),
        (b"<html>502</html>", ""),
        (b"", ""),
    ],
)
def test_codes(body: bytes, code: str) -> None:
    assert faults.code_of(body) == code
