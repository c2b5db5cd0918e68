"""The request body as the use cases see it, and the ways its reading can end."""

from enum import StrEnum
from typing import Protocol


class ClientGone(Exception):
    """The connection ended before the body did."""


class BodyReader(Protocol):
    """A request body: read once, in order."""

    @property
    def at_hand(self) -> bool:
        """Whether `read` would not wait."""
        ...

    async def read(self) -> bytes:
        """The next bytes, or b"" at the end. Raises: ClientGone.

        Safe to cancel while waiting; the bytes that then arrive are not lost but not read either.
        """
        ...

    async def read_into(self, room: memoryview) -> int:
        """The next bytes, received straight into `room`: how many, or 0 when `read` must tell.

        Nothing is written to `room` after it returned, or after `withdraw`. Raises nothing.
        """
        ...

    def withdraw(self) -> None:
        """Takes the room of a waiting `read_into` back, which then returns 0."""
        ...

    def collect(self, size: int) -> None:
        """So many bytes may come before `read` hears of them; 1: it hears of each at once.

        The end of the body, and of the connection, is told at once, and all bytes before it.
        """
        ...

    def trailer(self, name: str) -> str | None:
        """A trailer field, once the body has ended."""
        ...


class Begun:
    """A body whose first bytes have been read already."""

    def __init__(self, first: bytes, reader: BodyReader) -> None:
        self._first = first
        self._reader = reader

    @property
    def at_hand(self) -> bool:
        """See `BodyReader`."""
        return bool(self._first) or self._reader.at_hand

    async def read(self) -> bytes:
        """See `BodyReader`. Raises: ClientGone."""
        first, self._first = self._first, b""
        return first or await self._reader.read()

    async def read_into(self, room: memoryview) -> int:
        """See `BodyReader`."""
        return 0 if self._first else await self._reader.read_into(room)

    def withdraw(self) -> None:
        """See `BodyReader`."""
        self._reader.withdraw()

    def collect(self, size: int) -> None:
        """See `BodyReader`."""
        self._reader.collect(size)

    def trailer(self, name: str) -> str | None:
        """See `BodyReader`."""
        return self._reader.trailer(name)


class Stop(StrEnum):
    """Why no more of a body is read."""

    END = "end"
    """The whole body arrived."""
    DISCONNECTED = "disconnected"
    IDLE = "idle"
    """No byte for too long."""
    TOO_LONG = "too_long"
    """More bytes than the upload may take."""
    WANTED = "wanted"
    """A newer request wants the upload."""
    LOST = "lost"
    """The lease is gone; nothing may be written."""
    SHUTDOWN = "shutdown"
    FAILED = "failed"
    """The store, the disk or the database refused."""


class Interrupted(Exception):
    """A request was ended before its body was; what arrived has been kept."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(f"the request was ended early: {stop}")
        self.stop = stop
