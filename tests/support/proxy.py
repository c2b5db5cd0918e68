"""A TCP proxy that misbehaves on purpose: cuts at an exact byte, stalls, slows, loses answers.

Owns one listening port and a thread with an event loop of its own. Knows no HTTP: it counts bytes
on their way up (client to server) and down. Faults are armed from the test, in bytes from now on,
and happen in the order of their positions, to whichever connection carries the byte.

    with Proxy(server.url) as proxy:
        proxy.cut_after(1_000_003)
        ...                       # a client speaks to proxy.url
        proxy.wait_for_faults(1)
"""

import asyncio
import bisect
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
CHUNK_SIZE = 64 * 1024
SOCKET_BUFFER_SIZE = 128 * 1024
"""Small, so that a client is not far ahead of what was passed on."""
BACKLOG = 100
FLUSH_S = 5.0
"""A side that does not take what was passed on (a paused process) is given up."""


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Fault(StrEnum):
    """What happens behind a byte."""

    CUT = "cut"
    """Both sides see an orderly end of the connection; what was sent before arrives."""
    RESET = "reset"
    """The client sees a reset; the server an orderly end."""
    STALL = "stall"
    """Nothing moves on any connection until `release`."""
    MARK = "mark"
    """Nothing but that `wait_for_faults` returns."""


@dataclass(slots=True)
class _Direction:
    """Bytes passed on so far, and where faults wait, in order."""

    moved: int = 0
    faults: list[tuple[int, Fault]] = field(default_factory=list)

    def arm(self, after: int, fault: Fault) -> None:
        bisect.insort(self.faults, (self.moved + after, fault), key=lambda each: each[0])

    def room(self) -> int:
        """Bytes until the next fault."""
        return self.faults[0][0] - self.moved if self.faults else CHUNK_SIZE

    def due(self) -> Fault | None:
        """The fault that is reached, taken out."""
        if self.faults and self.faults[0][0] <= self.moved:
            return self.faults.pop(0)[1]
        return None


class _Cut(Exception):
    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Proxy:
    """Start it as a context manager; every method may be called from any thread."""

    def __init__(self, backend_url: str) -> None:
        self._backend = _address(backend_url)
        self._up = _Direction()
        self._down = _Direction()
        self._changed = threading.Condition()
        self._happened = 0
        self._connections = 0
        self._rate: float | None = None
        self._is_down = False
        self._links: dict[asyncio.Task[None], asyncio.Event] = {}
        self._loop = asyncio.new_event_loop()
        self._moving = asyncio.Event()
        self._moving.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.socket()
        self.port = 0

    @property
    def url(self) -> str:
        """Root of the proxied server, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def bytes_up(self) -> int:
        """Bytes passed on to the server so far, over all connections."""
        return self._up.moved

    @property
    def connections(self) -> int:
        """Connections taken so far."""
        return self._connections

    @property
    def happened(self) -> int:
        """Faults so far."""
        return self._happened

    def route(self, backend_url: str) -> None:
        """New connections go there."""
        self._backend = _address(backend_url)

    def cut_after(self, size: int, *, reset: bool = False) -> None:
        """Passes exactly `size` more bytes up, then ends the connection that carried the last."""
        self._arm(self._up, size, Fault.RESET if reset else Fault.CUT)

    def cut_answer_after(self, size: int) -> None:
        """As `cut_after`, for bytes on their way down; 0 loses the next answer whole."""
        self._arm(self._down, size, Fault.RESET)

    def stall_after(self, size: int) -> None:
        """Passes exactly `size` more bytes up, then moves nothing until `release`."""
        self._arm(self._up, size, Fault.STALL)

    def mark_after(self, size: int) -> None:
        """Changes nothing; `wait_for_faults` counts it when `size` more bytes went up."""
        self._arm(self._up, size, Fault.MARK)

    def release(self) -> None:
        """Ends a stall."""
        self._loop.call_soon_threadsafe(self._moving.set)

    def throttle(self, bytes_per_s: float | None) -> None:
        """Speed on the way up of each connection; None for no limit."""
        self._rate = bytes_per_s

    def cut_now(self) -> None:
        """Ends every connection; a stall ends with them."""
        self._in_loop(self._end_links())

    def down(self) -> None:
        """The network is gone: connections end, new ones are taken and ended at once."""
        self._is_down = True
        self.cut_now()

    def up(self) -> None:
        """The network is back."""
        self._is_down = False

    def wait_for_faults(self, count: int, timeout_s: float = 30) -> None:
        """Returns when so many faults have happened since the start. Raises AssertionError."""
        self._wait(lambda: self._happened >= count, timeout_s, f"{count} faults")

    def wait_for_bytes_up(self, size: int, timeout_s: float = 30) -> None:
        """Returns when so many bytes went up since the start. Raises AssertionError."""
        self._wait(lambda: self._up.moved >= size, timeout_s, f"{size} bytes up")

    def __enter__(self) -> Self:
        self._thread.start()
        self._in_loop(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        with self._changed:
            came = self._changed.wait_for(condition, timeout_s)
        assert came, f"not {what} within {timeout_s} s: {self._happened} and {self._up.moved}"

    def _arm(self, direction: _Direction, after: int, fault: Fault) -> None:
        async def arm() -> None:
            direction.arm(after, fault)

        self._in_loop(arm())

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        listener = self._listener
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_SIZE)
        listener.bind((HOST, 0))
        listener.listen(BACKLOG)
        self.port = listener.getsockname()[1]
        self._loop.add_reader(listener, self._accept)

    async def _close(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await self._end_links()

    def _accept(self) -> None:
        try:
            raw, _ = self._listener.accept()
        except OSError:
            return  # it has gone again
        self._connections += 1
        severed = asyncio.Event()
        task = self._loop.create_task(self._serve(raw, severed))
        self._links[task] = severed
        task.add_done_callback(self._links.pop)

    async def _end_links(self) -> None:
        links = dict(self._links)
        for severed in links.values():
            severed.set()
        if links:
            await asyncio.wait(links)
        self._moving.set()

    async def _serve(self, raw: socket.socket, severed: asyncio.Event) -> None:
        reader, writer = await _streams(raw)
        try:
            if not self._is_down:
                await self._link(reader, writer, severed)
        finally:
            await _end(writer, reset=True)

    async def _link(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, severed: asyncio.Event
    ) -> None:
        try:
            server_reader, server_writer = await _connect(self._backend)
        except OSError:
            return
        tasks = [
            asyncio.create_task(self._pump(reader, server_writer, self._up)),
            asyncio.create_task(self._pump(server_reader, writer, self._down)),
            asyncio.create_task(_cut_when(severed)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            # The server gets all that was passed on, and then an end.
            await asyncio.gather(
                _end(server_writer, reset=False),
                _end(writer, reset=any(isinstance(end, _Cut) and end.reset for end in ends)),
            )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: _Direction
    ) -> None:
        """Raises: _Cut, also for a side that is gone without a word."""
        try:
            while data := await reader.read(CHUNK_SIZE):
                await self._pass_on(data, writer, direction)
            if direction is self._up:
                writer.write_eof()  # the server may still answer
        except OSError as error:
            raise _Cut(reset=True) from error
        if direction is self._down:
            raise _Cut(reset=False)

    async def _pass_on(
        self, data: bytes, writer: asyncio.StreamWriter, direction: _Direction
    ) -> None:
        while data:
            await self._moving.wait()
            self._happen(direction)
            piece = data[: direction.room()]
            data = data[len(piece) :]
            direction.moved += len(piece)  # before the wait: two connections may share the room
            writer.write(piece)
            await writer.drain()
            if self._rate and direction is self._up:
                await asyncio.sleep(len(piece) / self._rate)
            self._happen(direction)
            with self._changed:
                self._changed.notify_all()

    def _happen(self, direction: _Direction) -> None:
        """Raises: _Cut."""
        while (fault := direction.due()) is not None:
            with self._changed:
                self._happened += 1
                self._changed.notify_all()
            if fault is Fault.STALL:
                self._moving.clear()
            elif fault is not Fault.MARK:
                raise _Cut(reset=fault is Fault.RESET)


async def _cut_when(severed: asyncio.Event) -> None:
    """Raises: _Cut."""
    await severed.wait()
    raise _Cut(reset=True)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname and parts.port, url
    return parts.hostname, parts.port


async def _connect(address: tuple[str, int]) -> _Streams:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_SIZE)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, address)
    except OSError:
        raw.close()
        raise
    return await _streams(raw)


async def _streams(raw: socket.socket) -> _Streams:
    raw.setblocking(False)
    return await asyncio.open_connection(sock=raw, limit=CHUNK_SIZE)


async def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Closes, after what was written has gone out, or with a reset and without waiting."""
    if writer.is_closing():
        return
    if reset:
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    else:
        writer.close()
    try:
        async with asyncio.timeout(FLUSH_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
