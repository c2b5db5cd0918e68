"""Whether traces are wanted: the one question that is asked without OpenTelemetry.

Nothing of it is imported, and nothing of it is needed, before the answer is yes.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from tusd_py.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get(EXPORTER, "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(environ.get(name) for name in ENDPOINTS)


def tracing(provider: "TracerProvider | None" = None) -> "Tracing | None":
    """What makes the spans of this process; None when nobody wants any."""
    if provider is None and not wanted(os.environ):
        return None
    try:
        from tusd_py.telemetry import tracing as otel

        return otel.from_environment(os.environ) if provider is None else otel.Tracing(provider)
    except ModuleNotFoundError as error:
        log.warning("tracing_not_installed", missing=error.name, do="pip install 'tusd-py[otel]'")
        return None
