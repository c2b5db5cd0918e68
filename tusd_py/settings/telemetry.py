"""What the program tells of itself: metrics and logs."""

import re
from typing import Literal

from pydantic import Field, field_validator

from tusd_py.settings.area import Area

_METRICS_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


class MetricsSettings(Area):
    """Metrics."""

    expose_metrics: bool = True
    """Serve metrics for Prometheus."""
    metrics_path: str = "/metrics"
    """Path under which they are served."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of their own for metrics. Default: `port`."""
    metrics_host: str | None = Field(default=None, min_length=1)
    """Address to listen on for metrics on a port of their own. Default: `host`."""
    work_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port on which `tusd-py work` serves its metrics, which are not the server's. Default:
    nowhere."""
    reap_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """The same for `tusd-py reap`, while it runs."""

    @field_validator("metrics_path")
    @classmethod
    def _check_metrics_path(cls, value: str) -> str:
        if not _METRICS_PATH.fullmatch(value) or {".", ".."} & set(value.split("/")):
            raise ValueError('write a path like "/metrics"')
        return value


class LogSettings(Area):
    """Logs."""

    log_format: LogFormat = "console"
    """`console` for people, `json` for machines: one object a line."""
    log_level: LogLevel = "info"
    """The least serious line that is written."""
