"""The body of an ASGI request as `uploads.body.BodyReader`."""

from collections.abc import MutableMapping
from typing import Any, Protocol

from starlette.types import Receive, Scope

from tusd_py.uploads.body import ClientGone

TRAILERS = "tusd_py.trailers"
"""ASGI extension of `tusd_py.http.connection`: the list `fields` receives the trailers. Elsewhere
they are what uvicorn appends to the scope's headers."""

INFLOW = "tusd_py.inflow"
"""ASGI extension of `tusd_py.http.connection`: a body of known length that can be received straight
into the reader's memory. Elsewhere every body comes as ASGI messages."""


class Inflow(Protocol):
    """The other way to a body; see `BodyReader`."""

    @property
    def at_hand(self) -> bool:
        """Whether bytes have come that ASGI has not told of yet."""
        ...

    async def read_into(self, room: memoryview) -> int:
        """Receives into `room`."""
        ...

    def withdraw(self) -> None:
        """Takes `room` back."""
        ...

    def collect(self, size: int) -> None:
        """How many bytes may come before anybody hears of them."""
        ...


class AsgiBody:
    """Reads `http.request` messages, and the trailers behind them."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._header_count = len(scope["headers"])
        self._receive = receive
        self._inflow: Inflow | None = (scope.get("extensions") or {}).get(INFLOW)
        self.ended = False
        """Whether nothing more will come."""
        self.begun = False

    @property
    def at_hand(self) -> bool:
        """See `BodyReader`."""
        return self.ended or (self._inflow is not None and self._inflow.at_hand)

    async def read(self) -> bytes:
        """See `BodyReader`. Raises: ClientGone."""
        self.begun = True
        while not self.ended:
            message: MutableMapping[str, Any] = await self._receive()
            if message["type"] != "http.request":
                return self._unread()
            self.ended = not message.get("more_body", False)
            body: bytes = message.get("body", b"")
            if body:
                return body
        return b""

    async def read_into(self, room: memoryview) -> int:
        """See `BodyReader`."""
        return 0 if self._inflow is None else await self._inflow.read_into(room)

    def withdraw(self) -> None:
        """See `BodyReader`."""
        if self._inflow is not None:
            self._inflow.withdraw()

    def collect(self, size: int) -> None:
        """See `BodyReader`."""
        if self._inflow is not None:
            self._inflow.collect(size)

    def _unread(self) -> bytes:
        """What uvicorn had received when the connection ended: `receive` tells of the end only.

        Its body and `more_body` are attributes of the object whose method `receive` is. Under
        another server, or behind a middleware, the bytes of the last read are lost.
        Raises: ClientGone.
        """
        cycle = getattr(self._receive, "__self__", None)
        body = getattr(cycle, "body", None)
        if not isinstance(body, bytearray) or not body:
            self.ended = True
            if not getattr(cycle, "more_body", True):
                return b""
            raise ClientGone
        unread = bytes(body)
        body.clear()
        self.ended = not getattr(cycle, "more_body", True)
        return unread

    def trailer(self, name: str) -> str | None:
        """See `BodyReader`."""
        wanted = name.lower().encode()
        apart = (self._scope.get("extensions") or {}).get(TRAILERS)
        late: list[tuple[bytes, bytes]] = (
            self._scope["headers"][self._header_count :] if apart is None else apart["fields"]
        )
        for key, value in late:
            if key.lower() == wanted:
                return value.decode("latin-1")
        return None
