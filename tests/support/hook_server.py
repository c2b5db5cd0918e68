"""A real HTTP server that hooks are sent to: keeps what it got, answers what a test wants.

with HookServer() as hooks:
    hooks.answers["pre-create"] = {"RejectUpload": True}
    ... server with TUSD_HOOKS_HTTP=hooks.url ...
    [finished] = hooks.wait_for("post-finish")
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Call:
    """One request that came in."""

    body: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    """By lower-case name."""

    @property
    def type(self) -> str:
        """`Type`; empty where a validator is asked."""
        kind: str = self.body.get("Type", "")
        return kind

    @property
    def upload(self) -> dict[str, Any]:
        """`Event.Upload`."""
        upload: dict[str, Any] = self.body["Event"]["Upload"]
        return upload

    @property
    def id(self) -> str:
        """`webhook-id`."""
        return self.headers["webhook-id"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not plainly 200 with JSON."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str | None = "application/json"


Answer = dict[str, Any] | Reply | Callable[[Call], "dict[str, Any] | Reply"]


class HookServer:
    """Listens on a port of its own, or on one that was used before."""

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, Answer] = {}
        """By type; `{}` for the others."""
        self.hold = threading.Event()
        """Answers wait for it."""
        self.hold.set()
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}/hooks"

    def of(self, kind: str) -> list[Call]:
        """The calls of this type, in their order."""
        return [call for call in list(self.calls) if call.type == kind]

    def wait_for(self, kind: str, count: int = 1, *, timeout_s: float = 30.0) -> list[Call]:
        """The calls of this type, once there are so many. Raises: AssertionError."""
        deadline = time.monotonic() + timeout_s
        while len(self.of(kind)) < count:
            seen = [call.type for call in self.calls]
            assert time.monotonic() < deadline, f"no {count} {kind} among {seen}"
            time.sleep(POLL_S)
        return self.of(kind)

    def start(self) -> Self:
        """Listens."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._take(self)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Nobody listens any more; `start` again takes the same port."""
        self.hold.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(json.loads(raw), raw, headers)
        self.calls.append(call)
        self.hold.wait(60)
        answer: Any = self.answers.get(call.type, {})
        if callable(answer):
            answer = answer(call)
        reply = answer if isinstance(answer, Reply) else Reply(body=json.dumps(answer).encode())
        try:
            request.send_response(reply.status)
            if reply.content_type is not None:
                request.send_header("Content-Type", reply.content_type)
            request.send_header("Content-Length", str(len(reply.body)))
            request.end_headers()
            request.wfile.write(reply.body)
        except OSError:
            return  # whoever asked did not wait for it
