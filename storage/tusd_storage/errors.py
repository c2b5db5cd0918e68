"""The storage taxonomy: every failure of a port, classed by what the caller can do about it.

StorageError
├── Unavailable              try again later; nothing is wrong with the request
│   ├── StoreUnavailable     the object store: 5xx, throttling, time-out, connection
│   │   └── StoreUnresolved  its host name is not known, or nobody can be asked
│   ├── StateUnavailable     the database; the outcome of a write is unknown
│   │   └── StateOverloaded  too much waits for it already; nothing was tried
│   └── DiskFull             no room on this node for a tail or spool
├── Rejected                 the same call will fail again
│   ├── NoSuchUpload         the multipart upload is not (or no longer) there
│   ├── NoSuchObject
│   ├── InvalidPart          a part is missing, replaced, out of order or too small
│   ├── ChecksumRejected     the store saw other bytes than we meant to send
│   ├── AccessDenied
│   ├── AlreadyExists        a row with this id or key is there
│   └── StoreRefused         any other definitive refusal
├── TailMissing              acknowledged bytes are not on this node
├── LeaseHeld                another writer holds the upload
├── LeaseLost                this writer was fenced off; nothing was changed
├── CreationRepeated         a session with the same creation key is there already
├── QuotaExceeded            the owner has too much open
│   ├── TooManySessions
│   └── TooManyBytes
├── SessionUnknown
└── InvalidTransition        the state table has no such edge

Messages name ids and what to do; never secrets, URLs or absolute paths.
"""

from datetime import datetime

from tusd_storage.records import UploadSession


class StorageError(Exception):
    """Root of every failure a port may raise."""


class Unavailable(StorageError):
    """Transient: the caller may try again later."""


class StoreUnavailable(Unavailable):
    """The object store did not do it, for now."""


class StoreUnresolved(StoreUnavailable):
    """The host name of the object store cannot be resolved: often it is misspelt."""


class StateUnavailable(Unavailable):
    """The database did not answer; a write may or may not have happened."""


class StateOverloaded(StateUnavailable):
    """The database has too much to do: the call was not begun, nothing was changed."""


class DiskFull(Unavailable):
    """This node has no room for acknowledged bytes."""


class Rejected(StorageError):
    """Definitive: the same call will fail again."""


class NoSuchUpload(Rejected):
    """The store does not know the multipart upload."""


class NoSuchObject(Rejected):
    """The store does not know the object."""


class InvalidPart(Rejected):
    """CompleteMultipartUpload was refused because of its parts."""


class ChecksumRejected(Rejected):
    """The store computed another checksum than the one sent with the bytes."""


class AccessDenied(Rejected):
    """The credentials lack a right."""


class AlreadyExists(Rejected):
    """A row with this id, or with this object key, is there already; nothing was changed."""


class StoreRefused(Rejected):
    """Any other 4xx; `code` is the S3 error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TailMissing(StorageError):
    """`tus_tail_missing`: the tail is absent, shorter than promised, or differs."""

    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(f"tail of upload {session_id}: {reason}")
        self.session_id = session_id
        self.reason = reason
        """One of `other_node`, `absent`, `short`, `damaged`."""


class LeaseHeld(StorageError):
    """Another writer holds the lease until `until`."""

    def __init__(self, session_id: str, *, holder: str, epoch: int, until: datetime) -> None:
        super().__init__(f"upload {session_id} is being written by another request")
        self.session_id = session_id
        self.holder = holder
        self.epoch = epoch
        self.until = until


class LeaseLost(StorageError):
    """The compare-and-swap on (epoch, offset) failed: somebody else writes now."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"upload {session_id}: the lease was lost, nothing was changed")
        self.session_id = session_id


class StaleLease(LeaseLost):
    """What this process knew of the upload from before is not so any more; the row says what is."""


class CreationRepeated(StorageError):
    """The creation key belongs to `session`; nothing was created."""

    def __init__(self, session: UploadSession) -> None:
        super().__init__("an upload with this idempotency key is there already")
        self.session = session


class QuotaExceeded(StorageError):
    """The owner has too much open; nothing was created."""


class TooManySessions(QuotaExceeded):
    """As many sessions as the owner may have are open."""


class TooManyBytes(QuotaExceeded):
    """With this one, the open sessions of the owner would have too many bytes."""


class SessionUnknown(StorageError):
    """No row has this id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id}")
        self.session_id = session_id


class InvalidTransition(StorageError):
    """`invalid_transition`."""

    def __init__(self, subject: str, *, source: str, target: str) -> None:
        super().__init__(f"{subject}: no way from {source} to {target}")
        self.source = source
        self.target = target
