"""A server that does the first things of an upload and nothing else; see `floor`.

python -m bench.floor_parts STAGE PORT
"""

import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from isal import isal_zlib

from tusd_py.http.body import AsgiBody
from tusd_py.http.connection import Connection
from tusd_py.protocol.requests import parse_create
from tusd_py.uploads.completion import object_spec
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import new_upload
from tusd_storage.records import Body, Completion
from tusd_storage.s3 import S3Config, S3Store
from tusd_storage.sql import SqlStore, migrate

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class App:
    """An ASGI application; `stage` is a key of `floor.STAGES`."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._config = UploadConfig(bucket=os.environ["BENCH_S3_BUCKET"], node="floor")
        self._objects = S3Store(S3Config(endpoint=os.environ["BENCH_S3_ENDPOINT"]))
        database = f"sqlite:///{Path.cwd() / 'floor.db'}"
        migrate(database)
        self._rows = SqlStore.connect(database)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        body = AsgiBody(scope, receive)
        chunks: list[bytes | memoryview] = []
        while chunk := await body.read():
            chunks.append(chunk)
        size = sum(map(len, chunks))
        if self._stage != "receive" and size:
            await self._store(chunks, size)
        headers = [
            (b"tus-resumable", b"1.0.0"),
            (b"location", b"/files/" + secrets.token_urlsafe(18).encode()),
            (b"upload-offset", str(size).encode()),
            (b"content-length", b"0"),
        ]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _store(self, chunks: list[bytes | memoryview], size: int) -> None:
        now = datetime.now(UTC)
        asked = {"tus-resumable": "1.0.0", "content-length": "0", "upload-length": str(size)}
        request = parse_create(asked, base_path="/files/", max_size=None)
        session, asset = new_upload(request, self._config, owner=None, length=size, now=now)
        if self._stage == "rows":
            await self._rows.create(session, asset)
        crc32 = 0
        for chunk in chunks:
            crc32 = isal_zlib.crc32(chunk, crc32)
        body = Body(segments=tuple(chunks), size=size, crc32=crc32)
        etag = await self._objects.put(object_spec(session), body)
        if self._stage == "rows":
            done = Completion(
                id=session.id,
                epoch=session.lease_epoch,
                size=size,
                etag=etag,
                crc32=crc32,
                content_type=None,
                now=now,
                job_id=secrets.token_urlsafe(16),
            )
            await self._rows.complete(done)


if __name__ == "__main__":
    uvicorn.run(
        App(sys.argv[1]),
        port=int(sys.argv[2]),
        loop="uvloop",
        http=Connection,  # type: ignore[arg-type]  # asyncio.BufferedProtocol is no Protocol
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
    )
