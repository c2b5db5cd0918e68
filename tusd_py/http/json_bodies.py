"""Request bodies that are read whole into memory: how long they may take, and how many bytes.

Owns a limit over all requests of the process, below the JSON endpoints. Knows none of them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tusd_py.http.json_errors import Overloaded
from tusd_py.uploads.body import Interrupted, Stop
from tusd_py.uploads.deadlines import Deadlines

MEMORY = 32 * 1024 * 1024
"""Bytes of such bodies at the same time."""


class JsonBodies:
    """All of them in the process."""

    def __init__(self, *, timeout_s: float, memory: int = MEMORY) -> None:
        self._timeout_s = timeout_s
        self._room = memory
        self._deadlines = Deadlines()

    def begin_shutdown(self) -> None:
        """Ends the waiting for bodies."""
        self._deadlines.expire()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with its bodies limited."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            with self.limited(receive) as limited:
                await app(scope, limited, send)

        return serve

    @contextmanager
    def limited(self, receive: Receive) -> Iterator[Receive]:
        """The request's `receive`, which raises Interrupted and Overloaded."""
        taken = 0
        ended = False
        until: float | None = None

        async def read() -> Message:
            nonlocal taken, ended, until
            if ended:
                return await receive()
            now = time.monotonic()
            until = now + self._timeout_s if until is None else until
            try:
                async with self._deadlines.within(max(0.0, until - now)):
                    message = await receive()
            except TimeoutError:
                closing = self._deadlines.closing
                raise Interrupted(Stop.SHUTDOWN if closing else Stop.IDLE) from None
            ended = not message.get("more_body", False)
            size = len(message.get("body", b""))
            taken += size
            self._room -= size
            if self._room < 0:
                raise Overloaded("the server has too many requests at hand")
            return message

        try:
            yield read
        finally:
            self._room += taken
