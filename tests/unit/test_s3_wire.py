"""Connections: what goes over them, when they are used again, and how they end."""

import errno
import os
import socket
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tusd_storage.records import FileRange, Segment
from tusd_storage.s3 import transmit
from tusd_storage.s3.wire import MAX_IDLE_S, Abort, Aborted, Origin, Request, StaleConnection, Wire

OK = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """A server that runs one script a connection, each in a thread of its own."""

    def __init__(self, *scripts: Callable[[socket.socket], None]) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.origin = Origin("http", "127.0.0.1", self.port)
        self.heads: list[str] = []
        self._thread = threading.Thread(target=self._run, args=(scripts,))
        self._thread.start()

    def _run(self, scripts: tuple[Callable[[socket.socket], None], ...]) -> None:
        for script in scripts:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):
                script(connection)

    def close(self) -> None:
        # Wakes a thread that still waits for a connection.
        with socket.socket() as last:
            last.connect_ex(("127.0.0.1", self.port))
        self.listening.close()
        self._thread.join()

    def receive(self, connection: socket.socket) -> bytes:
        """One request; returns its body."""
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return b""
            received += piece
        head, _, start = received.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = bytearray(start)
        while len(body) < size:
            body += connection.recv(65536)
        return bytes(body)


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Ends what a test started."""
    with ExitStack() as stack:
        yield stack


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def wire_of(closing: ExitStack, *, proxy: str | None = None, clock: Clock | None = None) -> Wire:
    wire = Wire(
        connect_timeout_s=5,
        read_timeout_s=5,
        tls=ssl.create_default_context(),
        proxy_for=lambda _: proxy,
        clock=clock or Clock(),
    )
    closing.callback(wire.close)
    return wire


def peer_of(
    closing: ExitStack, *scripts: Callable[[Peer], Callable[[socket.socket], None]]
) -> Peer:
    peer: Peer
    made = [lambda connection, script=script: script(peer)(connection) for script in scripts]
    peer = Peer(*made)
    closing.callback(peer.close)
    return peer


def request_to(origin: Origin, size: int) -> Request:
    headers = [("Host", origin.authority), ("Content-Length", str(size))]
    return Request(origin, "PUT", "/b/k?x=1", headers)


def answering(*answers: bytes) -> Callable[[Peer], Callable[[socket.socket], None]]:
    """Answers that many requests, then waits for the other side to close."""

    def of(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            for answer in answers:
                peer.receive(connection)
                connection.sendall(answer)
            connection.recv(1)

        return script

    return of


def test_one_connection_serves_many_requests(closing: ExitStack) -> None:
    peer = peer_of(closing, answering(OK, OK, OK))
    wire = wire_of(closing)
    for _ in range(3):
        answer = wire.send(request_to(peer.origin, 3), (b"abc",), Abort())
        assert (answer.status, answer.headers["etag"], answer.body) == (200, "x", b"")
    assert peer.heads[0].startswith("PUT /b/k?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    wire.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", b"no"),
    ],
)
def test_answers_are_read_to_their_end(closing: ExitStack, answer: bytes, body: bytes) -> None:
    peer = peer_of(closing, answering(answer, OK))
    wire = wire_of(closing)
    assert wire.send(request_to(peer.origin, 0), (), Abort()).body == body
    assert wire.send(request_to(peer.origin, 0), (), Abort()).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 200_000,
    ],
)
def test_some_connections_are_not_used_again(closing: ExitStack, answer: bytes) -> None:
    peer = peer_of(closing, answering(answer), answering(OK))
    wire = wire_of(closing)
    wire.send(request_to(peer.origin, 0), (), Abort())
    assert wire.send(request_to(peer.origin, 0), (), Abort()).headers["etag"] == "x"
    wire.close()


def test_connections_idle_for_long_are_not_used_again(closing: ExitStack) -> None:
    peer, clock = peer_of(closing, answering(OK), answering(OK)), Clock()
    wire = wire_of(closing, clock=clock)
    wire.send(request_to(peer.origin, 0), (), Abort())
    clock.now += MAX_IDLE_S
    wire.send(request_to(peer.origin, 0), (), Abort())
    wire.close()


def test_connections_that_a_busy_moment_left_are_closed(closing: ExitStack) -> None:
    """Later requests use the newest one again and again; the others are not forgotten."""
    clock, both, ended = Clock(), threading.Barrier(2), threading.Event()

    class Peers(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            both.wait(5)
            self.request.sendall(OK)
            while self.request.recv(65536):
                self.request.sendall(OK)
            ended.set()

    server = closing.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Peers))
    serving = threading.Thread(target=server.serve_forever)
    closing.callback(serving.join)
    closing.callback(server.shutdown)
    serving.start()
    origin = Origin("http", "127.0.0.1", server.server_address[1])
    wire = wire_of(closing, clock=clock)
    with ThreadPoolExecutor(2) as busy:
        for _ in range(2):
            busy.submit(wire.send, request_to(origin, 0), (), Abort())
    for _ in range(3):
        clock.now += MAX_IDLE_S / 2
        wire.send(request_to(origin, 0), (), Abort())
    assert ended.wait(5)


def test_a_connection_that_was_closed_meanwhile_is_not_used(closing: ExitStack) -> None:
    closed = threading.Event()

    def once(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            peer.receive(connection)
            connection.sendall(OK)
            connection.shutdown(socket.SHUT_RDWR)
            closed.set()

        return script

    peer = peer_of(closing, once, answering(OK))
    wire = wire_of(closing)
    wire.send(request_to(peer.origin, 0), (), Abort())
    assert closed.wait(5)
    wire.send(request_to(peer.origin, 0), (), Abort())
    wire.close()


def test_a_pooled_connection_that_ends_without_an_answer_is_stale(closing: ExitStack) -> None:
    def rude(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            peer.receive(connection)
            connection.sendall(OK)
            peer.receive(connection)

        return script

    peer = peer_of(closing, rude, rude)
    wire = wire_of(closing)
    wire.send(request_to(peer.origin, 0), (), Abort())
    with pytest.raises(StaleConnection):
        wire.send(request_to(peer.origin, 0), (), Abort())
    wire.send(request_to(peer.origin, 0), (), Abort(), fresh=True)
    wire.close()


def test_bodies_arrive_whole_and_in_order(closing: ExitStack) -> None:
    bodies: list[bytes] = []

    def keep(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            bodies.append(peer.receive(connection))
            connection.sendall(OK)
            connection.recv(1)

        return script

    peer = peer_of(closing, keep)
    wire = wire_of(closing)
    with tempfile.TemporaryFile() as file:
        stored = os.urandom(3_000_000)
        file.write(stored)
        file.flush()
        pieces = [os.urandom(n * 700) for n in range(200)]
        segments: tuple[Segment, ...] = (
            *pieces,
            FileRange(fd=file.fileno(), offset=11, size=2_000_000),
            b"",
            b"z" * 3_000_000,
            FileRange(fd=file.fileno(), offset=0, size=1),
        )
        expected = b"".join(pieces) + stored[11:2_000_011] + b"z" * 3_000_000 + stored[:1]
        wire.send(request_to(peer.origin, len(expected)), segments, Abort())
    assert bodies == [expected]
    wire.close()


def test_a_file_that_ends_early_ends_the_request(closing: ExitStack) -> None:
    def read(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            while connection.recv(65536):
                pass

        return script

    peer = peer_of(closing, read)
    with tempfile.TemporaryFile() as file, pytest.raises(transmit.BodyTooShort):
        segment = FileRange(fd=file.fileno(), offset=0, size=10)
        wire_of(closing).send(request_to(peer.origin, 10), (segment,), Abort())


def test_an_early_answer_explains_a_broken_send(closing: ExitStack) -> None:
    def early(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):
                pass

        return script

    peer = peer_of(closing, early)
    size = 20_000_000
    answer = wire_of(closing).send(request_to(peer.origin, size), (bytes(size),), Abort())
    assert answer.status == 503


@pytest.mark.parametrize("in_file", [False, True])
def test_a_peer_that_does_not_read_times_out(closing: ExitStack, in_file: bool) -> None:
    ended = threading.Event()
    closing.callback(ended.set)

    def wait(_peer: Peer) -> Callable[[socket.socket], None]:
        def script(_connection: socket.socket) -> None:
            ended.wait(10)

        return script

    peer = peer_of(closing, wait)
    closing.callback(ended.set)
    wire = Wire(
        connect_timeout_s=5,
        read_timeout_s=0.2,
        tls=ssl.create_default_context(),
        proxy_for=lambda _: None,
    )
    size = 50_000_000
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        segment = FileRange(fd=file.fileno(), offset=0, size=size) if in_file else bytes(size)
        with pytest.raises(TimeoutError):
            wire.send(request_to(peer.origin, size), (segment,), Abort())


def test_an_aborted_request_ends_at_once(closing: ExitStack) -> None:
    abort, arrived = Abort(), threading.Event()

    def silent(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            peer.receive(connection)
            arrived.set()
            connection.recv(1)

        return script

    peer = peer_of(closing, silent)
    wire = wire_of(closing)

    def break_off() -> None:
        arrived.wait(5)
        abort()

    aborting = threading.Thread(target=break_off)
    aborting.start()
    with pytest.raises(Aborted):
        wire.send(request_to(peer.origin, 3), (b"abc",), abort)
    aborting.join()


def test_what_was_aborted_before_is_not_sent(closing: ExitStack) -> None:
    peer = peer_of(closing, lambda _: lambda connection: None)
    abort = Abort()
    abort()
    with pytest.raises(Aborted):
        wire_of(closing).send(request_to(peer.origin, 3), (b"abc",), abort)


def test_plain_requests_go_to_the_proxy_whole(closing: ExitStack) -> None:
    peer = peer_of(closing, answering(OK))
    wire = wire_of(closing, proxy=f"http://us%40er:p%3Aw@127.0.0.1:{peer.port}")
    wire.send(request_to(Origin("http", "s3.example", 9000), 0), (), Abort())
    assert peer.heads[0].startswith("PUT http://s3.example:9000/b/k?x=1 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNAZXI6cDp3" in peer.heads[0]
    wire.close()


def test_encrypted_requests_go_through_a_tunnel(closing: ExitStack) -> None:
    asked: list[bytes] = []

    def proxy(_peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

        return script

    peer = peer_of(closing, proxy)
    wire = wire_of(closing, proxy=f"http://user:pw@127.0.0.1:{peer.port}")
    with pytest.raises(OSError, match="407"):
        wire.send(request_to(Origin("https", "s3.example", 443), 0), (), Abort())
    assert asked[0].startswith(b"CONNECT s3.example:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic" in asked[0]


def test_a_refused_connection_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with ExitStack() as closing, pytest.raises(OSError) as caught:
        wire_of(closing).send(request_to(Origin("http", "127.0.0.1", port), 0), (), Abort())
    assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://h/x", "h"),
        ("https://h:443", "h"),
        ("http://h:443", "h:443"),
        ("http://[::1]:9000/", "[::1]:9000"),
    ],
)
def test_authorities(url: str, authority: str) -> None:
    assert Origin.of(url).authority == authority
