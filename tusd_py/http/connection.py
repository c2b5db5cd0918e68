"""The HTTP/1.1 connection under uvicorn: what its parser leaves to the one who uses it.

Owns five things below ASGI. A head, trailer or chunk extension without end is refused instead of
collected; so is a queue of requests without end. Where a client waits for 100 and gets an answer,
the connection ends: nobody knows whether its body still comes. Trailers are kept apart from the
headers: they may arrive before the application has looked at these, and would be taken for them
(RFC 9110, section 6.5.1). A body of known length goes past the parser, straight into the memory its
reader names. And `connections`, which says what a client may take of the process, hears what
happens.
"""

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tusd_py.http.body import INFLOW, TRAILERS
from tusd_py.http.connections import Connections, raw_problem

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_SIZE = 256 * 1024
"""Bytes of one head: room for a final upload that names 1000 partial ones by absolute URLs."""
MAX_FIELDS = 1000
"""Header fields of one request; trailers as many again."""
MAX_PIPELINED = 16
"""Requests that may wait behind the one being served."""

_READ_SIZE = 256 * 1024
"""Bytes read at once where nobody names a place for them."""

_HEAD_TOO_LARGE = raw_problem(
    "431 Request Header Fields Too Large",
    "headers_too_large",
    f"the headers have more than {MAX_HEAD_SIZE} bytes",
)
_TOO_MANY_FIELDS = raw_problem(
    "431 Request Header Fields Too Large",
    "headers_too_large",
    f"there are more than {MAX_FIELDS} header fields",
)
_HEAD_TOO_SLOW = raw_problem("408 Request Timeout", "head_timeout", "the headers came too slowly")
_INVALID = raw_problem("400 Bad Request", "invalid_request", "this is no HTTP/1.1 request")

_scratch = memoryview(bytearray(_READ_SIZE))
"""One for all connections of a process: nothing stays in it between two callbacks of the loop."""


class Inflow:
    """A body of known length on its way in. Implements what `http.body.AsgiBody` looks for."""

    def __init__(self, cycle: RequestResponseCycle, length: int) -> None:
        self.left = length
        """Bytes that have not come yet."""
        self._cycle = cycle
        self._room: memoryview | None = None
        self._filled = 0
        self._collected = 1
        """Bytes that must be there before the loop hears of them."""

    @property
    def at_hand(self) -> bool:
        """See `http.body.Inflow`."""
        return bool(self._cycle.body)

    async def read_into(self, room: memoryview) -> int:
        """See `BodyReader`."""
        cycle = self._cycle
        if cycle.body or not self.left or cycle.disconnected or cycle.waiting_for_100_continue:
            return 0
        cycle.message_event.clear()
        cycle.flow.resume_reading()
        self._room, self._filled = room, 0
        try:
            await cycle.message_event.wait()
        finally:
            self._room = None
        return self._filled

    def withdraw(self) -> None:
        """See `BodyReader`."""
        if self._room is not None:
            self._room = None
            self._cycle.message_event.set()

    def collect(self, size: int) -> None:
        """See `BodyReader`. Within TLS there is no telling how many bytes a body's are."""
        transport, size = self._cycle.transport, max(1, min(size, self.left))
        if size == self._collected or self._cycle.disconnected or transport.is_closing():
            return
        connection = transport.get_extra_info("socket")
        if connection is None or transport.get_extra_info("sslcontext") is not None:
            return
        self._collected = size
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def place(self) -> memoryview:
        """Where the next bytes go; never beyond the end of the body."""
        room = _scratch if self._room is None else self._room
        return room[: self.left]

    def arrived(self, count: int) -> None:
        """So many bytes are in `place()`."""
        self.left -= count
        if self._collected > 1 and self._collected > self.left:
            self.collect(self.left)
        cycle = self._cycle
        if self._room is not None:
            if count == len(self._room):  # the loop would read on at once, with nowhere to put it
                cycle.flow.pause_reading()
            self._room, self._filled = None, count
        elif not cycle.response_complete:
            cycle.body += _scratch[:count]
            if len(cycle.body) > HIGH_WATER_LIMIT:
                cycle.flow.pause_reading()
        cycle.message_event.set()


class TooManyFields(Exception):
    """Ends the parsing of what a client sent."""


class TooManyPipelined(Exception):
    """As above."""


class WrongHost(Exception):
    """A request without Host, or with two (RFC 9112, section 3.2)."""


class UpgradeWithBody(Exception):
    """The parser would drop the body, or take it for the next request."""


class Requests(HttpToolsProtocol):
    """The requests of one connection, as the parser finds them."""

    places: ClassVar[Connections | None] = None
    """Set before the process serves; None is no limits."""

    inflow: Inflow | None = None
    """The body whose bytes go past the parser."""
    _barren = 0
    """Bytes since the last that ended a head or belonged to a body."""
    _fruitful = False
    _sized: Inflow | None = None
    """The body that the parser is in, if its length is known."""
    _head_begun = False
    _deaf = False
    """After a request to upgrade: the parser has dropped an unknown part of what follows it."""
    _served: RequestResponseCycle | None = None
    _refusal = _INVALID
    """What a client gets whose request cannot be parsed."""
    deadline = 0.0
    unsent = 0
    unsent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        if self.places is None or self.places.admit(self, transport):
            super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, from whichever side."""
        if self.transport is None:  # it was refused
            return
        if self.places is not None:
            self.places.closed(self)
        served = self._served
        if served is not None and served is not self.cycle and not served.response_complete:
            # With requests queued behind it, uvicorn tells only the last of them.
            served.disconnected = True
            served.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn does so where nothing broke

    def give_up(self) -> None:
        """No head came in time."""
        if self._head_begun and not self.transport.is_closing():
            self.transport.write(_HEAD_TOO_SLOW)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes for the parser."""
        if self._deaf:
            return
        self._fruitful = False
        super().data_received(data)
        self._barren = 0 if self._fruitful else self._barren + len(data)
        if self._barren > MAX_HEAD_SIZE and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()
        self.inflow = self._sized

    def send_400_response(self, msg: str) -> None:
        """What came is no request. No answer where it would be taken for another request's."""
        served = self._served
        if (
            served is None
            or served.response_complete
            or (served is self.cycle and served.more_body and not served.response_started)
        ):
            self.transport.write(self._refusal)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Answered as if nothing had been asked; what follows cannot be told from another body."""
        self._deaf = True
        self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head_begun = True
        if self.places is not None:
            self.places.begins(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer; the parser leaves blanks at its end."""
        if len(self.headers) >= MAX_FIELDS:
            self._refusal = _TOO_MANY_FIELDS
            raise TooManyFields
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """The application's task is made here, and runs when all bytes at hand are parsed."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooManyPipelined
        if self.parser.should_upgrade() and _has_body(self.headers):
            raise UpgradeWithBody
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise WrongHost
        length = None if self.parser.should_upgrade() else _content_length(self.headers)
        self._fruitful = True
        self._head_begun = False
        if self.places is not None:
            self.places.serves(self)
        super().on_headers_complete()
        extensions: dict[str, Any] = {}
        if length:
            self._sized = extensions[INFLOW] = Inflow(self.cycle, length)
        self.headers = []  # where the parser puts what follows
        extensions[TRAILERS] = {"fields": self.headers}
        self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._fruitful = True
        if self._sized is not None:
            self._sized.left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request's end."""
        self._fruitful = True
        self._sized = None
        super().on_message_complete()

    def body_arrived(self, inflow: Inflow, count: int) -> None:
        """Bytes that went past the parser; after the last of them it begins afresh."""
        inflow.arrived(count)
        if not inflow.left:
            self.inflow = None
            self.parser = httptools.HttpRequestParser(self)
            with suppress(AttributeError):  # as uvicorn does, for older parsers
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.on_message_complete()

    def on_response_complete(self) -> None:
        """The answer's end. Of a body that nobody read, the rest must come in time, too."""
        queued = bool(self.pipeline)
        super().on_response_complete()
        if self.places is not None and not queued and not self.transport.is_closing():
            self.places.waits(self, self.places.limits.keep_alive_timeout_s)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        self._served = cycle
        super()._start_asgi_task(
            cycle, _unasked(cycle, app) if cycle.waiting_for_100_continue else app
        )


class Connection(asyncio.BufferedProtocol):
    """One client's connection; uvicorn makes one for each."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._requests = Requests(config, server_state, app_state, _loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._requests.connection_made(transport)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._requests.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._requests.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._requests.resume_writing()

    def eof_received(self) -> None:
        """See `asyncio.BufferedProtocol`."""
        self._requests.eof_received()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: to the reader of a body, or to the parser."""
        inflow = self._requests.inflow
        return _scratch if inflow is None else inflow.place()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes went there."""
        inflow = self._requests.inflow
        if inflow is None:
            self._requests.data_received(bytes(_scratch[:nbytes]))
        else:
            self._requests.body_arrived(inflow, nbytes)


def _unasked(cycle: RequestResponseCycle, app: "ASGI3Application") -> "ASGI3Application":
    """The application, whose answer closes the connection of a client that still waits for 100."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async def closing(message: Any) -> None:
            if cycle.waiting_for_100_continue and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, closing)

    return serve


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """The length the parser has accepted; None with a transfer coding, whose end it must find."""
    length = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            return None
    return length


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value))
        for name, value in headers
    )
