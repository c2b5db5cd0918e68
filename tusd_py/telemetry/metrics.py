"""Every metric that is counted while things happen: its name, its labels, its meaning.

Owns the Prometheus instruments, and which event moves which. Names that tusd has are tusd's, with
its labels and meaning. No label holds anything a client can choose, so the child of each set of
labels is remembered: to look for it costs more than to count. Knows neither how the numbers
are read (`exposition`) nor what is looked up only then (`lookups`).
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from tusd_py.telemetry import events
from tusd_py.telemetry.stages import Stage

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"
HOOKS = (
    *("pre-create", "post-create", "post-receive", "pre-finish", "post-finish"),
    *("pre-terminate", "post-terminate"),
)
TAIL_REASONS = ("absent", "short", "damaged", "other_node")
TAKEOVERS = ("expired", "abandoned")

SHORT_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGE_S = (*SHORT_S, 60, 300, 1800, 7200)
UPLOAD_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

E = TypeVar("E", bound=events.Event)

COUNTERS_WITHOUT_TOTAL = (
    "tusd_bytes_received",
    "tusd_uploads_created",
    "tusd_uploads_finished",
    "tusd_uploads_terminated",
)
"""Counters of tusd's whose names do not end as the client library wants a counter's to end: kept
as gauges here, and told as the counters that they are."""


class Metrics:
    """The instruments of one process. `registry` has them all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._by_event: dict[type[events.Event], Callable[[Any], None]] = {}
        self._tusd()
        self._uploads()
        self._requests()
        self._stages()
        self._trouble()
        self._reaper()
        self._process()

    def on_event(self, event: events.Event) -> None:
        """A subscriber for `Telemetry`."""
        count = self._by_event.get(type(event))
        if count is not None:
            count(event)

    def observe_s3(self, operation: str, outcome: str, seconds: float) -> None:
        """An observer for the object store; called from its threads."""
        self._s3_requests_of(operation, outcome).inc()
        self._s3_duration_of(operation).observe(seconds)
        self._tusd_s3_duration_of(operation).observe(seconds * 1000)

    def observe_stage(self, stage: Stage, seconds: float, good: bool) -> None:
        """An observer for `Stages`."""
        self._stage_children[stage].observe(seconds)
        if not good:
            self.stage_failures.labels(stage).inc()

    def request_begun(self, endpoint: str, method: str) -> None:
        """A request came in; `method` is upper case, whatever it is."""
        if endpoint == "tus" and method in self._tusd_methods:
            self._tusd_methods[method].inc()

    def request_ended(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """It was answered; 499 where the client had gone."""
        method = method if method in METHODS else OTHER
        self._requests_of(endpoint, method, status).inc()
        self._request_duration_of(endpoint, method).observe(seconds)

    def _on(self, kind: type[E], count: Callable[[E], None]) -> None:
        self._by_event[kind] = count

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, mode: Any = "livesum") -> Gauge:
        """`mode`: what the numbers of several processes make, see prometheus_client."""
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=mode)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = SHORT_S
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _tusd(self) -> None:
        """What tusd has: pkg/prometheuscollector, pkg/hooks, pkg/s3store, cmd/tusd/cli/metrics."""
        requests = self._counter(
            "tusd_requests_total", "Requests to the tus endpoint by method.", "method"
        )
        self._tusd_methods = {method: requests.labels(method) for method in METHODS}
        self.tusd_errors = self._counter(
            "tusd_errors_total", "Errors that tus requests were answered with.", "status", "code"
        )
        received = self._gauge(
            "tusd_bytes_received", "Bytes received for uploads and acknowledged.", mode="sum"
        )
        created = self._gauge("tusd_uploads_created", "Created tus uploads.", mode="sum")
        finished = self._gauge("tusd_uploads_finished", "Finished tus uploads.", mode="sum")
        terminated = self._gauge("tusd_uploads_terminated", "Terminated tus uploads.", mode="sum")
        self.connections = self._gauge("tusd_connections_open", "Open connections from clients.")
        invocations = self._counter(
            "tusd_hook_invocations_total", "Hooks that were asked, by type.", "hooktype"
        )
        errors = self._counter(
            "tusd_hook_errors_total", "Hooks that gave no usable answer, by type.", "hooktype"
        )
        for kind in HOOKS:
            invocations.labels(kind)
            errors.labels(kind)
        self.tusd_s3_duration = Summary(
            "tusd_s3_request_duration_ms",
            "Milliseconds of requests to the store by operation; sum and count, no quantiles.",
            ["operation"],
            registry=self.registry,
        )
        self.s3_demand = self._gauge(
            "tusd_s3_upload_semaphore_demand",
            "Parts and objects being sent to the store, or waiting for a connection.",
        )
        self.s3_limit = self._gauge(
            "tusd_s3_upload_semaphore_limit", "Connections for parts and objects."
        )

        def moved(event: events.ResumablePatch) -> None:
            if event.offset_delta > 0 and event.kind != "final":
                received.inc(event.offset_delta)

        def asked(event: events.HookInvoked) -> None:
            invocations.labels(event.hook).inc()
            if event.failed:
                errors.labels(event.hook).inc()

        def refused(event: events.RequestRefused) -> None:
            self.tusd_errors.labels(str(event.status), event.code).inc()

        self._on(events.ResumablePatch, moved)
        self._on(events.ResumableStart, lambda _: created.inc())
        self._on(events.ResumableStop, lambda _: finished.inc())
        self._on(events.UploadTerminated, lambda _: terminated.inc())
        self._on(events.HookInvoked, asked)
        self._on(events.RequestRefused, refused)

    def _uploads(self) -> None:
        received = self._counter(
            "tusd_py_received_bytes_total", "Bytes read from request bodies, kept or not."
        )
        stored = self._counter(
            "tusd_py_stored_bytes_total", "Bytes of objects that were completed.", "strategy"
        )
        created = self._counter(
            "tusd_py_sessions_created_total", "Sessions created.", "strategy", "profile"
        )
        completed = self._counter(
            "tusd_py_sessions_completed_total", "Sessions completed.", "strategy", "profile"
        )
        ended = self._counter(
            "tusd_py_sessions_ended_total", "Sessions that requests ended.", "strategy", "state"
        )
        duration = self._histogram(
            "tusd_py_session_duration_seconds",
            "From creation to completion.",
            "strategy",
            buckets=UPLOAD_S,
        )
        bodies = self._counter(
            "tusd_py_bodies_total", "Upload bodies read, by why reading ended.", "reason"
        )
        self.active = self._gauge("tusd_py_active_uploads", "Upload bodies being read now.")
        self.leases = self._gauge("tusd_py_leases_held", "Uploads that a request writes now.")

        bodies_of, created_of = cache(bodies.labels), cache(created.labels)
        completed_of, stored_of = cache(completed.labels), cache(stored.labels)
        duration_of = cache(duration.labels)

        def body(event: events.BodyReceived) -> None:
            received.inc(event.size)
            if event.stop is not None:
                bodies_of(event.stop).inc()

        def stop(event: events.UploadStop) -> None:
            completed_of(event.strategy, event.profile).inc()
            stored_of(event.strategy).inc(event.size)
            duration_of(event.strategy).observe(event.duration_s)

        self._on(events.BodyReceived, body)
        self._on(events.UploadStart, lambda e: created_of(e.strategy, e.profile).inc())
        self._on(events.UploadStop, stop)
        self._on(events.SessionEnded, lambda e: ended.labels(e.strategy, e.state).inc())

    def _requests(self) -> None:
        self.requests = self._counter(
            "tusd_py_requests_total",
            "Requests that ended; 499: the client was gone before the answer.",
            *("endpoint", "method", "status"),
        )
        self.request_duration = self._histogram(
            "tusd_py_request_duration_seconds",
            "From the head of a request to the end of its answer.",
            *("endpoint", "method"),
            buckets=STAGE_S,
        )
        self.s3_requests = self._counter(
            "tusd_py_s3_requests_total",
            "HTTP requests to the store, repeats counted, by outcome.",
            *("operation", "outcome"),
        )
        self.s3_duration = self._histogram(
            "tusd_py_s3_request_duration_seconds", "HTTP requests to the store.", "operation"
        )
        self._requests_of = cache(self.requests.labels)
        self._request_duration_of = cache(self.request_duration.labels)
        self._s3_requests_of = cache(self.s3_requests.labels)
        self._s3_duration_of = cache(self.s3_duration.labels)
        self._tusd_s3_duration_of = cache(
            lambda operation: self.tusd_s3_duration.labels(_snake(operation))
        )

    def _stages(self) -> None:
        duration = self._histogram(
            "tusd_py_stage_duration_seconds", "Stages of an upload.", "stage", buckets=STAGE_S
        )
        self.stage_failures = self._counter(
            "tusd_py_stage_failures_total", "Stages that ended with an exception.", "stage"
        )
        self._stage_children = {stage: duration.labels(stage) for stage in Stage}
        for stage in Stage:
            self.stage_failures.labels(stage)

    def _trouble(self) -> None:
        takeovers = self._counter(
            "tusd_py_lease_takeovers_total",
            "Uploads taken from a writer that had not given them back.",
            "reason",
        )
        missing = self._counter(
            "tusd_py_tail_missing_total", "Requests whose upload's tail was not here.", "reason"
        )
        rewinds = self._counter("tusd_py_rewinds_total", "Uploads moved back to what S3 has.")
        rewound = self._counter(
            "tusd_py_rewound_bytes_total", "Acknowledged bytes that rewinds gave up."
        )
        for reason in TAKEOVERS:
            takeovers.labels(reason)
        for reason in TAIL_REASONS:
            missing.labels(reason)

        def lost(event: events.TailLost) -> None:
            missing.labels(event.reason).inc()
            if event.rewound_bytes is not None:
                rewinds.inc()
                rewound.inc(event.rewound_bytes)

        self._on(events.TailLost, lost)
        self._on(events.LeaseTaken, lambda e: takeovers.labels(e.reason).inc())

    def _reaper(self) -> None:
        items = self._counter(
            "tusd_py_reaper_items_total", "What sweeps found and did.", "sweep", "result"
        )
        duration = self._histogram(
            "tusd_py_reaper_sweep_duration_seconds", "Sweeps.", "sweep", buckets=STAGE_S
        )
        last = self._gauge(
            "tusd_py_reaper_last_run_timestamp_seconds",
            "When a server of this node last ran the sweep to its end.",
            "sweep",
            mode="max",
        )

        def swept(event: events.CleanupRun) -> None:
            if event.dry_run or event.skipped:
                return
            for result, count in event.counts.items():
                items.labels(event.sweep, result).inc(count)
            duration.labels(event.sweep).observe(event.duration_s)
            last.labels(event.sweep).set_to_current_time()

        self._on(events.CleanupRun, swept)

    def _process(self) -> None:
        self.memory_used = self._gauge(
            "tusd_py_memory_budget_used_bytes", "Bytes of upload bodies in memory."
        )
        self.memory_limit = self._gauge(
            "tusd_py_memory_budget_limit_bytes", "What `memory_budget` allows, over all workers."
        )
        self.lag = self._histogram(
            "tusd_py_event_loop_lag_seconds",
            "How late the event loop was, asked once a second.",
            buckets=LAG_S,
        )
        self.workers = self._gauge("tusd_py_workers", "Serving processes of this server.")
        self.cpu = self._counter("process_cpu_seconds_total", "Processor time of all workers.")
        self.resident = self._gauge("process_resident_memory_bytes", "Memory of all workers.")
        self.open_files = self._gauge("process_open_fds", "Open files of all workers.")
        self.max_files = self._gauge(
            "process_max_fds", "Files that one worker may open.", mode="livemin"
        )
        self.started = self._gauge(
            "process_start_time_seconds", "When the oldest living worker started.", mode="livemin"
        )


def _snake(operation: str) -> str:
    """`UploadPart` as `upload_part`, which is how tusd names S3's operations."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
