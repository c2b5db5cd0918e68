"""One node of the server inside the test's own process: the real services, without HTTP.

Bodies are scripts: what arrives, in which pieces, and how it ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from tests.support.faults import end_leases
from tusd_py.clock import utc_now
from tusd_py.protocol.requests import (
    BodyFacts,
    CreateRequest,
    PatchRequest,
    parse_create,
    parse_patch,
)
from tusd_py.uploads.body import ClientGone
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.engine import UploadEngine
from tusd_storage.leases import LeaseManager
from tusd_storage.partplan import StoreLimits
from tusd_storage.ports import ObjectStore, SessionStore
from tusd_storage.records import UploadSession
from tusd_storage.tail import NodeTails


class ScriptedBody:
    """A request body that arrives in the given pieces; `gone` ends it with a lost connection."""

    def __init__(
        self,
        pieces: Iterable[bytes],
        *,
        gone: bool = False,
        trailers: dict[str, str] | None = None,
        gate: asyncio.Event | None = None,
    ) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self._gone = gone
        self._trailers = trailers or {}
        self._gate = gate
        self._withdrawn = asyncio.Event()
        self.given = 0
        """Bytes handed out so far."""

    async def read(self) -> bytes:
        """The next piece; waits at the gate once all pieces are out."""
        await asyncio.sleep(0)
        if self._pieces:
            piece = self._pieces.pop(0)
            self.given += len(piece)
            return piece
        if self._gate is not None:
            await self._gate.wait()
        if self._gone:
            raise ClientGone
        return b""

    async def read_into(self, room: memoryview) -> int:
        """As much of the next piece as there is room for; waits at the gate like `read`."""
        await asyncio.sleep(0)
        if not self._pieces:
            if self._gate is None:
                return 0
            self._withdrawn.clear()
            gate = asyncio.create_task(self._gate.wait())
            withdrawn = asyncio.create_task(self._withdrawn.wait())
            try:
                await asyncio.wait([gate, withdrawn], return_when=asyncio.FIRST_COMPLETED)
            finally:
                gate.cancel()
                withdrawn.cancel()
            return 0
        piece = self._pieces.pop(0)
        size = min(len(piece), len(room))
        room[:size] = piece[:size]
        if piece[size:]:
            self._pieces.insert(0, piece[size:])
        self.given += size
        return size

    @property
    def at_hand(self) -> bool:
        """Whether a piece is left that nothing holds up."""
        return bool(self._pieces)

    def withdraw(self) -> None:
        """Ends a `read_into` that waits."""
        self._withdrawn.set()

    def collect(self, size: int) -> None:
        """Each piece is given at once, as it is in a script."""

    def trailer(self, name: str) -> str | None:
        """A trailer of the script."""
        return self._trailers.get(name)


def pieces_of(data: bytes, size: int = 64 * 1024) -> list[bytes]:
    """The data in pieces of `size`, as a socket would give it."""
    return [data[i : i + size] for i in range(0, len(data), size)]


def create_request(length: int | None, **headers: str) -> CreateRequest:
    """A POST without a body."""
    given = {"tus-resumable": "1.0.0", "content-length": "0"}
    if length is None and not headers.get("upload_concat", "").startswith("final"):
        given["upload-defer-length"] = "1"
    elif length is not None:
        given["upload-length"] = str(length)
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_create(given, base_path="/files/", max_size=None)


def patch_request(offset: int, size: int | None, **headers: str) -> PatchRequest:
    """A PATCH; `size` None is chunked coding."""
    given = {
        "tus-resumable": "1.0.0",
        "upload-offset": str(offset),
        "content-type": "application/offset+octet-stream",
    }
    if size is None:
        given["transfer-encoding"] = "chunked"
    else:
        given["content-length"] = str(size)
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_patch(given)


NO_BODY = BodyFacts(content_length=0, checksum=None, checksum_trailer=False)


class Node:
    """One engine with its own tails; several share `sessions` and `objects`."""

    def __init__(
        self,
        sessions: SessionStore,
        objects: ObjectStore,
        folder: Path,
        *,
        name: str = "a",
        bucket: str = "bucket",
        limits: StoreLimits | None = None,
        ttl: timedelta = timedelta(seconds=15),
        now: Callable[[], datetime] = utc_now,
        fsync: bool = False,
        keep_s: float = 0.0,
        **config: object,
    ) -> None:
        self.sessions = sessions
        self.objects = objects
        self.tails = NodeTails(folder, fsync=fsync)
        self.leases = LeaseManager(
            sessions,
            node=name,
            instance=f"{name}-1",
            ttl=ttl,
            now=now,
            is_dead=lambda _: False,
            keep_s=keep_s,
        )
        self.config = UploadConfig(
            bucket=bucket,
            node=name,
            limits=limits or StoreLimits(),
            **config,  # type: ignore[arg-type]
        )
        self.engine = UploadEngine(
            config=self.config,
            sessions=sessions,
            objects=objects,
            tails=self.tails,
            leases=self.leases,
            now=now,
        )

    async def create(self, length: int | None, **headers: str) -> UploadSession:
        """A new upload without a body."""
        return await self.engine.creator.create(
            create_request(length, **headers), ScriptedBody([]), owner=None
        )

    async def patch(
        self,
        upload: UploadSession | str,
        offset: int,
        data: bytes,
        *,
        chunked: bool = False,
        body: ScriptedBody | None = None,
        **headers: str,
    ) -> UploadSession:
        """A PATCH with all of `data`, unless `body` says otherwise."""
        session_id = upload if isinstance(upload, str) else upload.id
        request = patch_request(offset, None if chunked else len(data), **headers)
        return await self.engine.patch(session_id, request, body or ScriptedBody(pieces_of(data)))

    async def offset(self, upload: UploadSession | str) -> int:
        """What HEAD would tell now, without finishing anything."""
        session_id = upload if isinstance(upload, str) else upload.id
        return (await self.engine.find(session_id)).offset

    async def content(self, upload: UploadSession | str) -> bytes:
        """The finished object."""
        session_id = upload if isinstance(upload, str) else upload.id
        row = await self.engine.find(session_id)
        return b"".join([c async for c in self.objects.read(row.bucket, row.object_key)])

    async def aclose(self) -> None:
        """Ends the node's tasks and threads; not what it shares with others."""
        await self.engine.aclose()
        await end_leases(self.leases)
        await self.tails.aclose()


@asynccontextmanager
async def node(
    sessions: SessionStore, objects: ObjectStore, folder: Path, **options: object
) -> AsyncIterator[Node]:
    """A node that ends with the block."""
    it = Node(sessions, objects, folder, **options)  # type: ignore[arg-type]
    try:
        yield it
    finally:
        await it.aclose()
