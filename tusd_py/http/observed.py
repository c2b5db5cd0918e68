"""Requests as operators see them: counted, timed, traced, and named in every line they log.

Wraps endpoints from outside; knows nothing of what they do. The body passes by untouched.
"""

import re
import time
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from tusd_py.protocol.headers import effective_method
from tusd_py.tokens import token_hex

CLIENT_GONE = 499
"""Nobody was left to be answered."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,127}")
_WANTED = frozenset({b"x-request-id", b"x-http-method-override", b"traceparent", b"tracestate"})


class Watcher(Protocol):
    """Who counts requests; `tusd_py.telemetry.metrics.Metrics` is one."""

    def request_begun(self, endpoint: str, method: str) -> None:
        """Before anything is read."""
        ...

    def request_ended(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """After the answer."""
        ...


class Span(Protocol):
    """A request in a trace."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        ...

    def answered(self, status: int) -> None:
        """Says how it went."""
        ...


class Tracer(Protocol):
    """Who traces requests; `tusd_py.telemetry.tracing.Tracing` is one."""

    def request(
        self, endpoint: str, method: str, headers: dict[str, str]
    ) -> AbstractContextManager[Span]:
        """The span of one request, to be held while it runs."""
        ...


class Observed:
    """Runs requests under observation."""

    def __init__(self, watcher: Watcher | None = None, tracer: Tracer | None = None) -> None:
        self._watcher = watcher
        self._tracer = tracer

    def around(self, endpoint: str, app: ASGIApp, *, overrides: bool) -> ASGIApp:
        """The same application, observed. `endpoint` is a word of ours, as in `tus`.

        `overrides`: whether it serves the method of X-HTTP-Method-Override, where that is given.
        """
        return partial(self._run, endpoint, app, overrides)

    async def _run(
        self,
        endpoint: str,
        app: ASGIApp,
        overrides: bool,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        headers = _wanted(scope)
        method: str = scope["method"]
        if overrides:
            method = effective_method(method, headers)
        answer = _Answer(send)
        started = time.perf_counter()
        if self._watcher is not None:
            self._watcher.request_begun(endpoint, method)
        request_id = _request_id(headers)
        try:
            if self._tracer is None:
                await _named(app(scope, receive, answer.send), request_id=request_id)
            else:
                with self._tracer.request(endpoint, method, headers) as span:
                    run = app(scope, receive, answer.send)
                    await _named(run, request_id=request_id, trace_id=span.trace_id)
                    span.answered(answer.status)
        except Exception:
            answer.status = 500
            raise
        finally:
            if self._watcher is not None:
                seconds = time.perf_counter() - started
                self._watcher.request_ended(endpoint, method, answer.status, seconds)


async def _named(run: Awaitable[None], **names: str) -> None:
    """Awaits `run`, with the names in every line it logs."""
    tokens = bind_contextvars(**names)
    try:
        await run
    finally:
        reset_contextvars(**tokens)


class _Answer:
    """Passes messages on and remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = CLIENT_GONE

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _wanted(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        if raw_name in _WANTED:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _request_id(headers: dict[str, str]) -> str:
    """The proxy's or client's, if it is fit for a log line; else one of our own."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else token_hex(8)
