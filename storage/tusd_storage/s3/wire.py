"""HTTP/1.1 connections for requests whose body has a known size: a pool, TLS, proxies.

Owns sockets from opening to closing. Knows nothing of S3, signatures or when to try again: a
failure is whatever the socket raised.

botocore cannot do this part: it refuses memoryviews and generators, copies bodies or hashes them,
and over TLS switches to `aws-chunked`, which many stores refuse.
"""

import base64
import http.client
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tusd_storage.records import Segment
from tusd_storage.s3 import nonblocking, transmit
from tusd_storage.s3.transmit import Answer

MAX_IDLE_S = 20.0
"""Servers and balancers close idle connections; ours go first."""


class Aborted(Exception):
    """The caller no longer wants the answer."""


class StaleConnection(Exception):
    """A pooled connection had been closed by the other side before it answered anything."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """The origin of an absolute URL."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname or "", port)

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Request:
    """Everything but the body; `headers` holds Host and Content-Length too."""

    origin: Origin
    method: str
    target: str
    """Path and query."""
    headers: Sequence[tuple[str, str]]


class Abort:
    """Lets another thread end a `Wire.send` under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self.aborted = False

    def __call__(self) -> None:
        """Breaks the connection in use, and any that would follow."""
        with self._lock:
            self.aborted = True
            if self._connection is not None:
                with suppress(OSError):
                    # Not SSLSocket.shutdown: it would drop the encryption under a running send.
                    socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def attach(self, connection: socket.socket) -> None:
        """Names the socket in use. Raises Aborted."""
        with self._lock:
            if self.aborted:
                raise Aborted
            self._connection = connection

    def detach(self) -> None:
        """The socket is no longer in use here."""
        with self._lock:
            self._connection = None


class Wire:
    """A pool of connections to any number of origins. Thread-safe."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        tls: ssl.SSLContext,
        proxy_for: Callable[[Origin], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._tls = tls
        self._proxy_for = proxy_for
        self._clock = clock
        self._idle: dict[Origin, deque[tuple[float, socket.socket]]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def send(
        self, request: Request, segments: Sequence[Segment], abort: Abort, *, fresh: bool = False
    ) -> Answer:
        """Sends one request and reads its answer, whatever the status. Blocks.

        With `fresh` no pooled connection is used.

        Raises: StaleConnection (send it again, `fresh`), Aborted, transmit.BodyTooShort, OSError,
        http.client.HTTPException.
        """
        pooled = None if fresh else self._take(request.origin)
        if pooled is not None and pooled.gettimeout() != self._read_timeout_s:
            pooled.settimeout(self._read_timeout_s)  # the event loop had it
        connection = pooled or self._connect(request.origin)
        reusable = False
        try:
            abort.attach(connection)
            answer, reusable = _exchange(connection, self._head(request), segments)
        except (OSError, http.client.HTTPException) as error:
            if abort.aborted:
                raise Aborted from error
            if pooled is not None and isinstance(error, ConnectionError):
                raise StaleConnection from error
            raise
        finally:
            abort.detach()
            if reusable:
                self._give(request.origin, connection)
            else:
                connection.close()
        return answer

    async def send_at_once(
        self, request: Request, buffers: Sequence[bytes | memoryview]
    ) -> Answer | None:
        """The same on the event loop, for a small body in memory, over an open connection.

        None when there is no such connection. Raises as `send`, but never Aborted.
        """
        connection = self._take(request.origin)
        if connection is None:
            return None
        reusable = False
        try:
            answer, reusable = await nonblocking.exchange(
                connection, self._head(request), buffers, timeout_s=self._read_timeout_s
            )
        except ConnectionError as error:
            raise StaleConnection from error
        finally:
            if reusable:
                self._give(request.origin, connection)
            else:
                connection.close()
        return answer

    def close(self) -> None:
        """Closes idle connections now, and those in use once they are given back."""
        with self._lock:
            self._closed = True
            idle = [connection for queue in self._idle.values() for _, connection in queue]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _take(self, origin: Origin) -> socket.socket | None:
        """The connection used last, if one is idle and still open."""
        while True:
            with self._lock:
                queue = self._idle.get(origin)
                if not queue:
                    return None
                since, connection = queue.pop()
            if self._clock() - since < MAX_IDLE_S and not transmit.readable(connection):
                return connection
            connection.close()

    def _give(self, origin: Origin, connection: socket.socket) -> None:
        """Keeps it for the next request, and closes those that nobody has wanted for long."""
        now, over = self._clock(), [connection]
        with self._lock:
            if not self._closed:
                queue = self._idle.setdefault(origin, deque())
                queue.append((now, connection))
                over = []
                while now - queue[0][0] >= MAX_IDLE_S:
                    over.append(queue.popleft()[1])
        for one in over:
            one.close()

    def _connect(self, origin: Origin) -> socket.socket:
        proxy = self._proxy_for(origin)
        target = Origin.of(proxy) if proxy else origin
        opening: http.client.HTTPConnection
        if origin.scheme == "https":
            opening = http.client.HTTPSConnection(
                target.host, target.port, timeout=self._connect_timeout_s, context=self._tls
            )
            if proxy:
                opening.set_tunnel(origin.host, origin.port, dict(_proxy_headers(proxy)))
        else:
            opening = http.client.HTTPConnection(
                target.host, target.port, timeout=self._connect_timeout_s
            )
        try:
            opening.connect()
        except BaseException:
            opening.close()
            raise
        opening.sock.settimeout(self._read_timeout_s)
        return opening.sock

    def _head(self, request: Request) -> bytes:
        origin, target, headers = request.origin, request.target, request.headers
        proxy = self._proxy_for(origin) if origin.scheme == "http" else None
        if proxy:
            target = f"http://{origin.authority}{target}"
            headers = [*headers, *_proxy_headers(proxy)]
        lines = [f"{request.method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _exchange(
    connection: socket.socket, head: bytes, segments: Sequence[Segment]
) -> tuple[Answer, bool]:
    try:
        transmit.send(connection, head, segments)
    except ConnectionError:
        # A store that refuses early answers, then closes: the answer says more than the reset.
        connection.settimeout(transmit.LATE_ANSWER_TIMEOUT_S)
        with suppress(OSError, http.client.HTTPException):
            answer, _ = transmit.read_answer(connection)
            if not 200 <= answer.status < 300:  # not of a body that did not get there
                return answer, False
        raise
    return transmit.read_answer(connection)


def _proxy_headers(proxy: str) -> list[tuple[str, str]]:
    parts = urlsplit(proxy)
    if parts.username is None:
        return []
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return [("Proxy-Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")]
