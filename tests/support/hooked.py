"""The whole application with hooks, and a client of it. Import `serve` and `server` by name."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engines import Engine
from tests.support.hook_server import HookServer
from tests.support.state import Database
from tests.support.tus import metadata
from tusd_py.app import TusdApp, create_app
from tusd_py.hooks import Hook
from tusd_py.settings import Settings

TUS = {"Tus-Resumable": "1.0.0"}
PATCH = {**TUS, "Content-Type": "application/offset+octet-stream"}

Serve = Callable[..., Any]


@pytest.fixture
def serve(
    seaweed: Engine, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """The whole application and a client of it; jobs run when the test says so."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)

    @asynccontextmanager
    async def serving(
        hooks: Sequence[Hook] = (), **settings: Any
    ) -> AsyncIterator[tuple[TusdApp, httpx.AsyncClient]]:
        given: dict[str, Any] = {
            "data_dir": tmp_path,
            "database_url": database.url,
            "s3_endpoint": seaweed.endpoint,
            "s3_bucket": seaweed.bucket,
            "s3_prefix": seaweed.prefix(),
            "s3_region": seaweed.region,
            "s3_addressing_style": "path",
            "work": False,
            "reap": False,
            "hooks_http_timeout": "5s",
            "hooks_http_backoff": "10ms",
        }
        app = create_app(Settings.model_validate(given | settings), hooks=hooks)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://server") as client,
        ):
            yield app, client

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
