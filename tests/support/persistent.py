"""A tus client that does not give up, on asyncio: hundreds of them fit into one test.

Behaves as tus-js-client does: a PATCH that fails is followed by HEAD and goes on from there; a HEAD
that fails with anything but 423 would make a real client forget the upload, and is an error here.
Every wait has a deadline.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from tests.support.tus import OFFSET_MEDIA_TYPE, VERSION
from tests.support.wire import Answer, request_head

PIECE_SIZE = 16 * 1024
NO_BODY = memoryview(b"")
RETRY_S = 0.2
ANSWER_S = 90.0
"""Longer than the server's own patience with a body."""

_BROKEN = (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError)


class Forgotten(AssertionError):
    """A real client would have given the upload up, or begun again at zero."""


@dataclass
class Upload:
    """One upload and what happened to it."""

    data: bytes
    url: str = ""
    offset: int = 0
    sent: int = 0
    """Bytes of bodies that went out, over all tries."""
    rewound: list[int] = field(default_factory=list)
    """By how much the offset stepped back, each time it did."""
    statuses: list[int] = field(default_factory=list)
    """Of every answered PATCH."""
    broken: int = 0
    """Requests that ended without an answer."""

    @property
    def finished(self) -> bool:
        """Whether a 204 or HEAD has said so."""
        return bool(self.url) and self.offset == len(self.data)


class PersistentClient:
    """Uploads to `endpoint`, at `rate` bytes a second if given."""

    def __init__(self, endpoint: str, *, rate: float | None = None, patience_s: float = 60) -> None:
        self.endpoint = endpoint
        self._rate = rate
        self._patience_s = patience_s
        self._writers: set[asyncio.StreamWriter] = set()

    def drop_connections(self) -> int:
        """Cuts what is open now, in the middle of whatever it does; how many there were."""
        for writer in self._writers:
            writer.transport.abort()
        return len(self._writers)

    async def upload(self, data: bytes, *, chunk: int | None = None) -> Upload:
        """To the end. Raises: Forgotten; AssertionError when nothing moves for `patience_s`."""
        upload = Upload(data)
        await self.run(upload, chunk=chunk)
        return upload

    async def run(self, upload: Upload, *, chunk: int | None = None) -> None:
        """Creates the upload unless it has a URL, and sends until it is finished."""
        if not upload.url:
            await self._create(upload)
        patience = time.monotonic() + self._patience_s
        while not upload.finished:
            before = upload.offset
            answer = await self._patch(upload, chunk)
            if answer is None or answer.status != 204:
                await asyncio.sleep(RETRY_S)  # as clients do between two tries
                await self._find_offset(upload)
            if upload.offset > before:
                patience = time.monotonic() + self._patience_s
            assert time.monotonic() < patience, f"stands still: {_told(upload)}"

    async def _create(self, upload: Upload) -> None:
        patience = time.monotonic() + self._patience_s
        headers = {"Upload-Length": str(len(upload.data)), "Content-Length": "0"}
        while True:
            answer = await self.request("POST", self.endpoint, headers)
            if answer is not None and answer.status == 201:
                upload.url = urljoin(self.endpoint, answer["Location"])
                return
            assert answer is None or answer.status >= 500, answer
            assert time.monotonic() < patience, f"cannot create: {answer}"
            await asyncio.sleep(RETRY_S)

    async def _find_offset(self, upload: Upload) -> None:
        patience = time.monotonic() + self._patience_s
        while True:
            answer = await self.request("HEAD", upload.url)
            if answer is not None and answer.status == 200:
                break
            if answer is not None and answer.status != 423:
                raise Forgotten(f"HEAD answered {answer.status}: {_told(upload)}")
            assert time.monotonic() < patience, f"no HEAD: {answer}, {_told(upload)}"
            await asyncio.sleep(RETRY_S)
        offset = int(answer["Upload-Offset"])
        if offset < upload.offset:
            upload.rewound.append(upload.offset - offset)
        upload.offset = offset

    async def _patch(self, upload: Upload, chunk: int | None) -> Answer | None:
        end = len(upload.data) if chunk is None else upload.offset + chunk
        body = memoryview(upload.data)[upload.offset : end]
        headers = {
            "Upload-Offset": str(upload.offset),
            "Content-Type": OFFSET_MEDIA_TYPE,
            "Content-Length": str(len(body)),
        }
        answer = await self.request("PATCH", upload.url, headers, body, upload)
        if answer is None:
            upload.broken += 1
            return None
        upload.statuses.append(answer.status)
        if answer.status == 204:
            upload.offset = int(answer["Upload-Offset"])
        elif answer.status not in {409, 423} and answer.status < 500:
            raise Forgotten(f"PATCH answered {answer.status} {answer.body!r}: {_told(upload)}")
        return answer

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: memoryview = NO_BODY,
        upload: Upload | None = None,
    ) -> Answer | None:
        """One request on a connection of its own; None when it ended without an answer."""
        parts = urlsplit(url)
        wanted = {"Tus-Resumable": VERSION, "Connection": "close"} | dict(headers or {})
        try:
            async with self._connection(parts.hostname or "", parts.port or 80) as (reader, writer):
                writer.write(request_head(method, parts.path, wanted, host=parts.netloc))
                sending = asyncio.create_task(self._send(writer, body, upload))
                try:
                    async with asyncio.timeout(ANSWER_S + self._time_for(body)):
                        return await _answer(reader, method)
                finally:
                    sending.cancel()
                    await asyncio.wait([sending])
                    if not sending.cancelled():
                        sending.exception()
        except _BROKEN:
            return None

    @asynccontextmanager
    async def _connection(
        self, host: str, port: int
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(host, port)
        self._writers.add(writer)
        try:
            yield reader, writer
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _send(
        self, writer: asyncio.StreamWriter, body: memoryview, upload: Upload | None
    ) -> None:
        for start in range(0, len(body), PIECE_SIZE):
            piece = body[start : start + PIECE_SIZE]
            if upload is not None:
                upload.sent += len(piece)
            writer.write(piece)
            await writer.drain()
            if self._rate:
                await asyncio.sleep(len(piece) / self._rate)  # the line is slow

    def _time_for(self, body: memoryview) -> float:
        return 2 * len(body) / self._rate if self._rate else 60.0


async def _answer(reader: asyncio.StreamReader, method: str) -> Answer:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        status = int(first.split(" ")[1])
        if status >= 200:
            break
    pairs = [line.partition(":") for line in lines]
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    size = int(dict(headers).get("content-length", "0"))
    body = b"" if method == "HEAD" or status == 204 else await reader.readexactly(size)
    return Answer(status=status, headers=headers, body=body)


def _told(upload: Upload) -> str:
    return (
        f"{upload.url} at {upload.offset} of {len(upload.data)}, sent {upload.sent}, answers "
        f"{upload.statuses[-20:]}, {upload.broken} broken, stepped back {upload.rewound}"
    )
