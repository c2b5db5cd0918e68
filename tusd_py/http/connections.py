"""The client connections of a process: how many there may be, and how long each may wait.

Owns what happens to connections that do nothing: those without a request are closed after a time,
and earlier, the oldest first, when all places are taken; readers that stand still are cut off. A
client that finds no place is told so. Knows nothing of requests and their bodies.
"""

import asyncio
import fcntl
import json
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 60.0
"""A flood makes one line in this time, not one for each connection."""
FAREWELL_S = 2.0
MAX_FAREWELLS = 128
"""Refused clients that are given time to read why; more are cut off."""
FILES_EACH = 3
"""Open files of an upload: its socket, its tail, and a part that waits on disk."""
FILES_FOR_OTHERS = 256


def raw_problem(status: str, code: str, detail: str, *headers: str) -> bytes:
    """A whole answer for a request that never reached the application; closes the connection."""
    body = json.dumps({"status": int(status[:3]), "code": code, "detail": detail}).encode()
    lines = [
        f"HTTP/1.1 {status}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


_FULL = raw_problem(
    "503 Service Unavailable",
    "too_many_connections",
    "all places of this server are taken; try again",
    "retry-after: 2",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """For one process."""

    max_connections: int = 4096
    head_timeout_s: float = 30.0
    """From the first byte of a request, or the opening, to the end of its headers."""
    keep_alive_timeout_s: float = 75.0
    """From an answer to the next request."""
    stall_timeout_s: float = 60.0
    """For a client that takes nothing of what is sent to it."""


class Client(Protocol):
    """A connection, as far as it is seen here."""

    transport: asyncio.Transport
    deadline: float
    """Loop time until when its next head must be complete."""
    unsent: int
    """Bytes on their way to the client when we last looked."""
    unsent_since: float

    def give_up(self) -> None:
        """Closes a connection whose head did not come in time; may say so."""
        ...


class Connections:
    """Every open connection is in one of two states: it waits for a head, or serves a request."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        self._open: set[Client] = set()
        self._waiting: dict[Client, None] = {}  # in the order in which they began to wait
        self._farewells: set[_Farewell] = set()
        self._dropped: dict[str, int] = {}
        self._told_at = -TELL_EVERY_S
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, client: Client, transport: asyncio.Transport) -> bool:
        """Takes in a new connection; False where it was refused and is no longer the caller's."""
        if len(self._open) >= self.limits.max_connections and not self._make_room():
            self._refuse(transport)
            return False
        self._open.add(client)
        self.waits(client, self.limits.head_timeout_s)
        self._keep_looking()
        return True

    def waits(self, client: Client, patience_s: float) -> None:
        """Nothing is asked of us: the next head must be complete in time."""
        client.deadline = self._loop.time() + patience_s
        self._waiting[client] = None

    def begins(self, client: Client) -> None:
        """The first byte of a head."""
        client.deadline = self._loop.time() + self.limits.head_timeout_s

    def serves(self, client: Client) -> None:
        """A head is complete."""
        self._waiting.pop(client, None)

    def closed(self, client: Client) -> None:
        """The connection has ended."""
        self._open.discard(client)
        self._waiting.pop(client, None)

    def _make_room(self) -> bool:
        """Closes the connection that has waited longest without a request, if there is one.

        Not one to which an answer is still being sent.
        """
        idle = (one for one in self._waiting if not one.transport.get_write_buffer_size())
        oldest = next(idle, None)
        if oldest is None:
            return False
        self.closed(oldest)
        oldest.transport.abort()
        self._note("made_room")
        return True

    def _refuse(self, transport: asyncio.Transport) -> None:
        self._note("refused")
        if len(self._farewells) >= MAX_FAREWELLS:
            transport.abort()
        else:
            self._farewells.add(_Farewell(transport, self._loop, self._farewells))

    def _keep_looking(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for client in [client for client in self._waiting if client.deadline < now]:
            self._waiting.pop(client, None)
            self._note("head_timed_out")
            client.give_up()
        for client in [client for client in self._open if self._stalled(client, now)]:
            self._note("reader_stalled")
            client.transport.abort()
        self._tell(now)
        if self._open or self._dropped:
            self._keep_looking()

    def _stalled(self, client: Client, now: float) -> bool:
        if not client.transport.get_write_buffer_size():
            client.unsent = 0
            return False
        unsent = _unsent(client.transport)
        if unsent != client.unsent:
            client.unsent, client.unsent_since = unsent, now
        return now - client.unsent_since > self.limits.stall_timeout_s

    def _note(self, what: str) -> None:
        self._dropped[what] = self._dropped.get(what, 0) + 1

    def _tell(self, now: float) -> None:
        if self._dropped and now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            log.warning("connections_dropped", open=len(self._open), **self._dropped)
            self._dropped = {}


class _Farewell(asyncio.Protocol):
    """Tells a refused client why, and waits a moment for it to read that.

    Closing with unread bytes of its request would reset the connection, and the answer be lost.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        others: "set[_Farewell]",
    ) -> None:
        self._others = others
        self._before = transport.get_protocol()
        self._timer = loop.call_later(FAREWELL_S, transport.abort)
        transport.set_protocol(self)
        transport.write(_FULL)
        if transport.can_write_eof():
            transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or its time is over."""
        self._timer.cancel()
        self._others.discard(self)
        self._before.connection_lost(exc)


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not acknowledged, ours and, where it tells, the kernel's."""
    pending = transport.get_write_buffer_size()
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None:
        return pending
    try:
        queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return pending
    return pending + int(struct.unpack("i", queued)[0])


def affordable(limit: int, *, files: int) -> int:
    """The limit, or as many connections as `files` open files (negative: no limit) suffice for."""
    return limit if files < 0 else max(1, min(limit, (files - FILES_FOR_OTHERS) // FILES_EACH))
