"""The HTTP/1.1 connection under uvicorn: what its parser leaves to the one who uses it.

Owns two things below ASGI. A head, trailer or chunk extension without end is refused instead of
collected, and trailers are kept apart from the headers: they may arrive before the application has
looked at these, and would be taken for them (RFC 9110, section 6.5.1).
"""

import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tusd_py.http.body import TRAILERS

MAX_HEAD_SIZE = 256 * 1024
"""Bytes of one head: room for a final upload that names 1000 partial ones by absolute URLs."""

_DETAIL = f"the headers have more than {MAX_HEAD_SIZE} bytes"
_BODY = json.dumps({"status": 431, "code": "headers_too_large", "detail": _DETAIL}).encode()
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/problem+json\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class Connection(HttpToolsProtocol):
    """One client's connection; uvicorn makes one for each."""

    _barren = 0
    """Bytes since the last that ended a head or belonged to a body."""
    _fruitful = False

    def data_received(self, data: bytes) -> None:
        """Bytes from the network."""
        self._fruitful = False
        super().data_received(data)
        self._barren = 0 if self._fruitful else self._barren + len(data)
        if self._barren > MAX_HEAD_SIZE and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_REFUSAL)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The application's task is made here, and runs when all bytes at hand are parsed."""
        self._fruitful = True
        super().on_headers_complete()
        self.headers = []  # where the parser puts what follows
        self.scope["extensions"] = {TRAILERS: {"fields": self.headers}}

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._fruitful = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request's end."""
        self._fruitful = True
        super().on_message_complete()
