"""From what botocore, sockets and S3 say to the storage taxonomy: the only place that knows both.

Messages name the operation and S3's error code. Never a URL, key, ARN or credential: botocore's own
messages contain those, so none is passed on.
"""

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError

from tusd_storage.errors import (
    AccessDenied,
    ChecksumRejected,
    InvalidPart,
    NoSuchObject,
    NoSuchUpload,
    StorageError,
    StoreRefused,
    StoreUnavailable,
    StoreUnresolved,
)


class Throttled(StoreUnavailable):
    """The store said that it did nothing, because it is busy."""


FOREIGN = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    OSError,
    http.client.HTTPException,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RuntimeError,
)
"""What to catch around a call and hand to `from_exception`; the last five: an answer without a
field, or with one that is no number, time or checksum."""

PART_OPERATIONS = frozenset(
    {"UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload", "ListParts"}
)
"""Operations on an upload id, where "not found" can only mean the upload."""

_WITHOUT_BODY = frozenset({"HeadObject", "HeadBucket"})
"""Their answers have no room for a code."""

THROTTLING = frozenset(
    {
        *("SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException"),
        *("TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded"),
        *("BandwidthLimitExceeded", "RequestThrottled", "RequestThrottledException"),
    }
)
TRANSIENT = frozenset(
    {
        *("InternalError", "InternalFailure", "ServiceUnavailable", "ServerBusy"),
        # The store did not get all of the body, or not in time.
        *("RequestTimeout", "RequestTimeoutException", "IncompleteBody"),
        # Another call on the same key was under way.
        *("OperationAborted", "ConditionalRequestConflict"),
    }
)
CHECKSUM = frozenset(
    {
        *("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"),
        *("XAmzContentSHA256Mismatch", "ChecksumMismatch"),
    }
)
PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
ACCESS = frozenset(
    {
        *("AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidAccessKeyId"),
        *("SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        *("RequestTimeTooSkewed", "InvalidSecurity", "NotSignedUp", "UnauthorizedAccess"),
        *("AuthorizationHeaderMalformed", "InvalidObjectState"),
    }
)
_BY_CODE: tuple[tuple[frozenset[str], type[StorageError]], ...] = (
    (PARTS, InvalidPart),
    (CHECKSUM, ChecksumRejected),
    (ACCESS, AccessDenied),
    (TRANSIENT, StoreUnavailable),
)
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509})

_NO_ANSWER = (
    BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    CredentialRetrievalError,
    MetadataRetrievalError,
)
"""Of botocore's own errors, those that another try may not meet again."""

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9._-]{1,64})\s*</Code>")


def code_of(body: bytes) -> str:
    """S3's error code in an XML error body; empty when there is none."""
    found = _CODE.search(body)
    return found.group(1).decode() if found else ""


def from_answer(operation: str, status: int, code: str) -> StorageError:
    """The error for an HTTP answer that is not a success. The code says more than the status."""
    what = f"{operation}: the store answered {status} {code}".rstrip()
    return _by_code(operation, status, code, what) or _by_status(operation, status, code, what)


def _by_code(operation: str, status: int, code: str, what: str) -> StorageError | None:
    if code in THROTTLING:
        # botocore makes a 500 of a 200 that holds an error: no promise that nothing was done.
        return Throttled(what) if status in {429, 503} else StoreUnavailable(what)
    for codes, error in _BY_CODE:
        if code in codes:
            return error(what)
    if code in {"NoSuchUpload", "NoSuchKey"}:
        return _missing(operation, code, what)
    return None


def _by_status(operation: str, status: int, code: str, what: str) -> StorageError:
    if status == 429:
        return Throttled(what)
    if status in RETRYABLE_STATUSES:
        return StoreUnavailable(what)
    if status == 404 and not code and operation not in _WITHOUT_BODY:
        # No store says so without a code: something before it has no route to it right now.
        return StoreUnavailable(what)
    if status == 404 and code != "NoSuchBucket":
        return _missing(operation, code, what)
    if status == 403 or (status == 401 and not code):
        return AccessDenied(what)
    return StoreRefused(code or str(status), what)


def _missing(operation: str, code: str, what: str) -> StorageError:
    if code == "NoSuchUpload" or operation in PART_OPERATIONS:
        return NoSuchUpload(what)
    return NoSuchObject(what)


def from_exception(operation: str, error: Exception) -> StorageError:
    """The error for one of `FOREIGN`."""
    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        code = error.response["Error"].get("Code") or ""
        return from_answer(operation, status, "" if code.isdigit() else code)
    if isinstance(error, NoCredentialsError):
        return AccessDenied(f"{operation}: no credentials for the store were found")
    if isinstance(error, ParamValidationError):
        return StoreRefused("InvalidArgument", f"{operation}: not something S3 can take")
    if _unresolved(error):
        return StoreUnresolved(f"{operation}: the host name of the store cannot be resolved")
    if _untrusted(error):
        return StoreRefused("CertificateUntrusted", f"{operation}: the store's TLS certificate")
    if isinstance(error, BotoCoreError) and not isinstance(error, _NO_ANSWER):
        return StoreRefused(type(error).__name__, f"{operation}: {type(error).__name__}")
    return StoreUnavailable(f"{operation}: {type(error).__name__}")


@contextmanager
def reading(operation: str) -> Iterator[None]:
    """Around what is made of an answer. Raises: as a call, where it is not what S3 would answer."""
    try:
        yield
    except FOREIGN as error:
        raise from_exception(operation, error) from error


def outcome(error: StorageError) -> str:
    """The observer's word for it."""
    if isinstance(error, Throttled):
        return "throttled"
    if isinstance(error, NoSuchUpload | NoSuchObject):
        return "missing"
    return "unavailable" if isinstance(error, StoreUnavailable) else "rejected"


def _unresolved(error: Exception) -> bool:
    """botocore hides the reason in an argument, urllib3 in the cause."""
    inner = error.kwargs.get("error", error) if isinstance(error, BotoCoreError) else error
    seen = (inner, getattr(inner, "__cause__", None), getattr(inner, "__context__", None))
    return any(isinstance(one, socket.gaierror) for one in seen)


def _untrusted(error: Exception) -> bool:
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    return isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
