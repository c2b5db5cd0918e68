"""One HTTP/1.1 exchange on an open socket: the bytes out, the answer in.

Owns how segments reach the kernel with the fewest copies and system calls. Knows no pool, no
retry and no S3. All of it blocks, no longer than the socket's time-out without progress.
"""

import http.client
import os
import select
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httptools

from tusd_storage.records import FileRange, Segment

FILE_CHUNK = 1024 * 1024
"""Bytes read from a file at a time where the kernel cannot send it by itself."""
SENDFILE_CHUNK = 1 << 30
"""Linux sends at most 2 GiB at a time."""
BUFFERS_AT_ONCE = 64
"""For one `sendmsg`; systems allow 1024, and a socket's buffer holds fewer."""
READ_SIZE = 16 * 1024
MAX_ANSWER = 64 * 1024
"""Bytes read of an answer; a connection with more to come is not used again."""
LATE_ANSWER_TIMEOUT_S = 1.0
"""After a broken send: how long to look for the answer that explains it."""


class BodyTooShort(Exception):
    """A file range ended before its promised size."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def send(connection: socket.socket, head: bytes, segments: Sequence[Segment]) -> None:
    """Sends `head` and all segments. Raises OSError, BodyTooShort."""
    buffers: list[bytes | memoryview] = [head]
    for segment in segments:
        if isinstance(segment, FileRange):
            _send_buffers(connection, buffers)
            buffers = []
            _send_file(connection, segment)
        elif segment:
            buffers.append(segment)
    _send_buffers(connection, buffers)


def read_answer(connection: socket.socket) -> tuple[Answer, bool]:
    """The answer, and whether the connection can take another request.

    Raises: OSError, http.client.HTTPException.
    """
    reading = Reading()
    while not reading.complete:
        reading.take(connection.recv(READ_SIZE))
    return reading.answer()


class Reading:
    """An answer as its parser finds it. Interim answers (1xx) are passed over."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._received = 0
        self._in_body = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        """Whether as much is known as anybody wants to know."""
        self.reusable = False

    def take(self, data: bytes) -> None:
        """What came next; empty when the connection has ended. Raises HTTPException."""
        try:
            if data:
                self._feed(data)
            else:
                self._ended()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise http.client.HTTPException(f"the answer is no HTTP: {error}") from error

    def answer(self) -> tuple[Answer, bool]:
        """Once `complete`: the answer, and whether the connection can take another request."""
        return Answer(self.status, self.headers, bytes(self.body)), self.reusable

    def _feed(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MAX_ANSWER:
            if not self._in_body:
                raise http.client.HTTPException("the head of the answer does not end")
            self.complete = True
        self._parser.feed_data(data)
        if self.complete and self._received > MAX_ANSWER:
            self.reusable = False

    def _ended(self) -> None:
        """Raises, unless that is the end of the answer."""
        if not self._received:
            raise http.client.RemoteDisconnected("the store closed the connection and said nothing")
        sized = "content-length" in self.headers or "transfer-encoding" in self.headers
        if not self._in_body or sized:
            raise http.client.IncompleteRead(bytes(self.body))
        self.complete = True

    def on_message_begin(self) -> None:
        """A second one on the same connection is nobody's answer."""
        self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's callback."""
        if not self.complete:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self.headers[key] = text

    def on_headers_complete(self) -> None:
        """The parser's callback."""
        if not self.complete:
            self.status = self._parser.get_status_code()
            self._in_body = self.status >= 200

    def on_body(self, body: bytes) -> None:
        """The parser's callback."""
        if not self.complete:
            self.body += body

    def on_message_complete(self) -> None:
        """The parser's callback."""
        if self.complete:
            return
        if self._in_body:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()
        else:
            self.headers.clear()


def read_file(segment: FileRange) -> Iterator[bytes]:
    """The range's bytes in pieces. Raises OSError, BodyTooShort."""
    offset, end = segment.offset, segment.offset + segment.size
    while offset < end:
        piece = os.pread(segment.fd, min(FILE_CHUNK, end - offset), offset)
        if not piece:
            raise BodyTooShort
        offset += len(piece)
        yield piece


def _send_buffers(connection: socket.socket, buffers: list[bytes | memoryview]) -> None:
    if isinstance(connection, ssl.SSLSocket):
        for buffer in buffers:
            connection.sendall(buffer)
        return
    views = [memoryview(buffer) for buffer in buffers]
    first = 0
    while first < len(views):
        sent = connection.sendmsg(views[first : first + BUFFERS_AT_ONCE])
        while first < len(views) and sent >= len(views[first]):
            sent -= len(views[first])
            first += 1
        if sent:
            views[first] = views[first][sent:]


def _send_file(connection: socket.socket, segment: FileRange) -> None:
    if isinstance(connection, ssl.SSLSocket):
        for piece in read_file(segment):
            connection.sendall(piece)
        return
    offset, end = segment.offset, segment.offset + segment.size
    while offset < end:
        # A socket with a time-out does not block by itself.
        _wait_writable(connection)
        try:
            sent = os.sendfile(
                connection.fileno(), segment.fd, offset, min(SENDFILE_CHUNK, end - offset)
            )
        except BlockingIOError:
            continue
        if not sent:
            raise BodyTooShort
        offset += sent


def _wait_writable(connection: socket.socket) -> None:
    timeout_s = connection.gettimeout()
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    if not poll.poll(None if timeout_s is None else timeout_s * 1000):
        raise TimeoutError("the store does not read")


def readable(connection: socket.socket) -> bool:
    """Whether an idle connection has something to say: it was closed, or is out of step."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
