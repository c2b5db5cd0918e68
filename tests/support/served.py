"""The whole application in the test's own process, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engines import Engine
from tusd_py.app import TusdApp, create_app
from tusd_py.settings import Settings

Served = tuple[TusdApp, httpx.AsyncClient]


@asynccontextmanager
async def served(
    engine: Engine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    peer: str = "127.0.0.1",
    making: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Nothing runs beside the requests: jobs and sweeps run when the test says so.

    `peer` is where the client comes from; `making` are arguments of `create_app`.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", engine.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", engine.secret_key)
    given: dict[str, Any] = {
        "data_dir": folder,
        "s3_endpoint": engine.endpoint,
        "s3_bucket": engine.bucket,
        "s3_prefix": engine.prefix(),
        "s3_region": engine.region,
        "s3_addressing_style": "path",
        "work": False,
        "reap": False,
    }
    app = create_app(Settings.model_validate(given | settings), **(making or {}))
    transport = httpx.ASGITransport(app=app, client=(peer, 1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://server") as client,
    ):
        yield app, client
