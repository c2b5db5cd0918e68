"""One server under test: its processes, the real store behind it, and the proxy in between."""

import http.client
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import boto3

from bench import servers as known
from bench.processes import Program
from bench.servers import Launch, Server
from bench.stores import Store
from tests.support.fake_s3 import FakeS3
from tests.support.tus import Bucket, TusClient, poll
from tests.support.wire import Wire, request_head

MIB = 2**20
PART = known.PART_SIZE
PATIENCE_S = 20.0
MAX_PARTS = 20


@dataclass(frozen=True)
class Engine:
    """The store itself, past the proxy."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    region: str

    def session(self) -> boto3.Session:
        """With its credentials."""
        return boto3.Session(
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )


@dataclass
class Place:
    """A running server, a client for it, and everything that can be done to both."""

    server: Server
    program: Program
    second: Callable[[], Program]
    """Another process on the same state, not started yet."""
    store: FakeS3
    engine: Engine
    bucket: Bucket
    folder: Path
    hooks: Path

    @property
    def client(self) -> TusClient:
        """Speaks to the first process."""
        return self.client_of(self.program)

    def client_of(self, program: Program) -> TusClient:
        """Speaks to a process."""
        return TusClient(f"http://127.0.0.1:{program.port}{self.server.path}", timeout_s=60)

    def at(self, program: Program, url: str) -> str:
        """An upload's URL at another process."""
        return urljoin(f"http://127.0.0.1:{program.port}", urlsplit(url).path)

    def read(self, url: str) -> bytes | None:
        """The object of an upload: its key is the id, in both servers' defaults."""
        return self.bucket.read(url)

    def restart(self) -> None:
        """Starts the server again if it is dead."""
        if not self.program.alive():
            self.program.__enter__()

    def told(self, url: str) -> int:
        """How often the application was told, or will be told, that the upload is complete."""
        name = url.rpartition("/")[2]
        if self.server.key == "node":
            return self.hooks.read_text().split().count(name) if self.hooks.exists() else 0
        state = sqlite3.connect(self.folder / "data" / "tusd.sqlite3")
        try:
            return len(
                state.execute(
                    "SELECT 1 FROM jobs j JOIN upload_sessions s ON s.asset_id = j.subject"
                    " WHERE s.id = ? AND j.kind = 'promote_asset'",
                    (name,),
                ).fetchall()
            )
        finally:
            state.close()

    def abort(self, url: str) -> None:
        """Aborts the upload's multipart upload, past the server."""
        client = self.engine.session().client("s3", endpoint_url=self.engine.endpoint)
        answer = client.list_multipart_uploads(Bucket=self.engine.bucket)
        for entry in answer.get("Uploads", []):
            if entry["Key"] == self.bucket.key(url):
                client.abort_multipart_upload(
                    Bucket=self.engine.bucket, Key=entry["Key"], UploadId=entry["UploadId"]
                )
        client.close()

    def offset(self, url: str, timeout_s: float = PATIENCE_S) -> int | None:
        """As HEAD tells it, once it answers for good; None when the upload is given up."""

        def look() -> tuple[int | None] | None:
            try:
                answer = self.client.head(url)
            except (OSError, http.client.HTTPException):
                return None
            if answer.status == 200:
                return (int(answer["Upload-Offset"]),)
            return (None,) if answer.status in {403, 404, 410} else None

        try:
            found = poll(look, timeout_s=timeout_s)
        except AssertionError:
            return None
        return found[0] if found else None

    def patch_aside(self, url: str, offset: int, data: bytes) -> threading.Thread:
        """A PATCH in a thread; its end does not matter."""

        def patch() -> None:
            with suppress(OSError, http.client.HTTPException):
                self.client.patch(url, offset, data)

        thread = threading.Thread(target=patch)
        thread.start()
        return thread

    def slow(self, url: str, length: int, *data: bytes) -> Wire:
        """A PATCH of `length` bytes that has sent only these."""
        wire = Wire(self.program.port, timeout_s=60)
        wire.send(patch_head(url, length), *data)
        return wire


def patch_head(url: str, length: int) -> bytes:
    """The head of a PATCH at offset 0."""
    return request_head(
        "PATCH",
        urlsplit(url).path,
        [
            ("Host", "127.0.0.1"),
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Offset", "0"),
            ("Content-Type", "application/offset+octet-stream"),
            ("Content-Length", str(length)),
        ],
    )


def _with(environment: dict[str, str], launch: Launch) -> Launch:
    return Launch(launch.command, {**launch.environment, **environment})


@contextmanager
def place(
    server: Server, cache: Path, folder: Path, engine: Engine, fake: FakeS3
) -> Iterator[Place]:
    """The server, started, with the fault proxy between it and the engine."""
    store = Store(fake.endpoint, engine.access_key, engine.secret_key, engine.bucket)
    hooks = folder / "hooks"
    extra = {
        "TUSD_S3_DEADLINE_S": "1",
        "TUSD_MAX_PARTS": str(MAX_PARTS),
        "BENCH_MAX_PARTS": str(MAX_PARTS),
        "BENCH_HOOKS": str(hooks),
        "TUSD_DATABASE_URL": f"sqlite:///{folder / 'data' / 'tusd.sqlite3'}",
    }

    def program(where: Path, more: dict[str, str]) -> Program:
        told = replace(server, launch=lambda *at: _with(extra | more, server.launch(*at)))
        return told.program(cache, where, store)

    second = {"TUSD_DATA_DIR": str(folder / "second" / "data")}
    first = program(folder, {})
    with first:
        it = Place(
            server=server,
            program=first,
            second=partial(program, folder / "second", second),
            store=fake,
            engine=engine,
            bucket=Bucket(engine),
            folder=folder,
            hooks=hooks,
        )
        yield it
        it.bucket.close()
