"""Paths at which nothing is served answer like everything else: problems that say where to go."""

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tusd_py.app import TusdApp, create_app
from tusd_py.settings import Settings


def app(folder: Path) -> TusdApp:
    return create_app(
        Settings.model_validate({"s3_bucket": "b", "s3_region": "r", "data_dir": folder})
    )


def client_of(served: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://server")


@pytest.mark.parametrize("path", ["/", "/upload", "/files-of-mine/", "/operator/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "OPTIONS"])
async def test_an_unknown_path_names_where_uploads_are(
    tmp_path: Path, path: str, method: str
) -> None:
    async with client_of(app(tmp_path)) as client:
        answer = await client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "status": 404,
        "code": "not_found",
        "detail": "nothing is served here; uploads are at /files/",
    }


async def test_inside_another_application_it_names_the_whole_path(tmp_path: Path) -> None:
    async with client_of(Starlette(routes=[Mount("/media", app=app(tmp_path))])) as client:
        answer = await client.get("/media/nowhere")
    assert answer.json()["detail"].endswith("uploads are at /media/files/")


async def test_a_method_that_a_path_does_not_take(tmp_path: Path) -> None:
    async with client_of(app(tmp_path)) as client:
        answer = await client.delete("/health")
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]
    assert answer.headers["allow"] in answer.json()["detail"]
