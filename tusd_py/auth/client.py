"""The HTTP client for keys and forward-auth: no redirects, few connections, small answers."""

import asyncio
from typing import TYPE_CHECKING

from tusd_py.auth.grants import AuthUnavailable

if TYPE_CHECKING:
    import httpx

ANSWER_SIZE = 16 * 1024
KEY_SET_SIZE = 256 * 1024
FETCH_TIMEOUT_S = 5.0
_CONNECTIONS = 64


def make_client(timeout_s: float) -> "httpx.AsyncClient":
    """Raises: ModuleNotFoundError without httpx."""
    import httpx

    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    return httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, limits=limits)


async def read_bounded(answer: "httpx.Response", limit: int) -> bytes | None:
    """The body as it was sent, undecoded; None, and no more of it read, when it is longer."""
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


async def fetch_keys(client: "httpx.AsyncClient", url: str) -> bytes:
    """A key set. Raises: AuthUnavailable."""
    import httpx

    try:
        async with (
            asyncio.timeout(FETCH_TIMEOUT_S),
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            body = await read_bounded(answer, KEY_SET_SIZE)
    except (httpx.HTTPError, TimeoutError) as error:
        raise AuthUnavailable(f"fetching the key set: {type(error).__name__}") from None
    if answer.status_code != 200 or body is None:
        raise AuthUnavailable(f"fetching the key set: answered {answer.status_code}, or too much")
    return body
