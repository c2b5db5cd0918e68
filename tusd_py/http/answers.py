"""Sends answers. The one place that writes to an ASGI connection for the tus endpoints."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from starlette.types import Send

from tusd_py.hooks.answers import with_default_type
from tusd_py.hooks.events import HttpResponse

PROBLEM = "application/problem+json"
_TYPE = "content-type"
_BODYLESS = (204, 304)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, before it is sent."""

    status: int
    headers: dict[str, str]
    content: bytes = b""

    def told(self, said: HttpResponse | None, *, final: bool = True) -> "Answer":
        """With what hooks want. A body makes a 200 of a 204; not `final`, only headers count."""
        if said is None:
            return self
        wanted = dict(with_default_type(said))
        if self.content and not said.body:  # the content stays, and so does its type
            wanted = {name: text for name, text in wanted.items() if name.lower() != _TYPE}
        names = {name.lower() for name in wanted}
        kept = {name: text for name, text in self.headers.items() if name.lower() not in names}
        if not final:
            return replace(self, headers=kept | wanted)
        status = said.status_code or self.status
        if said.body and status == 204:
            status = 200
        content = said.body.encode("utf-8", "replace") or self.content
        return Answer(status=status, headers=kept | wanted, content=content)


async def send_answer(
    send: Send,
    status: int,
    headers: Mapping[str, str],
    content: bytes = b"",
    *,
    with_body: bool = True,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """One whole answer. `with_body=False` is for HEAD.

    With `drain` the connection is closed afterwards; it reads on in a request body that nobody
    wants, so that the client sees the answer.
    """
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    bodyless = status in _BODYLESS
    if not bodyless:
        raw.append((b"content-length", str(len(content)).encode()))
    if drain is not None:
        raw.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    body = content if with_body and not bodyless else b""
    if drain is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await drain()
        body = b""
    await send({"type": "http.response.body", "body": body})
