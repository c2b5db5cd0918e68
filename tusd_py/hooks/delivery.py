"""The jobs that deliver events: each is one sink and one event.

At least once: the worker calls again, later and later, until the sink has taken it, and gives it up
as dead after the last try; `tusd-py jobs retry` sends it once more, under the same id.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import structlog

from tusd_py.hooks import wire
from tusd_py.hooks.dispatch import JOB_KIND, Hooks
from tusd_py.hooks.sinks import Sink
from tusd_storage.records import Job

log = structlog.get_logger(__name__)

Handler = Callable[[Job], Awaitable[None]]


def handlers(hooks: Hooks, now: Callable[[], datetime]) -> Mapping[str, Handler]:
    """What a worker runs, by kind of job."""
    return {JOB_KIND + sink.name: _handler(sink, now) for sink in hooks}


def _handler(sink: Sink, now: Callable[[], datetime]) -> Handler:
    async def deliver(job: Job) -> None:
        """Raises: HookFailed, and is run again."""
        request = wire.stored_request(job.payload, attempt=job.attempts, timestamp=now())
        await sink.call(request, retrying=False)
        log.info("hook_delivered", hook=sink.name, type=str(request.type), event_id=request.id)

    return deliver
