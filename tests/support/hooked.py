"""The whole application with hooks, and a client of it. Import `serve` and `server` by name."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engines import Engine
from tests.support.hook_server import HookServer
from tests.support.served import Served, served
from tests.support.state import Database
from tests.support.tus import metadata
from tusd_py.hooks import Hook

TUS = {"Tus-Resumable": "1.0.0"}
PATCH = {**TUS, "Content-Type": "application/offset+octet-stream"}

Serve = Callable[..., Any]


@pytest.fixture
def serve(
    seaweed: Engine, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """The whole application and a client of it; jobs run when the test says so."""

    def serving(hooks: Sequence[Hook] = (), **settings: Any) -> AbstractAsyncContextManager[Served]:
        given: dict[str, Any] = {
            "database_url": database.url,
            "hooks_http_timeout": "5s",
            "hooks_http_backoff": "10ms",
        }
        return served(seaweed, tmp_path, monkeypatch, making={"hooks": hooks}, **(given | settings))

    return serving


@pytest.fixture
def server() -> Iterator[HookServer]:
    """An endpoint for hooks."""
    with HookServer() as hooks:
        yield hooks


async def upload(client: httpx.AsyncClient, data: bytes = b"abc", **headers: str | bytes) -> str:
    """A finished upload; its path."""
    length = {"Upload-Length": str(len(data)), "Upload-Metadata": metadata({"filename": "a.txt"})}
    made = await client.post("/files/", headers=TUS | length | headers)
    assert made.status_code == 201, made.text
    path: str = made.headers["location"]
    sent = await client.patch(path, headers=PATCH | {"Upload-Offset": "0"}, content=data)
    assert sent.status_code == 204, sent.text
    return path
