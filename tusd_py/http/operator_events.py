"""Pictures as server-sent events (HTML, section 9.2), for as long as somebody looks."""

import asyncio
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tusd_py.operator.watcher import Viewer, Watcher

LASTS_S = 900.0
"""Then the stream ends and the browser asks again, and so has to show again who it is."""

PATIENCE_S = 30.0
"""A viewer that takes nothing for so long is gone."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


class Events(Response):
    """The answer to a request for events. Raises TooManyViewers before it begins."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._viewing = watcher.viewing()
        self._viewer = self._viewing.__enter__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; ends with the viewer, the time, or the process."""
        leaving = asyncio.create_task(_leave_with(receive, self._viewer))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            with suppress(TimeoutError):
                async with asyncio.timeout(LASTS_S):
                    await self._tell(send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            leaving.cancel()
            await asyncio.wait([leaving])
            self._viewing.__exit__(None, None, None)

    async def _tell(self, send: Send) -> None:
        prefix = b"retry: 1000\n"
        while (picture := await self._viewer.next()) is not None:
            body = prefix + b"data: " + picture + b"\n\n"
            async with asyncio.timeout(PATIENCE_S):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            prefix = b""


async def _leave_with(receive: Receive, viewer: Viewer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    viewer.leave()
