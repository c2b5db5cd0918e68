"""The exchange of `transmit` on the event loop: for small bodies, which need no thread.

Handing such a body to a thread and its answer back costs more than sending it. Owns an open
connection until the answer is there; knows no pool, no retry and no S3.
"""

import asyncio
import http.client
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tusd_storage.s3.transmit import (
    BUFFERS_AT_ONCE,
    LATE_ANSWER_TIMEOUT_S,
    READ_SIZE,
    Answer,
    Reading,
)


async def exchange(
    connection: socket.socket,
    head: bytes,
    buffers: Sequence[bytes | memoryview],
    *,
    timeout_s: float,
) -> tuple[Answer, bool]:
    """Sends `head` and `buffers`; the answer, and whether the connection takes another request.

    The connection does not block afterwards. When this is cancelled nothing reads the buffers any
    more, and the connection is good for nothing but being closed.
    Raises: OSError (TimeoutError after a silence of `timeout_s`), http.client.HTTPException.
    """
    if connection.gettimeout() != 0:
        connection.setblocking(False)
    channel = _Channel(connection, timeout_s)
    try:
        await channel.send([head, *buffers])
    except ConnectionError:
        # A store that refuses early answers, then closes: the answer says more than the reset.
        channel.timeout_s = LATE_ANSWER_TIMEOUT_S
        with suppress(OSError, http.client.HTTPException):
            answer, _ = await channel.read_answer()
            if not 200 <= answer.status < 300:  # not of a body that did not get there
                return answer, False
        raise
    return await channel.read_answer()


class _Channel:
    """One connection, and waiting for it."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.timeout_s = timeout_s

    async def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        views = [memoryview(buffer) for buffer in buffers if buffer]
        while views:
            try:
                sent = self._send(views)
            except (BlockingIOError, ssl.SSLWantWriteError):
                await self._until(self._loop.add_writer, self._loop.remove_writer)
                continue
            except ssl.SSLWantReadError:
                await self._until(self._loop.add_reader, self._loop.remove_reader)
                continue
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def _send(self, views: list[memoryview]) -> int:
        if isinstance(self._connection, ssl.SSLSocket):
            return self._connection.send(views[0])
        return self._connection.sendmsg(views[:BUFFERS_AT_ONCE])

    async def read_answer(self) -> tuple[Answer, bool]:
        reading = Reading()
        while not reading.complete:
            try:
                data = self._connection.recv(READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError):
                await self._until(self._loop.add_reader, self._loop.remove_reader)
                continue
            except ssl.SSLWantWriteError:
                await self._until(self._loop.add_writer, self._loop.remove_writer)
                continue
            reading.take(data)
        return reading.answer()

    async def _until(self, add: Callable[..., Any], remove: Callable[[int], bool]) -> None:
        """Waits for the connection. Raises TimeoutError."""
        ready = self._loop.create_future()
        number = self._connection.fileno()
        add(number, _wake, ready)
        timer = self._loop.call_later(self.timeout_s, _give_up, ready)
        try:
            await ready
        finally:
            timer.cancel()
            remove(number)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _give_up(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_exception(TimeoutError("the store is silent"))
