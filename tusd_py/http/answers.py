"""Sends answers. The one place that writes to an ASGI connection for the tus endpoints."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.types import Send

PROBLEM = "application/problem+json"


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
    if status != 204:
        raw.append((b"content-length", str(len(content)).encode()))
    if drain is not None:
        raw.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    body = content if with_body and status != 204 else b""
    if drain is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await drain()
        body = b""
    await send({"type": "http.response.body", "body": body})
