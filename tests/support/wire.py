"""A raw HTTP/1.1 connection: sends exactly the bytes a test wants, and reads what comes back.

For what proper clients refuse to do: broken requests, half-sent bodies, trailers, connections cut
at a given byte. Knows nothing of tus.

    with Wire(port) as wire:
        wire.send(request_head("PATCH", path, {"Content-Length": "10"}), b"half")
        wire.reset()
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

HeaderList = Mapping[str, str] | Sequence[tuple[str, str]]

_RECEIVE_SIZE = 65_536


class ConnectionEnded(Exception):
    """The server closed the connection in the middle of an answer, or before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One final response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """In order; names in lower case."""
    body: bytes
    interim: tuple[int, ...] = ()
    """Statuses of the 1xx answers that came before, as in (100,)."""

    def get(self, name: str) -> str | None:
        """A header's value; several are joined as RFC 9110, section 5.3 says."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(f"{name} is not in {self}")
        return value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None


def request_head(
    method: str, target: str, headers: HeaderList = (), *, host: str = "wire"
) -> bytes:
    """Request line and headers up to and with the empty line; `Host` unless given."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if all(name.lower() != "host" for name, _ in pairs):
        pairs.insert(0, ("Host", host))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1); never the last one."""
    assert data, "an empty chunk ends the body: use last_chunk"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def last_chunk(trailers: HeaderList = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    pairs = trailers.items() if isinstance(trailers, Mapping) else trailers
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"0\r\n{lines}\r\n".encode("latin-1")


def chunked(pieces: Iterable[bytes], trailers: HeaderList = ()) -> bytes:
    """A whole chunked body."""
    return b"".join(map(chunk, pieces)) + last_chunk(trailers)


class Wire:
    """One TCP connection. Every wait ends after `timeout_s` with TimeoutError."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = 20.0) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, *data: bytes) -> None:
        """All the bytes, as they are. Raises: OSError when the server is gone."""
        for piece in data:
            self._socket.sendall(piece)

    def send_until_refused(self, pieces: Iterable[bytes]) -> int:
        """Sends until the server stops taking; returns the bytes that went out."""
        sent = 0
        try:
            for piece in pieces:
                self._socket.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        return sent

    def send_cut(self, data: bytes, at: int) -> None:
        """The first `at` bytes, then an orderly close."""
        self.send(data[:at])
        self.close()

    def finish_sending(self) -> None:
        """Half-closes: the server sees the end, and can still answer."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """FIN. May be called twice."""
        self._socket.close()

    def reset(self) -> None:
        """RST, as when a machine vanishes behind a firewall that answers for it."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def answer(self, *, to: str = "GET") -> Answer:
        """The next final response. `to` is the request's method: HEAD has no body.

        Raises: ConnectionEnded, TimeoutError.
        """
        interim: list[int] = []
        while True:
            status, headers = self._head()
            if status >= 200:
                break
            interim.append(status)
        bodyless = to == "HEAD" or status in {204, 304}
        body = b"" if bodyless else self._body(dict(headers))
        return Answer(status=status, headers=headers, body=body, interim=tuple(interim))

    def wait_for_continue(self) -> None:
        """Returns when `100 Continue` has come. Raises: AssertionError for anything else."""
        status, headers = self._head()
        assert status == 100, f"expected 100 Continue, got {status} {headers}"

    def rest(self) -> bytes:
        """Everything up to the end of the connection; a reset ends it as well."""
        try:
            while data := self._socket.recv(_RECEIVE_SIZE):
                self._received += data
        except ConnectionError:
            pass
        rest, self._received = self._received, b""
        return rest

    def _head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        text = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = text.split("\r\n")
        version, status = first.split(" ")[:2]
        assert version == "HTTP/1.1", f"not a status line: {first!r}"
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon and name == name.strip(), f"not a header: {line!r}"
            headers.append((name.lower(), value.strip()))
        return int(status), tuple(headers)

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(self._chunks())
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return self.rest()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._until(b"\r\n"), 16):
            yield self._exactly(size)
            self._until(b"\r\n")
        while self._until(b"\r\n"):
            pass

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._receive()
        found, _, self._received = self._received.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        pieces = [self._received[:size]]
        self._received = self._received[size:]
        left = size - len(pieces[0])
        while left:
            data = self._socket.recv(min(left, 1 << 20))
            if not data:
                raise ConnectionEnded(f"{left} bytes of the body are missing")
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_SIZE)
        except ConnectionError as error:
            raise ConnectionEnded(str(error)) from error
        if not data:
            raise ConnectionEnded(f"the connection ended after {self._received!r}")
        self._received += data


def exchange(port: int, *data: bytes, to: str = "GET", timeout_s: float = 20.0) -> Answer:
    """Sends the bytes on a connection of their own; returns the first final answer."""
    with Wire(port, timeout_s=timeout_s) as wire:
        wire.send(*data)
        return wire.answer(to=to)
