"""The contracts between the use cases and what holds bytes and state.

Every implementation runs the same suite in `tests/contract`. Where a promise below says MUST, the
suite has a test for it. All methods are async and never block the event loop. All raise only the
taxonomy of `tusd_storage.errors`. Cancelling a call leaves its outcome unknown, never half done.

Here are the ones an upload needs; what runs beside them has contracts of its own in `direct`,
`listings`, `overview`, `statistics` and `sweeps`.
"""

from tusd_storage.ports.jobs import JobQueue
from tusd_storage.ports.objects import ObjectStore, Presigned
from tusd_storage.ports.sessions import SessionStore
from tusd_storage.ports.tails import Spool, Tail, TailFile, TailStore, Writing

__all__ = [
    "JobQueue",
    "ObjectStore",
    "Presigned",
    "SessionStore",
    "Spool",
    "Tail",
    "TailFile",
    "TailStore",
    "Writing",
]
