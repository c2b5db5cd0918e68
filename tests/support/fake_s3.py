"""A store that misbehaves on request: an HTTP proxy in front of a real engine, or in front of none.

Owns the faults of a network and of a store, and counts what reached it by S3's operation names.
Requests pass unchanged, Host included, so signatures made for the proxy hold at the engine. Knows
nothing of the adapter under test.
"""

import http.client
import socket
import ssl
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HANG_LIMIT_S = 30.0
"""A test that forgets a hanging request ends all the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The given answer instead of the engine's. `executed`: the engine gets the request before."""

    status: int
    code: str = ""
    body: bytes | None = None
    executed: bool = False

    def content(self) -> bytes:
        """The body given, or an S3 error."""
        if self.body is not None:
            return self.body
        return (
            b'<?xml version="1.0" encoding="UTF-8"?>\n'
            b"<Error><Code>%s</Code><Message>asked for</Message></Error>" % self.code.encode()
        )


@dataclass(frozen=True, slots=True)
class Early:
    """An answer before the body was read, and the end of the connection."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection breaks after `after` bytes of the body; `executed`: after all, before the
    answer."""

    after: int = 0
    executed: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer. `executed`: though the engine did it."""

    executed: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """Headers promise the whole body, half of it comes."""


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """A good answer that promises to keep the connection, which is then closed."""


@dataclass(frozen=True, slots=True)
class Slow:
    """A good answer, so many seconds late."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Call:
    """Something is done before the engine sees the request, or (`executed`) after it; then the
    connection breaks. What is done is, as a rule, to kill who asked."""

    act: Callable[[], None]
    executed: bool = False


@dataclass(frozen=True, slots=True)
class Flip:
    """The engine gets a body with one bit turned over, in the byte `at`."""

    at: int = 0


Fault = Answer | Early | Reset | Hang | Truncate | CloseAfter | Slow | Call | Flip | None
"""None: the request passes."""


class FakeS3:
    """The proxy. Faults are queued by operation, and taken one a request."""

    def __init__(self, upstream: str | None, tls: tuple[Path, Path] | None) -> None:
        self.upstream = upstream
        self.seen: Counter[str] = Counter()
        """Requests by operation, those that met a fault included."""
        self.last: dict[str, tuple[str, Message]] = {}
        """Target and headers of the last request by operation."""
        self.met: list[tuple[str, Fault]] = []
        """Operation and fault of every request that met one."""
        self.connections = 0
        self.arrived = threading.Condition()
        self._faults: dict[str, deque[Fault]] = {}
        self._open: set[socket.socket] = set()
        self._ended = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def fail(self, operation: str, *faults: Fault) -> None:
        """The next requests of this operation meet these faults in turn. `UploadPart 2` stands for
        those of part 2 alone."""
        self._faults.setdefault(operation, deque()).extend(faults)

    def heal(self) -> None:
        """Takes back the faults that nothing has met yet."""
        self._faults.clear()

    def wait_for(self, operation: str, count: int = 1) -> None:
        """Blocks until so many requests of the operation have arrived."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.seen[operation] >= count, HANG_LIMIT_S)

    def take(self, operation: str, part_number: str = "") -> Fault:
        """The next fault for a request that has just arrived."""
        with self.arrived:
            self.seen[operation] += 1
            self.arrived.notify_all()
            queue = self._faults.get(f"{operation} {part_number}", self._faults.get(operation))
            fault = queue.popleft() if queue else None
            if fault is not None:
                self.met.append((operation, fault))
            return fault

    def hang(self, limit_s: float = HANG_LIMIT_S) -> None:
        """Waits for the end, or so long."""
        self._ended.wait(limit_s)

    def close(self) -> None:
        """Breaks all connections and ends all threads."""
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self._server.server_close()

    def opened(self, connection: socket.socket) -> None:
        """Remembers a connection."""
        self.connections += 1
        self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forgets it."""
        self._open.discard(connection)


@contextmanager
def fake_s3(upstream: str | None = None, tls: tuple[Path, Path] | None = None) -> Iterator[FakeS3]:
    """A running proxy; `tls`: certificate and key for https."""
    fake = FakeS3(upstream, tls)
    try:
        yield fake
    finally:
        fake.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    fake: FakeS3

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        self.server.fake.opened(self.connection)

    def finish(self) -> None:
        self.server.fake.closed(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def _serve(self) -> None:
        operation = operation_of(self.command, self.path, self.headers)
        self.server.fake.last[operation] = (self.path, self.headers)
        fault = self.server.fake.take(operation, part_number_of(self.path))
        length = int(self.headers.get("Content-Length") or 0)
        match fault:
            case Early(status, code):
                self._answer(status, {}, Answer(status, code).content())
                self.close_connection = True
                return
            case Reset(after, False):
                self.rfile.read(min(after, length))
                self._reset()
                return
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        body = b"".join(self._chunks()) if chunked else self.rfile.read(length)
        match fault:
            case Answer(status, _, _, executed):
                if executed:
                    self._forward(body)
                self._answer(status, {}, fault.content())
            case Reset():
                self._forward(body)
                self._reset()
            case Hang(executed):
                if executed:
                    self._forward(body)
                self.server.fake.hang()
                self.close_connection = True
            case Call(act, executed):
                if executed:
                    self._forward(body)
                act()
                self._reset()
            case Slow(delay_s):
                self.server.fake.hang(delay_s)
                self._answer(*self._forward(body))
            case Flip(at):
                self._answer(*self._forward(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]))
            case Truncate():
                status, headers, content = self._forward(body)
                self._answer(status, headers, content, sent=len(content) // 2)
                self._reset()
            case _:
                self._answer(*self._forward(body))
                self.close_connection = self.close_connection or fault == CloseAfter()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _chunks(self) -> Iterator[bytes]:
        """A chunked body as it came, framing included, to be passed on as it is."""
        size = -1
        while size:
            line = self.rfile.readline()
            size = int(line.partition(b";")[0], 16)
            yield line
            yield self.rfile.read(size + 2) if size else b""
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            yield line
        yield b"\r\n"

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = self.server.fake.upstream
        assert upstream is not None, "no engine behind this request"
        connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=HANG_LIMIT_S)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            headers = dict(answer.getheaders())
            if self.command != "HEAD":
                headers["Content-Length"] = str(len(content))
            headers.pop("Transfer-Encoding", None)
            return answer.status, headers, content
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if sent is None else content[:sent])

    def _reset(self) -> None:
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


def part_number_of(target: str) -> str:
    """`partNumber` of a request; empty without one."""
    return parse_qs(urlsplit(target).query).get("partNumber", [""])[0]


def operation_of(method: str, target: str, headers: Message) -> str:
    """S3's name for a request with the bucket in its path."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    has_key = parts.path.count("/") > 1 and not parts.path.endswith("/")
    if "uploadId" in query:
        copied = "x-amz-copy-source" in headers
        return {
            "PUT": "UploadPartCopy" if copied else "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
            "GET": "ListParts",
        }[method]
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    return f"{method.capitalize()}{'Object' if has_key else 'Bucket'}"
