"""Structured logs: one formatter for our lines and everybody else's, with secrets taken out.

Owns what a line looks like and what must never be in one. Knows nothing of what is logged.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

HIDDEN = "***"

_SECRET_KEY = re.compile(
    r"(?i)passw|secret|token|authorization|cookie|signature|credential|access_?key|private_?key"
)
_SIGNED_QUERY = re.compile(
    r"(?i)\?[^\s\"'<>]*(?:x-amz-|x-goog-|awsaccesskeyid=|signature=|\bsig=)[^\s\"'<>]*"
)
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s:@/]*):[^\s@/]*@")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic|aws4-hmac-sha256)\s+[^\s\"',][^\"'\n]*")
_ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")

_CHATTY = (
    "asyncio",
    "boto3",
    "botocore",
    "s3transfer",
    "urllib3",
    "httpx",  # it writes addresses, and those of hooks may hold a token
    "httpcore",
    "alembic",
    "sqlalchemy",
)
"""Libraries whose debug lines hold signatures or statements: warnings and worse only."""

_MANY_LINES = ("exception", "stack")

_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access")


def configure(
    *,
    style: str = "console",
    level: str = "info",
    stream: TextIO | None = None,
    lasting: bool = False,
) -> None:
    """Sends every logger's lines to `stream` (standard error), as `console` text or `json`.

    May be called again; the last call counts, but not for loggers used after a `lasting` one: those
    are made once and not for each line.
    """
    target = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                hide_secrets,
                *(() if style == "json" else (escape_controls,)),
                _renderer(style, colors=target.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _UVICORN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=lasting,
    )


def hide_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: masks values of secret-looking keys, and secrets inside texts."""
    return {key: _hidden(key, value) for key, value in event.items()}


def escape_controls(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor for lines that people read in a terminal: names and errors may be
    chosen by strangers, and steer none. Tracebacks keep their lines."""
    return {key: _escaped(value, key in _MANY_LINES) for key, value in event.items()}


def _escaped(value: Any, many_lines: bool) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    kept = "\n" if many_lines else ""
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in value
    )


def without_secrets(text: str) -> str:
    """The text with signed queries, passwords in URLs, credentials and key ids masked."""
    text = _SIGNED_QUERY.sub(f"?{HIDDEN}", text)
    text = _PASSWORD_IN_URL.sub(rf"\g<1>:{HIDDEN}@", text)
    text = _AUTHORIZATION.sub(rf"\g<1> {HIDDEN}", text)
    return _ACCESS_KEY.sub(HIDDEN, text)


def _hidden(key: object, value: Any) -> Any:
    if isinstance(key, str) and _SECRET_KEY.search(key) and value is not None:
        return HIDDEN
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, bytes):
        return without_secrets(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {name: _hidden(name, item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden(None, item) for item in value]
    if isinstance(value, int | float | None):
        return value
    return without_secrets(str(value))


def _renderer(style: str, *, colors: bool) -> structlog.typing.Processor:
    if style == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )
