"""`post-receive`: how far an upload is, told from time to time while its bytes come in.

Best effort: never stored, never repeated; what happens while a hook is being told is told the next
time. Costs nothing while no hook wants it: then no body is wrapped.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from tusd_py.hooks import origin
from tusd_py.hooks.answers import checked
from tusd_py.hooks.dispatch import Hooks
from tusd_py.hooks.errors import HookFailed, UploadStopped
from tusd_py.hooks.events import HookEvent, HookResponse, HookType, HttpResponse
from tusd_py.hooks.facts import upload_info
from tusd_py.protocol.errors import ProtocolError
from tusd_py.uploads.body import BodyReader
from tusd_storage.errors import StorageError
from tusd_storage.records import UploadSession

log = structlog.get_logger(__name__)

MAX_KNOWN = 10_000
"""Uploads of which a process remembers when they were last told of."""

MAX_LATE = 100
"""Reports under way behind their requests; beyond that they are dropped."""


class Uploads(Protocol):
    """What progress needs of the engine."""

    async def find(self, session_id: str, /) -> UploadSession:
        """The row."""
        ...

    async def terminate(self, session_id: str, /) -> None:
        """Interrupts who writes to it, and ends it."""
        ...


class CountedBody:
    """A request body, and how much of it has been read."""

    def __init__(self, body: BodyReader) -> None:
        self._body = body
        self.count = 0

    @property
    def at_hand(self) -> bool:
        """See `BodyReader`."""
        return self._body.at_hand

    async def read(self) -> bytes:
        """See `BodyReader`."""
        chunk = await self._body.read()
        self.count += len(chunk)
        return chunk

    async def read_into(self, room: memoryview) -> int:
        """See `BodyReader`."""
        size = await self._body.read_into(room)
        self.count += size
        return size

    def withdraw(self) -> None:
        """See `BodyReader`."""
        self._body.withdraw()

    def collect(self, size: int) -> None:
        """See `BodyReader`."""
        self._body.collect(size)

    def trailer(self, name: str) -> str | None:
        """See `BodyReader`."""
        return self._body.trailer(name)


class Progress:
    """Tells of all uploads of this process."""

    def __init__(self, hooks: Hooks, uploads: Uploads, *, interval_s: float) -> None:
        self._hooks = hooks
        self._uploads = uploads
        self._interval_s = interval_s
        self._told_at: dict[str, float] = {}
        self._late: set[asyncio.Task[None]] = set()
        self.enabled = hooks.wants(HookType.POST_RECEIVE)

    @asynccontextmanager
    async def over(self, body: CountedBody, offset: int) -> AsyncIterator["Report"]:
        """Tells while the block reads the body, from when the block has said of which upload.

        Raises: UploadStopped, in place of whatever the block raised, when a hook wanted that; the
        upload has been terminated then."""
        report = Report(self._hooks, self._uploads, offset, body)
        task = asyncio.create_task(self._run(report), name="progress")
        try:
            yield report
        except Exception:
            await self._end(report, task)
            if report.stopped is None:
                raise
        finally:
            await self._end(report, task)
        if report.stopped is not None:
            raise UploadStopped(report.stopped)
        self._tell_late(report)

    async def aclose(self) -> None:
        """Ends what is still being told."""
        for task in self._late:
            task.cancel()
        if self._late:
            await asyncio.wait(self._late)

    def _remember(self, session_id: str, at: float) -> None:
        if session_id not in self._told_at and len(self._told_at) >= MAX_KNOWN:
            del self._told_at[next(iter(self._told_at))]
        self._told_at[session_id] = at

    async def _run(self, report: "Report") -> None:
        while report.stopped is None:
            await asyncio.sleep(self._interval_s)
            if report.session_id is not None:
                self._remember(report.session_id, asyncio.get_running_loop().time())
                await report.tell()

    def _tell_late(self, report: "Report") -> None:
        """Clients that send in short requests have progress, too: told behind the answer."""
        if report.session_id is None:
            return
        now = asyncio.get_running_loop().time()
        last = self._told_at.get(report.session_id)
        if last is None:
            self._remember(report.session_id, report.begun_at)
            last = report.begun_at
        if now - last >= self._interval_s and len(self._late) < MAX_LATE:
            self._remember(report.session_id, now)
            task = asyncio.create_task(report.tell(may_stop=False), name="late-progress")
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    @staticmethod
    async def _end(report: "Report", task: asyncio.Task[None]) -> None:
        if not report.stopping:
            task.cancel()
        await asyncio.wait([task])


class Report:
    """One request's progress."""

    def __init__(self, hooks: Hooks, uploads: Uploads, offset: int, body: CountedBody) -> None:
        self._hooks = hooks
        self._uploads = uploads
        self._offset = offset
        self._body = body
        self._told = 0
        self._session: UploadSession | None = None
        self.session_id: str | None = None
        self.begun_at = asyncio.get_running_loop().time()
        self.stopping = False
        self.stopped: HttpResponse | None = None

    def about(self, session_id: str) -> None:
        """Says which upload the body is for."""
        self.session_id = session_id

    async def tell(self, *, may_stop: bool = True) -> None:
        """Tells if there is something new. What fails is logged, and nothing else happens."""
        session_id = self.session_id
        if session_id is None or self._body.count == self._told:
            return
        try:
            said = await self._ask(session_id)
            if said.stop_upload and may_stop:
                await self._stop(session_id, checked(said.http_response))
        except (HookFailed, ProtocolError, StorageError) as error:
            name = type(error).__name__
            log.warning("progress_not_told", upload=session_id, reason=name)

    async def _ask(self, session_id: str) -> HookResponse:
        if self._session is None:
            self._session = await self._uploads.find(session_id)
        self._told = self._body.count
        event = HookEvent(
            upload=upload_info(self._session, offset=self._offset + self._told),
            http_request=origin.described(origin.current()),
        )
        return await self._hooks.ask(
            HookType.POST_RECEIVE, event, f"evt_{secrets.token_urlsafe(18)}", retrying=False
        )

    async def _stop(self, session_id: str, answer: HttpResponse) -> None:
        """Interrupts the request, which waits for this to end, and terminates the upload."""
        self.stopping = True
        try:
            await self._uploads.terminate(session_id)
            self.stopped = answer
        finally:
            self.stopping = False
        log.info("upload_stopped", upload=session_id)
