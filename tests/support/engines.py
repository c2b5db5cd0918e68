"""Real S3 engines for tests, one of each kind for a whole test session.

Owns starting and stopping them, and what happens where one is missing: the test is skipped with the
reason, or fails under `CI=true`. Knows nothing of the adapter under test.

Import the fixtures into a `conftest.py`:
`from tests.support.engines import seaweed, seaweed_tls, swift  # noqa: F401`.
"""

import functools
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import boto3
import pytest
from botocore.session import Session

from tests.support.aws import session_with
from tests.support.swift import Swift, SwiftMissing
from tests.support.tls import make_certificates
from tusd_py.demo.engine import EmbeddedS3, EngineMissing, TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Where a running engine is, and what is known to differ from Amazon's S3."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str
    """One for all tests: take a `prefix()` each."""
    ca_file: Path | None = None
    old_etag_is_refused: bool = True
    """Completing with the ETag of a part that was replaced since."""

    def session(self) -> boto3.Session:
        """A boto3 session with the engine's credentials, made once: it reads megabytes of JSON."""
        return _session(self.access_key, self.secret_key, self.region)

    def store_session(self) -> Session:
        """The same credentials, for `S3Store`."""
        return session_with(self.access_key, self.secret_key, region=self.region)

    @staticmethod
    def prefix() -> str:
        """A key prefix that no other test has."""
        return f"t-{uuid.uuid4().hex[:12]}/"


@functools.cache
def _session(access_key: str, secret_key: str, region: str) -> boto3.Session:
    return boto3.Session(
        aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name=region
    )


def missing(reason: str) -> NoReturn:
    """Skips where developers may lack a tool; fails where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """SeaweedFS over http."""
    yield from _seaweed("seaweed", tmp_path_factory.mktemp("seaweed"), None)


@pytest.fixture(scope="session")
def seaweed_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """SeaweedFS over https, with a certificate of a private authority."""
    folder = tmp_path_factory.mktemp("seaweed-tls")
    files = make_certificates(folder)
    tls = TlsFiles(certificate=files.certificate, private_key=files.private_key, ca=files.ca)
    yield from _seaweed("seaweed_tls", folder, tls)


def _seaweed(name: str, folder: Path, tls: TlsFiles | None) -> Iterator[Engine]:
    try:
        embedded = EmbeddedS3.start(folder / "data", bucket="tests", tls=tls)
    except EngineMissing as error:
        missing(str(error))
    try:
        yield Engine(
            name=name,
            endpoint=embedded.endpoint,
            access_key=embedded.access_key,
            secret_key=embedded.secret_key,
            region=embedded.region,
            bucket=embedded.bucket,
            ca_file=tls.ca if tls else None,
            old_etag_is_refused=False,
        )
    finally:
        # Nothing in it is wanted any more, and a polite end takes seconds.
        embedded.kill()
        embedded.stop()


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """OpenStack Swift's S3 API: a second opinion, stricter about parts."""
    try:
        running = Swift.start(tmp_path_factory.mktemp("swift"), bucket="tests")
    except SwiftMissing as error:
        missing(str(error))
    try:
        yield Engine(
            name="swift",
            endpoint=running.endpoint,
            access_key=running.access_key,
            secret_key=running.secret_key,
            region=running.region,
            bucket=running.bucket,
        )
    finally:
        running.stop()
