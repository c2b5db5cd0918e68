"""OpenTelemetry spans: one for each request, and one for each of its stages.

Off unless the standard `OTEL_…` variables ask for an exporter (`tracing_wanted`), or the
application gives a tracer provider of its own. Owns names and attributes; they hold no id, key or
URL. Needs the extra `otel`.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import structlog
from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from tusd_py import __version__
from tusd_py.telemetry.stages import Stage

log = structlog.get_logger(__name__)

SERVICE = "tusd-py"
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """See `tusd_py.http.observed.Span`."""

    trace_id: str
    _span: trace.Span

    def answered(self, status: int) -> None:
        """Errors of the server make the span one; those of the client do not."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


class Tracing:
    """Makes the spans. `provider` is shut down by `aclose` if `owned`."""

    def __init__(self, provider: trace.TracerProvider, *, owned: bool = False) -> None:
        self._provider = provider
        self._owned = owned
        self._tracer = provider.get_tracer("tusd_py", __version__)

    @contextmanager
    def request(
        self, endpoint: str, method: str, headers: Mapping[str, str]
    ) -> Iterator[RequestSpan]:
        """A server span; a child of the one that `traceparent` names, if there is one."""
        name = method if method in METHODS else "HTTP"
        attributes = {"http.request.method": name if name != "HTTP" else "_OTHER"}
        with self._tracer.start_as_current_span(
            f"{name} {endpoint}",
            context=propagate.extract(headers),
            kind=SpanKind.SERVER,
            attributes=attributes | {"tusd.endpoint": endpoint},
            record_exception=False,
        ) as span:
            yield RequestSpan(format(span.get_span_context().trace_id, "032x"), span)

    def stage(self, stage: Stage, facts: dict[str, int | str]) -> AbstractContextManager[object]:
        """For `Stages.surround`."""
        return self._tracer.start_as_current_span(
            f"tusd.{stage}",
            attributes={f"tusd.{name}": value for name, value in facts.items()},
            record_exception=False,
        )

    async def aclose(self) -> None:
        """Sends what waits to be sent."""
        if self._owned and isinstance(self._provider, TracerProvider):
            await asyncio.to_thread(self._provider.shutdown)


def from_environment(environ: Mapping[str, str]) -> Tracing | None:
    """As the `OTEL_…` variables say; None for an exporter that is not known here."""
    exporter = _exporter(environ)
    if exporter is None:
        return None
    resource = Resource.create({"service.name": environ.get("OTEL_SERVICE_NAME") or SERVICE})
    made = TracerProvider(resource=resource)
    made.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(made, owned=True)


def _exporter(environ: Mapping[str, str]) -> SpanExporter | None:
    wanted = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    makers: dict[str, Callable[[], SpanExporter]] = {"otlp": _otlp, "console": ConsoleSpanExporter}
    if wanted not in makers:
        log.warning("tracing_unknown_exporter", exporter=wanted, known=sorted(makers))
        return None
    return makers[wanted]()


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
