"""Small bodies over open connections, on the event loop: as in threads, without them."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.unit.test_s3_wire import (
    OK,
    Peer,
    answering,
    closing,  # noqa: F401
    peer_of,
    request_to,
    wire_of,
)
from tusd_storage.s3.wire import Abort, StaleConnection, Wire

BODY = [os.urandom(100_000), memoryview(os.urandom(50_000))]
SIZE = 150_000
Script = Callable[[Peer], Callable[[socket.socket], None]]


async def opened(wire: Wire, peer: Peer) -> None:
    """Leaves a connection in the pool."""
    answer = await asyncio.to_thread(wire.send, request_to(peer.origin, 0), (), Abort())
    assert answer.status == 200


def after_first(second: Callable[[Peer, socket.socket], None]) -> Script:
    """Answers one request, then does as it is told."""

    def of(peer: Peer) -> Callable[[socket.socket], None]:
        def script(connection: socket.socket) -> None:
            peer.receive(connection)
            connection.sendall(OK)
            second(peer, connection)

        return script

    return of


async def test_nothing_is_sent_without_an_open_connection(closing: ExitStack) -> None:  # noqa: F811
    peer = peer_of(closing)
    assert await wire_of(closing).send_at_once(request_to(peer.origin, 3), [b"abc"]) is None


async def test_bodies_arrive_whole_and_the_connection_goes_on(closing: ExitStack) -> None:  # noqa: F811
    bodies: list[bytes] = []

    def keep(peer: Peer, connection: socket.socket) -> None:
        for _ in range(3):
            bodies.append(peer.receive(connection))
            connection.sendall(OK)
        connection.recv(1)

    peer = peer_of(closing, after_first(keep))
    wire = wire_of(closing)
    await opened(wire, peer)
    for _ in range(2):
        answer = await wire.send_at_once(request_to(peer.origin, SIZE), [b"", *BODY])
        assert answer is not None and answer.status == 200
    blocking = await asyncio.to_thread(
        wire.send, request_to(peer.origin, SIZE), tuple(BODY), Abort()
    )
    assert blocking.status == 200
    assert bodies == [b"".join(BODY)] * 3
    wire.close()


async def test_a_store_that_reads_slowly_gets_all_of_it(closing: ExitStack) -> None:  # noqa: F811
    bodies: list[bytes] = []
    reading = threading.Event()

    def slow(peer: Peer, connection: socket.socket) -> None:
        reading.wait(10)
        bodies.append(peer.receive(connection))
        connection.sendall(OK[:20])
        connection.sendall(OK[20:])
        connection.recv(1)

    peer = peer_of(closing, after_first(slow))
    wire = wire_of(closing)
    await opened(wire, peer)
    big = [bytes(8_000_000), b"end"]  # more than the kernel takes at once
    sending = asyncio.create_task(wire.send_at_once(request_to(peer.origin, 8_000_003), big))
    await asyncio.sleep(0.05)
    assert not sending.done()
    reading.set()
    answer = await sending
    assert answer is not None and answer.status == 200
    assert bodies == [b"".join(big)]
    wire.close()


async def test_a_connection_that_ends_without_an_answer_is_stale(closing: ExitStack) -> None:  # noqa: F811
    peer = peer_of(closing, after_first(lambda peer, connection: peer.receive(connection) and None))
    wire = wire_of(closing)
    await opened(wire, peer)
    with pytest.raises(StaleConnection):
        await wire.send_at_once(request_to(peer.origin, SIZE), BODY)
    assert await wire.send_at_once(request_to(peer.origin, SIZE), BODY) is None


async def test_silence_ends_it(closing: ExitStack) -> None:  # noqa: F811
    ended = threading.Event()
    closing.callback(ended.set)
    peer = peer_of(closing, after_first(lambda *_: ended.wait(10) and None))
    wire = Wire(
        connect_timeout_s=5,
        read_timeout_s=0.2,
        tls=ssl.create_default_context(),
        proxy_for=lambda _: None,
    )
    closing.callback(wire.close)
    closing.callback(ended.set)
    await opened(wire, peer)
    with pytest.raises(TimeoutError):
        await wire.send_at_once(request_to(peer.origin, SIZE), BODY)
    assert await wire.send_at_once(request_to(peer.origin, SIZE), BODY) is None


async def test_an_early_refusal_explains_a_broken_send(closing: ExitStack) -> None:  # noqa: F811
    def early(_: Peer, connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    peer = peer_of(closing, after_first(early))
    wire = wire_of(closing)
    await opened(wire, peer)
    size = 20_000_000
    answer = await wire.send_at_once(request_to(peer.origin, size), [bytes(size)])
    assert answer is not None and answer.status == 503


async def test_cancelled_it_breaks_the_connection(closing: ExitStack) -> None:  # noqa: F811
    arrived, gone = threading.Event(), threading.Event()

    def silent(peer: Peer, connection: socket.socket) -> None:
        peer.receive(connection)
        arrived.set()
        assert connection.recv(1) == b""
        gone.set()

    peer = peer_of(closing, after_first(silent))
    wire = wire_of(closing)
    await opened(wire, peer)
    sending = asyncio.create_task(wire.send_at_once(request_to(peer.origin, SIZE), BODY))
    assert await asyncio.to_thread(arrived.wait, 10)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await asyncio.to_thread(gone.wait, 10)
    assert await wire.send_at_once(request_to(peer.origin, SIZE), BODY) is None


async def test_an_answer_that_is_none_is_told(closing: ExitStack) -> None:  # noqa: F811
    peer = peer_of(closing, answering(OK, b"SSH-2.0-OpenSSH_9.2\r\n"))
    wire = wire_of(closing)
    await opened(wire, peer)
    with pytest.raises(Exception, match="no HTTP"):
        await wire.send_at_once(request_to(peer.origin, 3), [b"abc"])
    wire.close()
