"""Which events are written with a change: one job for each sink that wants to be told.

Implements `tusd_storage.outbox.Outbox`. One job a sink, so that one that fails repeats no other.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

from tusd_py.hooks import origin, wire
from tusd_py.hooks.dispatch import JOB_KIND, Hooks
from tusd_py.hooks.events import HookEvent, HookType
from tusd_py.hooks.facts import asset_info, event_id, upload_info
from tusd_storage.outbox import Announce, Announcement, Change, NewJob
from tusd_storage.records import Asset, Protocol, UploadSession

TYPES: Mapping[Change, HookType] = {
    Change.CREATED: HookType.POST_CREATE,
    Change.COMPLETED: HookType.POST_FINISH,
    Change.ABORTED: HookType.POST_TERMINATE,
    Change.DELETED: HookType.POST_TERMINATE,
    Change.EXPIRED: HookType.POST_EXPIRE,
    Change.FAILED: HookType.POST_FAIL,
    Change.AVAILABLE: HookType.ASSET_AVAILABLE,
    Change.QUARANTINED: HookType.ASSET_QUARANTINED,
}
"""The event that tells of a change."""


def job_id(event: str, sink: str) -> str:
    """The job by which a sink is told of an event: never a second one."""
    return f"{event}.{sink}"


class HookOutbox:
    """Events for the sinks of `hooks`."""

    def __init__(
        self,
        hooks: Hooks,
        *,
        now: Callable[[], datetime],
        forwarded: Collection[str],
        patience: timedelta,
        credentials: Collection[str] = (),
    ) -> None:
        """`forwarded`: headers that are kept though they are credentials. `patience`: how long
        `post-finish` waits for the answer of `pre-finish`, where there is one. `credentials`:
        more headers that are some."""
        self._hooks = hooks
        self._now = now
        secret = origin.CREDENTIALS | {origin.canonical(name) for name in credentials}
        self._without = secret - {origin.canonical(name) for name in forwarded}
        self._patience = patience
        self._asks_at_end = hooks.wants(HookType.PRE_FINISH)

    def bind(self) -> Announce:
        """See `tusd_storage.outbox.Outbox`."""
        scope, now = origin.current(), self._now()

        def announce(change: Change, session: UploadSession, asset: Asset | None) -> Announcement:
            kind = TYPES[change]
            asks = change is Change.COMPLETED and self._asks(session)
            sinks = [sink.name for sink in self._hooks if kind in sink.types]
            if not sinks:
                return Announcement(awaits_answer=asks)
            event = event_id(kind, session)
            told = HookEvent(
                upload=upload_info(session),
                http_request=origin.described(scope, without=self._without),
                asset=None if asset is None else asset_info(asset, session),
            )
            payload: wire.Json = {"ID": event, "Type": str(kind), "Event": wire.event_json(told)}
            waits = asks and scope is not None
            run_at = now + self._patience if waits else now
            jobs = tuple(
                NewJob(
                    id=job_id(event, sink),
                    kind=JOB_KIND + sink,
                    subject=session.id,
                    payload=payload,
                    run_at=run_at,
                )
                for sink in sinks
            )
            return Announcement(jobs=jobs, awaits_answer=asks)

        return announce

    def _asks(self, session: UploadSession) -> bool:
        return self._asks_at_end and session.protocol is Protocol.TUS
