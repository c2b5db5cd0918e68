"""Sends answers. The one place that writes to an ASGI connection for the tus endpoints."""

from collections.abc import Mapping

from starlette.types import Send

from tusd_py.http.body import AsgiBody

PROBLEM = "application/problem+json"


async def send_answer(
    send: Send,
    status: int,
    headers: Mapping[str, str],
    content: bytes = b"",
    *,
    with_body: bool = True,
    unread: AsgiBody | None = None,
) -> None:
    """One whole answer. `with_body=False` is for HEAD. With `unread`, a request body that nobody
    will read, the connection is closed, after as much of it as lets the client see the answer."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    if status != 204:
        raw.append((b"content-length", str(len(content)).encode()))
    if unread is not None:
        raw.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    body = content if with_body and status != 204 else b""
    if unread is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await unread.drain()
        body = b""
    await send({"type": "http.response.body", "body": body})
