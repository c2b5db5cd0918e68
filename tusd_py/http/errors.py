"""The one table from exception to status, and the shape of error answers (RFC 9457)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tusd_py.broker import errors as broker
from tusd_py.hooks import errors as hooks
from tusd_py.http import auth, download, json_errors
from tusd_py.operator import errors as operator
from tusd_py.protocol import errors as protocol
from tusd_py.protocol.headers import VERSION
from tusd_py.uploads.body import ClientGone, Interrupted, Stop
from tusd_storage import errors as storage

RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exception means on the wire."""

    status: int
    code: str
    """Stable; clients and operators may rely on it."""
    detail: str | None = None
    """Told to the client; None for the exception's own message."""
    retry: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


_AGAIN = "the server cannot do this at the moment; try again"
_OWNED = "too much of yours is open already: finish or terminate some of it, then try again"
_HOOK = "the application behind this server did not answer as it should; try again"
_STORE = "the store behind this server refused; the operator has to look"

TABLE: dict[type[Exception], Failure] = {
    # The request
    protocol.UnsupportedVersion: Failure(
        412, "unsupported_version", headers={"Tus-Version": VERSION}
    ),
    protocol.InvalidHeader: Failure(400, "invalid_header"),
    protocol.UnsupportedMediaType: Failure(415, "unsupported_media_type"),
    protocol.UnknownChecksumAlgorithm: Failure(400, "unknown_checksum_algorithm"),
    protocol.ChecksumMismatch: Failure(460, "checksum_mismatch"),
    protocol.FileChecksumMismatch: Failure(460, "file_checksum_mismatch"),
    protocol.OffsetMismatch: Failure(409, "offset_mismatch"),
    protocol.SizeExceeded: Failure(413, "size_exceeded"),
    protocol.UploadNotFound: Failure(404, "upload_not_found"),
    protocol.UploadGone: Failure(410, "upload_gone"),
    protocol.FileRefused: Failure(410, "file_checksum_mismatch"),
    protocol.FinalNotWritable: Failure(403, "final_not_writable"),
    protocol.NotConcatenable: Failure(400, "not_concatenable"),
    protocol.KeyReused: Failure(422, "idempotency_key_reused"),
    protocol.MethodNotAllowed: Failure(405, "method_not_allowed"),
    auth.Unauthorized: Failure(401, "unauthorized"),
    auth.Forbidden: Failure(403, "forbidden"),
    auth.SignatureRefused: Failure(403, "signature_refused"),
    auth.AuthUnavailable: Failure(503, "auth_unavailable", _AGAIN, retry=True),
    download.Unfinished: Failure(409, "upload_unfinished"),
    download.AssetQuarantined: Failure(403, "asset_quarantined"),
    # JSON requests
    json_errors.NotJson: Failure(415, "unsupported_media_type"),
    json_errors.InvalidBody: Failure(400, "invalid_body"),
    json_errors.InvalidQuery: Failure(400, "invalid_query"),
    json_errors.BodyTooLarge: Failure(413, "body_too_large"),
    json_errors.NoSuchPath: Failure(404, "not_found"),
    json_errors.Overloaded: Failure(503, "overloaded", _AGAIN, retry=True),
    # Sessions that go straight to the store
    broker.SessionNotFound: Failure(404, "not_found", "there is no such session"),
    broker.UnknownProfile: Failure(422, "unknown_profile"),
    broker.InvalidArgument: Failure(422, "invalid_argument"),
    broker.ContentTypeRefused: Failure(422, "content_type_refused"),
    broker.SizeRefused: Failure(413, "size_refused"),
    broker.UploadUnsupported: Failure(422, "upload_unsupported"),
    broker.InvalidTransition: Failure(409, "invalid_transition"),
    broker.SessionExpired: Failure(410, "session_expired"),
    broker.SessionBusy: Failure(423, "session_busy", retry=True),
    broker.MultipartNotInitialized: Failure(409, "multipart_upload_not_initialized"),
    broker.ResumableNotInitialized: Failure(409, "resumable_upload_not_initialized"),
    broker.InvalidParts: Failure(422, "invalid_multipart_parts"),
    broker.MultipartVanished: Failure(410, "multipart_upload_vanished"),
    broker.ObjectMissing: Failure(409, "storage_object_missing"),
    broker.ObjectMismatch: Failure(409, "storage_object_mismatch"),
    # What the application's hooks say
    hooks.UploadRejected: Failure(400, "upload_rejected"),
    hooks.TerminationRejected: Failure(400, "termination_rejected"),
    hooks.UploadStopped: Failure(400, "upload_stopped"),
    hooks.HookFailed: Failure(
        502,
        "hook_failed",
        "the application behind this server did not answer as it should",
        retry=True,
    ),
    # The operator's page
    operator.NoSuchUpload: Failure(404, "upload_not_found"),
    operator.AmbiguousRef: Failure(409, "ambiguous_ref"),
    operator.NoSuchJob: Failure(404, "job_not_found"),
    operator.NotRetriable: Failure(409, "not_retriable"),
    operator.TooManyViewers: Failure(503, "too_many_viewers", retry=True),
    # The upload's writer
    storage.LeaseHeld: Failure(423, "upload_locked", retry=True),
    storage.LeaseLost: Failure(423, "upload_locked", retry=True),
    storage.StaleLease: Failure(423, "upload_locked", retry=True),
    storage.TailMissing: Failure(503, "tus_tail_missing", _AGAIN, retry=True),
    storage.CreationRepeated: Failure(409, "creation_repeated", retry=True),
    storage.TooManySessions: Failure(429, "owner_uploads_reached", _OWNED, retry=True),
    storage.TooManyBytes: Failure(429, "owner_bytes_reached", _OWNED, retry=True),
    storage.SessionUnknown: Failure(404, "upload_not_found", "there is no such upload"),
    storage.InvalidTransition: Failure(409, "invalid_transition"),
    storage.AlreadyExists: Failure(409, "upload_exists", "its id or its object key is taken"),
    # What stands behind the server
    storage.StoreUnavailable: Failure(503, "store_unavailable", _AGAIN, retry=True),
    storage.StoreUnresolved: Failure(503, "store_unavailable", _AGAIN, retry=True),
    storage.StateUnavailable: Failure(503, "state_unavailable", _AGAIN, retry=True),
    storage.StateOverloaded: Failure(503, "state_overloaded", _AGAIN, retry=True),
    storage.DiskFull: Failure(507, "disk_full", _AGAIN, retry=True),
    storage.NoSuchUpload: Failure(502, "store_refused", _STORE),
    storage.NoSuchObject: Failure(410, "object_gone", "the finished file is gone"),
    storage.InvalidPart: Failure(502, "store_refused", _STORE),
    storage.ChecksumRejected: Failure(502, "store_refused", _STORE),
    storage.AccessDenied: Failure(502, "store_refused", _STORE),
    storage.StoreRefused: Failure(502, "store_refused", _STORE),
}

_INTERRUPTED = {
    Stop.WANTED: Failure(423, "superseded", "a newer request took over", retry=True),
    Stop.SHUTDOWN: Failure(503, "shutting_down", _AGAIN, retry=True),
    Stop.IDLE: Failure(503, "body_timeout", "the body stood still for too long", retry=True),
}

INTERNAL = Failure(500, "internal_error", "something went wrong on this server", retry=True)


def failure_of(error: Exception) -> Failure | None:
    """What to answer; None when nobody is there to read it. Unknown exceptions are `INTERNAL`."""
    if isinstance(error, ClientGone):
        return None
    if isinstance(error, Interrupted):
        if error.stop is Stop.DISCONNECTED:
            return None
        return _INTERRUPTED.get(error.stop, INTERNAL)
    # An adapter may raise a more exact kind, as `Throttled` is one of StoreUnavailable.
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def headers_of(error: Exception, failure: Failure) -> dict[str, str]:
    """Headers of the error answer beside its content's."""
    headers = dict(failure.headers)
    if failure.retry:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, protocol.OffsetMismatch):
        headers["Upload-Offset"] = str(error.offset)
    if isinstance(error, auth.Unauthorized | auth.Forbidden) and error.challenge:
        headers["WWW-Authenticate"] = error.challenge
    return headers


def problem(error: Exception, failure: Failure) -> bytes:
    """The body of the error answer: `application/problem+json`."""
    detail = str(error) if failure.detail is None else failure.detail
    return json.dumps({"status": failure.status, "code": failure.code, "detail": detail}).encode()
