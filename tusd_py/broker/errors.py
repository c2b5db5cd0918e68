"""Why the broker refuses. Codes are stable; the statuses are in `tusd_py.http.errors` alone.

BrokerError
├── SessionNotFound                 not_found: no such session, or none for this caller
├── UnknownProfile                  unknown_profile
├── InvalidArgument                 invalid_argument: a value no profile would take
├── ContentTypeRefused              content_type_refused: not among the profile's
├── SizeRefused                     size_refused: more than the profile or the store takes
├── UploadUnsupported               upload_unsupported: not with this adapter, profile or session
├── InvalidTransition               invalid_transition: the state table has no such edge
├── SessionExpired                  session_expired: its time is over, nothing is signed any more
├── SessionBusy                     session_busy: another call is changing it; try again
├── MultipartNotInitialized         multipart_upload_not_initialized
├── ResumableNotInitialized         resumable_upload_not_initialized
├── InvalidParts                    invalid_multipart_parts; the session is as it was
├── MultipartVanished               multipart_upload_vanished: the store lost it; the session failed
├── ObjectMissing                   storage_object_missing; the session is as it was
└── ObjectMismatch                  storage_object_mismatch: not what was promised; it failed

What the ports say about the store and the database (`tusd_storage.errors.Unavailable`, `Rejected`)
passes through as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tusd_storage import errors as storage


class BrokerError(Exception):
    """Root. `code` is stable and part of the answer."""

    code = "broker_error"


class SessionNotFound(BrokerError):
    """No such session, or none for this caller."""

    code = "not_found"


class UnknownProfile(BrokerError):
    """The settings have no profile of this name."""

    code = "unknown_profile"


class InvalidArgument(BrokerError):
    """A value that is wrong whatever the profile."""

    code = "invalid_argument"


class ContentTypeRefused(BrokerError):
    """The profile does not take this content type."""

    code = "content_type_refused"


class SizeRefused(BrokerError):
    """The declared size is more than the profile or the store takes."""

    code = "size_refused"


class UploadUnsupported(BrokerError):
    """The adapter lacks a capability, or the profile or session is not for this."""

    code = "upload_unsupported"


class InvalidTransition(BrokerError):
    """The session cannot go there from where it is."""

    code = "invalid_transition"

    def __init__(self, session_id: str, *, source: str, target: str) -> None:
        super().__init__(f"session {session_id}: no way from {source} to {target}")
        self.source = source
        self.target = target


class SessionExpired(BrokerError):
    """The session's time is over."""

    code = "session_expired"


class SessionBusy(BrokerError):
    """Another call holds the session's lease, or took it."""

    code = "session_busy"


class MultipartNotInitialized(BrokerError):
    """The session has no multipart upload."""

    code = "multipart_upload_not_initialized"


class ResumableNotInitialized(BrokerError):
    """The session is not a resumable upload."""

    code = "resumable_upload_not_initialized"


class InvalidParts(BrokerError):
    """The parts named are not those the store has, or do not make a whole."""

    code = "invalid_multipart_parts"


class MultipartVanished(BrokerError):
    """The store no longer knows the multipart upload, and there is no object."""

    code = "multipart_upload_vanished"


class ObjectMissing(BrokerError):
    """There is no object of this session in the store yet."""

    code = "storage_object_missing"


class ObjectMismatch(BrokerError):
    """The object is not what was promised; it has been removed."""

    code = "storage_object_mismatch"

    def __init__(self, session_id: str, failure: str) -> None:
        super().__init__(f"session {session_id}: the stored object is not what was promised")
        self.failure = failure
        """`size_mismatch`, `content_type_mismatch` or `too_large`."""


@contextmanager
def broker_errors(session_id: str) -> Iterator[None]:
    """Gives what the ports say about sessions and leases the broker's names."""
    try:
        yield
    except storage.SessionUnknown as error:
        raise SessionNotFound("there is no such session") from error
    except storage.InvalidTransition as error:
        raise InvalidTransition(session_id, source=error.source, target=error.target) from error
    except (storage.LeaseHeld, storage.LeaseLost) as error:
        raise SessionBusy(f"session {session_id} is being changed by another call") from error
