"""The HTTP connection: bodies of known length reach their reader whole, whatever the cuts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from tusd_py.http.body import AsgiBody
from tusd_py.http.connection import MAX_FIELDS, Connection
from tusd_py.uploads.body import ClientGone

App = Callable[[Any, Any, Any], Awaitable[None]]


class Wire(asyncio.Transport):
    """A client's end: `send` brings bytes as an event loop would."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self.written = bytearray()
        self.paused = False
        self.closed = False
        self._connection = Connection(
            Config(app, interface="asgi3", lifespan="off", log_config=None), ServerState(), {}
        )
        self._connection.connection_made(self)

    async def send(self, data: bytes, sizes: Iterator[int]) -> None:
        """All of `data`, read in pieces of at most the next size each; waits while paused."""
        view = memoryview(data)
        while view and not self.closed:
            room = self._connection.get_buffer(-1)
            count = min(len(view), len(room), max(1, next(sizes)))
            room[:count] = view[:count]
            view = view[count:]
            self._connection.buffer_updated(count)
            for _ in range(10_000):
                await asyncio.sleep(0)
                if not self.paused:
                    break

    def end(self) -> None:
        """The client is gone."""
        self.closed = True
        self._connection.connection_lost(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def answer(send: Any, body: bytes = b"") -> None:
    length = str(len(body)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def request(body: bytes, *, chunked: bool = False) -> bytes:
    if not chunked:
        return b"PATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    coded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return b"PATCH /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + coded


async def read_all(body: AsgiBody, rooms: Iterator[int]) -> bytes:
    """Reads like an appender: into memory of its own where that works, otherwise as it comes."""
    got = bytearray()
    while chunk := await body.read():
        got += chunk
        while size := await body.read_into(room := memoryview(bytearray(next(rooms)))):
            got += room[:size]
    return bytes(got)


def forever(values: list[int]) -> Iterator[int]:
    while True:
        yield from values


sizes = st.lists(
    st.one_of(st.integers(1, 200), st.integers(10_000, 300_000)), min_size=1, max_size=6
).map(lambda values: forever([*values, 10_000]))
few = settings(max_examples=60, deadline=None)


@few
@given(
    bodies=st.lists(st.tuples(st.integers(0, 200_000), st.booleans()), min_size=1, max_size=4),
    cuts=sizes,
    rooms=sizes,
)
def test_bodies_arrive_whole_and_one_after_the_other(
    bodies: list[tuple[int, bool]], cuts: Iterator[int], rooms: Iterator[int]
) -> None:
    data = [bytes([number + 1]) * size for number, (size, _) in enumerate(bodies)]
    got: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append(await read_all(AsgiBody(scope, receive), rooms))
        await answer(send)

    async def run() -> None:
        wire = Wire(app)
        stream = b"".join(
            request(body, chunked=chunked) for body, (_, chunked) in zip(data, bodies, strict=True)
        )
        await wire.send(stream, cuts)
        async with asyncio.timeout(10):
            while len(got) < len(data):
                await asyncio.sleep(0)
        assert wire.written.count(b"200 OK") == len(data)

    asyncio.run(run())
    assert got == data


@few
@given(size=st.integers(1, 200_000), missing=st.integers(1, 1000), cuts=sizes, rooms=sizes)
def test_what_came_before_the_connection_ended_is_read(
    size: int, missing: int, cuts: Iterator[int], rooms: Iterator[int]
) -> None:
    got = bytearray()
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = AsgiBody(scope, receive)
        try:
            while chunk := await body.read():
                got.extend(chunk)
                while count := await body.read_into(room := memoryview(bytearray(next(rooms)))):
                    got.extend(room[:count])
        except ClientGone:
            ended.set()

    async def run() -> None:
        wire = Wire(app)
        head = b"PATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (size + missing)
        await wire.send(head + b"x" * size, cuts)
        wire.end()
        async with asyncio.timeout(10):
            await ended.wait()

    asyncio.run(run())
    assert bytes(got) == b"x" * size


async def test_nothing_is_written_to_a_room_that_was_withdrawn() -> None:
    """The memory is somebody else's from then on; the bytes come the other way."""
    room = memoryview(bytearray(100))
    waiting = asyncio.Event()
    got: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = AsgiBody(scope, receive)
        got.append(await body.read())
        waiting.set()
        reading = asyncio.create_task(body.read_into(room))
        await asyncio.sleep(0)
        body.withdraw()
        assert await reading == 0
        got.append(await body.read())
        await answer(send)

    wire = Wire(app)
    await wire.send(
        b"PATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst", forever([1000])
    )
    await waiting.wait()
    await asyncio.sleep(0.01)
    await wire.send(b"later", forever([1000]))
    async with asyncio.timeout(5):
        while b"200 OK" not in wire.written:
            await asyncio.sleep(0)
    assert got == [b"first", b"later"] and bytes(room) == bytes(100)


async def test_a_cancelled_reader_leaves_its_room_alone() -> None:
    room = memoryview(bytearray(100))
    cancelled = asyncio.Event()
    go_on = asyncio.Event()
    got: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = AsgiBody(scope, receive)
        got.append(await body.read())
        reading = asyncio.create_task(body.read_into(room))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        cancelled.set()
        await go_on.wait()
        got.append(await body.read())
        await answer(send)

    wire = Wire(app)
    await wire.send(
        b"PATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst", forever([1000])
    )
    await cancelled.wait()
    await wire.send(b"later", forever([1000]))
    go_on.set()
    async with asyncio.timeout(5):
        while b"200 OK" not in wire.written:
            await asyncio.sleep(0)
    assert got == [b"first", b"later"] and bytes(room) == bytes(100)


async def test_a_body_nobody_reads_is_skipped_before_the_next_request() -> None:
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await answer(send)

    wire = Wire(app)
    unread = request(b"GET /evil HTTP/1.1\r\n\r\n" * 20_000)
    await wire.send(unread + request(b"").replace(b"/a", b"/next"), forever([100_000]))
    async with asyncio.timeout(5):
        while len(paths) < 2:
            await asyncio.sleep(0)
    assert paths == ["/a", "/next"]


async def test_a_reader_who_does_not_read_holds_up_the_client() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await AsgiBody(scope, receive).read()
        await asyncio.Event().wait()

    wire = Wire(app)
    sending = asyncio.create_task(wire.send(request(bytes(10_000_000)), forever([50_000])))
    async with asyncio.timeout(5):
        while not wire.paused:
            await asyncio.sleep(0)
    sending.cancel()
    wire.end()


async def test_what_follows_a_request_to_upgrade_is_no_request() -> None:
    """The parser drops an unknown part of it: the rest of a body could pass for a request."""
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await read_all(AsgiBody(scope, receive), forever([1000]))
        await answer(send)

    evil = b"DELETE /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    wire = Wire(app)
    first = b"GET /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    second = b"PATCH /b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (40 + len(evil))
    await wire.send(first + second + b"x" * 40, forever([100_000]))
    await wire.send(evil, forever([100_000]))
    await asyncio.sleep(0.01)
    assert "/evil" not in paths


async def test_a_request_to_upgrade_with_a_body_is_refused() -> None:
    served: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["path"])
        await answer(send)

    wire = Wire(app)
    head = b"PATCH /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    await wire.send(head + b"Content-Length: 8\r\n\r\n12345678", forever([100_000]))
    await asyncio.sleep(0.01)
    assert not served and wire.written.startswith(b"HTTP/1.1 400 ") and wire.closed


async def test_a_body_that_came_whole_is_whole_though_the_client_left() -> None:
    got: list[bytes] = []
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = AsgiBody(scope, receive)
        got.append(await body.read())
        room = memoryview(bytearray(100))
        got.append(bytes(room[: await body.read_into(room)]))
        busy.set()
        await go_on.wait()
        got.append(await body.read())

    wire = Wire(app)
    await wire.send(
        b"PATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst", forever([1000])
    )
    await asyncio.sleep(0.01)
    await wire.send(b"later", forever([1000]))
    await busy.wait()
    wire.end()
    go_on.set()
    await asyncio.sleep(0.01)
    assert got == [b"first", b"later", b""]


async def test_who_reads_can_tell_whether_it_would_wait() -> None:
    told: list[bool] = []
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = AsgiBody(scope, receive)
        told.append(body.at_hand)
        begun.set()
        while not body.at_hand:
            await asyncio.sleep(0)
        assert await body.read() == b"12"
        told.append(body.at_hand)
        while await body.read():
            pass
        told.append(body.at_hand)
        await answer(send)

    wire = Wire(app)
    head = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    await wire.send(head, forever([1000]))
    await begun.wait()
    await wire.send(b"12", forever([1000]))
    await asyncio.sleep(0.01)
    await wire.send(b"34", forever([1000]))
    await asyncio.sleep(0.01)
    assert told == [False, False, True]
    assert b"200 OK" in wire.written


@pytest.mark.parametrize("where", ["head", "trailers"])
async def test_fields_without_number_are_refused(where: str) -> None:
    served: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_all(AsgiBody(scope, receive), forever([1000]))
        served.append(scope["path"])
        await answer(send)

    fields = b"a:\r\n" * (MAX_FIELDS + 2)  # the parser tells of one when the next begins
    wire = Wire(app)
    if where == "head":
        await wire.send(b"GET /a HTTP/1.1\r\nHost: a\r\n" + fields, forever([100_000]))
    else:
        await wire.send(request(b"x", chunked=True)[:-2] + fields, forever([100_000]))
    await asyncio.sleep(0.01)
    assert not served and wire.closed
    assert wire.written.startswith(b"HTTP/1.1 431 ")


async def test_blanks_behind_a_value_are_no_part_of_it() -> None:
    headers: list[tuple[bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers.extend(scope["headers"])
        await answer(send)

    wire = Wire(app)
    await wire.send(b"GET /a HTTP/1.1\r\nHost: a\r\nX:  a b \t \r\n\r\n", forever([1000]))
    await asyncio.sleep(0.01)
    assert headers == [(b"host", b"a"), (b"x", b"a b")]


@pytest.mark.parametrize("reads", [False, True])
async def test_a_client_that_waits_for_100_may_never_send_its_body(reads: bool) -> None:
    """Answered without being asked for it, it sends its next request, or the body: who knows?"""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if reads:
            await read_all(AsgiBody(scope, receive), forever([1000]))
        await answer(send)

    wire = Wire(app)
    head = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    await wire.send(head, forever([1000]))
    await asyncio.sleep(0.01)
    if reads:
        assert wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(b"1234", forever([1000]))
        await asyncio.sleep(0.01)
    assert wire.written.count(b"200 OK") == 1
    assert (b"connection: close" in wire.written) is wire.closed is not reads


async def test_a_broken_successor_is_not_the_answer_to_the_request_at_work() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    wire = Wire(app)
    await wire.send(request(b"whole") + b"\x00\x01 no request\r\n\r\n", forever([1000]))
    await asyncio.sleep(0.01)
    assert wire.written == b"" and wire.closed


@pytest.mark.parametrize("digits", [b"0" * 5000 + b"4", b"9" * 5000])
async def test_a_length_of_thousands_of_digits_is_refused(digits: bytes) -> None:
    served: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["path"])
        await answer(send)

    wire = Wire(app)
    head = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n1234"
    await wire.send(head % digits, forever([10_000]))
    await asyncio.sleep(0.01)
    assert not served and wire.closed
    assert wire.written.startswith(b"HTTP/1.1 400 ")


async def test_a_connection_that_breaks_leaves_no_timer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    wire = Wire(app)
    await wire.send(request(b""), forever([1000]))
    await asyncio.sleep(0.01)
    requests = wire._connection._requests
    assert requests.timeout_keep_alive_task is not None
    wire._connection.connection_lost(ConnectionResetError())
    assert requests.timeout_keep_alive_task is None


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_system_collects_small_pieces_but_holds_back_no_end(
    runner: Callable[[Any], None],
) -> None:
    """On real sockets: 10 pieces of 1,000 bytes, of which the loop hears in two or three."""
    sizes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = AsgiBody(scope, receive)
        sizes.append(len(await body.read()))
        body.collect(4000)
        while piece := await body.read():
            sizes.append(len(piece))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def connection() -> Connection:
        config = Config(app, interface="asgi3", lifespan="off", log_config=None)
        return Connection(config, ServerState(), {})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(connection, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10500\r\n\r\n")
            for size in [1000] * 10 + [500]:
                writer.write(bytes(size))
                await asyncio.sleep(0.02)
            async with asyncio.timeout(10):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        writer.close()
        server.close()

    runner(main())
    for request in range(2):
        whole, rest = 0, 0
        for size in sizes:
            if request * 10_500 <= whole < (request + 1) * 10_500:
                rest += 1
            whole += size
        assert rest <= 6, sizes
    assert sum(sizes) == 21_000
