"""What happens to uploads, as typed events, told to whoever subscribed.

An event is told after the commit it speaks of, never before, and at most once: a process that dies
in between tells nothing. Events hold measurements and the few words one counts by. Never an id that
opens something (a tus upload's id is its URL), a key, a URL or a token.

    telemetry.subscribe(lambda event: counter.add(1, {"event": event.name}))

A subscriber is called on the event loop and must return at once; what it raises is logged.
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import ClassVar

import structlog

from tusd_storage.frozen import record

log = structlog.get_logger(__name__)


@record(frozen=True, slots=True, kw_only=True)
class Event:
    """Root of all events. `name` is stable."""

    name: ClassVar[str] = ""


@record(frozen=True, slots=True, kw_only=True)
class UploadStart(Event):
    """A session was created."""

    name: ClassVar[str] = "upload.start"
    profile: str
    strategy: str
    protocol: str
    size: int | None
    """Declared bytes, where they were."""


@record(frozen=True, slots=True, kw_only=True)
class UploadStop(Event):
    """A session completed: its object is in the bucket and recorded."""

    name: ClassVar[str] = "upload.stop"
    profile: str
    strategy: str
    protocol: str
    asset_id: str | None
    size: int
    """Bytes of the object."""
    crc32: int | None
    """CRC-32 of the object; None where its bytes did not pass through this server."""
    duration_s: float
    """Since the session was created."""


@record(frozen=True, slots=True, kw_only=True)
class ResumableStart(Event):
    """A resumable session was created."""

    name: ClassVar[str] = "upload.resumable.start"
    profile: str
    size: int | None
    """Declared bytes; None while deferred."""


@record(frozen=True, slots=True, kw_only=True)
class ResumablePatch(Event):
    """The offset of a resumable session moved. One request may move it several times."""

    name: ClassVar[str] = "upload.resumable.patch"
    profile: str
    committed_bytes: int
    """The offset afterwards."""
    offset_delta: int
    """Bytes since the commit before; negative after a rewind."""
    kind: str = "single"
    """Of the upload. The bytes of a `final` one come from inside the store."""


@record(frozen=True, slots=True, kw_only=True)
class ResumableStatusRead(Event):
    """Somebody asked how far a resumable session is."""

    name: ClassVar[str] = "upload.resumable.status"
    profile: str
    committed_bytes: int
    state: str
    """`in_progress`, `complete` or `expired`."""


@record(frozen=True, slots=True, kw_only=True)
class ResumableCancel(Event):
    """A resumable session was aborted."""

    name: ClassVar[str] = "upload.resumable.cancel"
    profile: str
    committed_bytes: int
    clean: bool
    """Whether the store took everything back; otherwise the reaper tries again."""
    duration_s: float
    """Since the session was created."""


@record(frozen=True, slots=True, kw_only=True)
class ResumableStop(Event):
    """A resumable session completed."""

    name: ClassVar[str] = "upload.resumable.stop"
    profile: str
    committed_bytes: int
    duration_s: float


@record(frozen=True, slots=True, kw_only=True)
class UploadTerminated(Event):
    """A client terminated a tus upload, finished or not."""

    name: ClassVar[str] = "upload.terminated"
    profile: str
    finished: bool


@record(frozen=True, slots=True, kw_only=True)
class SessionEnded(Event):
    """A session ended without an object."""

    name: ClassVar[str] = "session.ended"
    strategy: str
    state: str
    """`aborted`, `expired` or `failed`."""


@record(frozen=True, slots=True, kw_only=True)
class LeaseTaken(Event):
    """An upload was taken over from a writer that had not given it back."""

    name: ClassVar[str] = "lease.taken"
    reason: str
    """`expired`: its time was over; `abandoned`: its process is known to be gone."""


@record(frozen=True, slots=True, kw_only=True)
class TailLost(Event):
    """Acknowledged bytes were not on this node when a request wanted to go on."""

    name: ClassVar[str] = "tail.missing"
    reason: str
    """`absent`, `short`, `damaged` or `other_node`."""
    rewound_bytes: int | None
    """Bytes the client has to send again; None where the request was refused instead."""


@record(frozen=True, slots=True, kw_only=True)
class BodyReceived(Event):
    """Bytes of a request body arrived: told once for each full part, and at the end."""

    name: ClassVar[str] = "body.received"
    size: int
    """Bytes since the last time it was told of this body."""
    stop: str | None
    """Why reading ended, as in `uploads.body.Stop`; None while it goes on."""


@record(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """A tus request was answered with an error."""

    name: ClassVar[str] = "request.refused"
    status: int
    code: str


@record(frozen=True, slots=True, kw_only=True)
class HookInvoked(Event):
    """A hook was asked, and answered or did not."""

    name: ClassVar[str] = "hook.invoked"
    hook: str
    """As in `pre-create`."""
    failed: bool
    """Whether there was no usable answer; a rejection is one."""


@record(frozen=True, slots=True, kw_only=True)
class CleanupRun(Event):
    """One sweep of the reaper ended."""

    name: ClassVar[str] = "cleanup.run"
    sweep: str
    dry_run: bool
    duration_s: float
    counts: Mapping[str, int] = field(default_factory=dict)
    """By what was done, as in `{"deleted": 3, "failed": 1}`."""
    skipped: bool = False
    """Whether it did not run, or not to its end, because another process does it."""


Subscriber = Callable[[Event], None]


class Telemetry:
    """Hands events to subscribers, in the order they subscribed."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Calls `subscriber` with every event from now on; returns what ends that."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tells everybody. Raises nothing: an upload does not fail because nobody could count."""
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                log.exception("subscriber_failed", event_name=event.name)
