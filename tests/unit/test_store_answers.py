"""What a store answers out of turn: one answer is believed, and only for a body that got there."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable

import pytest

from tests.unit.test_s3_wire import request_to
from tusd_storage.s3.transmit import read_answer
from tusd_storage.s3.wire import Abort, Origin, Wire

OK = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'


def test_a_second_answer_leaves_the_first_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(OK + b"HTTP/1.1 408 Time\r\nContent-Length: 0\r\n\r\n")
        answer, reusable = read_answer(ours)
    assert (answer.status, answer.headers["etag"]) == (200, '"x"') and not reusable


def test_a_success_after_a_broken_send_is_none() -> None:
    """The store cannot have what it has not read."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.sendall(OK)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    none: Callable[[Origin], None] = lambda _: None  # noqa: E731
    wire = Wire(
        connect_timeout_s=5, read_timeout_s=5, tls=ssl.create_default_context(), proxy_for=none
    )
    size = 64 * 1024 * 1024
    origin = Origin("http", "127.0.0.1", listener.getsockname()[1])
    with pytest.raises(OSError):
        wire.send(request_to(origin, size), (bytes(size),), Abort())
    thread.join()
    wire.close()
    listener.close()
