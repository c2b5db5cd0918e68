"""Running servers for the black-box tests, one of each kind for a module.

Each has a key prefix of its own, so that `site.bucket.keys()` is all it ever stored. Every answer
that a site's client sees is checked for what must hold of all answers.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import pytest

from tests.support.engines import Engine
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, Data, TusClient
from tests.support.wire import Answer


@dataclass(frozen=True, slots=True)
class Site:
    """A server, a client for it, and its part of the bucket."""

    server: ServerProcess
    tus: "CheckedClient"
    bucket: Bucket

    @property
    def path(self) -> str:
        """Where uploads are created."""
        return self.server.uploads_url.removeprefix(self.server.url)


class CheckedClient(TusClient):
    """Holds every answer against what is true of all of them."""

    def __init__(self, endpoint: str, secrets: tuple[str, ...]) -> None:
        super().__init__(endpoint)
        self.secrets = secrets
        self._origin = urljoin(endpoint, "/")

    def request(
        self,
        method: str,
        target: str = "",
        headers: Mapping[str, str | None] | None = None,
        body: Data | None = None,
        *,
        version: str | None = "1.0.0",
    ) -> Answer:
        """As in TusClient. Raises: AssertionError."""
        answer = super().request(method, target, headers, body, version=version)
        if target.startswith(self._origin) or not target.startswith("http"):
            self.check(answer)
        return answer

    def check(self, answer: Answer) -> None:
        """No crash, problems have their shape, and nothing of the inside is told."""
        assert answer.status < 500, answer
        assert answer.status == 302 or answer["X-Content-Type-Options"] == "nosniff", answer
        if answer.status >= 400 and answer.status != 416:
            assert answer["Tus-Resumable"] == "1.0.0", answer
            assert answer["Cache-Control"] == "no-store", answer
            assert answer["Content-Type"] == "application/problem+json", answer
            if answer.body:
                problem = json.loads(answer.body)
                assert problem["status"] == answer.status, answer
                assert problem["code"] and problem["detail"], answer
        if answer.status not in {200, 206, 302}:
            told = repr(answer)
            assert not [secret for secret in self.secrets if secret in told], answer


def open_site(
    engine: Engine, pytest_folders: pytest.TempPathFactory, settings: Mapping[str, str]
) -> Iterator[Site]:
    """A server with these settings, until the module ends."""
    prefix = engine.prefix()
    environment = {"TUSD_S3_PREFIX": prefix} | dict(settings)
    folder = pytest_folders.mktemp("server")
    secrets = (
        *(str(folder), "Traceback", "sqlite", engine.access_key, engine.secret_key, prefix),
        engine.endpoint.partition("://")[2],
    )
    with ServerProcess(folder, engine, extra_env=environment) as server:
        bucket = Bucket(engine, prefix)
        try:
            yield Site(server, CheckedClient(server.uploads_url, secrets), bucket)
        finally:
            bucket.close()
    assert '"request_failed"' not in server.log(), server.log()


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with default settings."""
    yield from open_site(seaweed, tmp_path_factory, {})


@pytest.fixture(scope="module")
def streaming(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Streams downloads, trusts a proxy on this machine, and takes at most 1 MiB."""
    settings = {
        "TUSD_DOWNLOAD": "stream",
        "TUSD_INLINE_TYPES": "image/png, text/*",
        "TUSD_TRUSTED_PROXIES": "127.0.0.1",
        "TUSD_MAX_SIZE": "1MiB",
    }
    yield from open_site(seaweed, tmp_path_factory, settings)


@pytest.fixture(scope="module")
def hasty(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Uploads expire soon; other base path, public URL, one origin, no downloads."""
    settings = {
        "TUSD_EXPIRES_IN": "2s",
        "TUSD_MAX_LIFETIME": "4s",
        "TUSD_BASE_PATH": "/a/b/",
        "TUSD_PUBLIC_URL": "https://uploads.example.com",
        "TUSD_CORS_ORIGINS": "https://app.example.com",
        "TUSD_DOWNLOAD": "off",
    }
    yield from open_site(seaweed, tmp_path_factory, settings)
