"""The tails of this node: `ports.TailStore` on a local file system.

Owns a folder and a few threads. Knows neither uploads nor the database: what a tail must contain
is told by the caller, from the row.
"""

import asyncio
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tusd_storage.errors import StaleLease, TailMissing
from tusd_storage.pool import Pool, despite_cancellation
from tusd_storage.ports import TailFile
from tusd_storage.records import FileRange
from tusd_storage.tail.files import crc32_of, disk_errors, write_segments
from tusd_storage.tail.paths import session_id_of, tail_folder, tail_name
from tusd_storage.tail.tail import Content, NodeSpool, NodeTail, found_at, identity_of
from tusd_storage.tail.together import Together

T = TypeVar("T")

_THREADS = 8
"""Flushes wait for the disk, not for the processor."""

_MOVING = ".steal-"
_RESIDUE_AGE_S = 3600
"""A tail is moved within seconds: an older copy was left by a process that died over it."""

_REMEMBERED = 10_000
"""Tails whose content this process wrote itself and need not read again to trust."""


_MOST_OPEN = 64
_OPEN_S = 5.0
"""So many tails stay open for so long after their request, for the next one."""


class NodeTails:
    """Implements `ports.TailStore` below `<root>/tus/`."""

    def __init__(self, root: Path, *, fsync: bool = True) -> None:
        self._root = root
        self._folder = str(tail_folder(root))
        self._fsync = fsync
        self._threads = Pool(_THREADS, "tail")
        self._together = Together(self._threads)
        self._trusted: OrderedDict[str, Content] = OrderedDict()
        self._open: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        folder = tail_folder(root)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_residue(folder)

    async def open(
        self,
        session_id: str,
        *,
        size: int,
        crc32: int,
        fresh: bool,
        steal: bool,
        fence: Callable[[], None],
        untouched: bool = False,
        new: bool = False,
    ) -> NodeTail:
        """See `ports.TailStore`. Raises: TailMissing, DiskFull, StaleLease."""
        fd = residue = None
        known = not fresh and not steal and session_id in self._trusted
        if known:
            fence()
        left = self._open.pop(session_id, None)
        ours = False
        if known:
            fd, ours = self._reopened(session_id, left and left[0], size, crc32)
        elif left is not None:
            os.close(left[0])
        if fresh and not new:
            residue = found_at(self._path(session_id))
        if untouched and (residue is not None if fresh else not ours):
            raise StaleLease(session_id)
        if not fresh and fd is None:
            path = self._path(session_id)
            fd = await self._opened(self._guard, session_id, path, size, crc32, steal, fence)
        return NodeTail(
            session_id=session_id,
            root=self._root,
            fd=fd,
            residue=residue,
            size=size,
            fsync=self._fsync,
            crc32=crc32,
            run=self._run,
            fence=fence,
            leave=self._leave,
            close=self._close,
        )

    def _leave(self, session_id: str, fd: int, content: Content) -> None:
        """Keeps the file open for a while: the next request mostly comes at once."""
        self._trusted[session_id] = content
        self._trusted.move_to_end(session_id)
        if len(self._trusted) > _REMEMBERED:
            self._trusted.popitem(last=False)
        before = self._open.pop(session_id, None)
        if before is not None:
            os.close(before[0])
        self._open[session_id] = (fd, time.monotonic())
        if len(self._open) > _MOST_OPEN:
            _, (oldest, _) = self._open.popitem(last=False)
            os.close(oldest)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_OPEN_S, self._close_unused)

    def _close_unused(self) -> None:
        latest = time.monotonic() - _OPEN_S
        while self._open and next(iter(self._open.values()))[1] <= latest:
            _, (fd, _) = self._open.popitem(last=False)
            os.close(fd)
        self._timer = None
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(_OPEN_S, self._close_unused)

    def _path(self, session_id: str) -> str:
        return f"{self._folder}/{tail_name(session_id)}"

    def _reopened(
        self, session_id: str, fd: int | None, size: int, crc32: int
    ) -> tuple[int | None, bool]:
        """The tail if it holds just these bytes, and whether it is as this process left it.

        That needs no thread: its name and its inode are in the kernel's memory, and nothing of it
        is read.
        """
        if fd is None:
            try:
                fd = os.open(self._path(session_id), os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                return None, False
        stat = os.fstat(fd)
        identity, *committed = self._trusted[session_id]
        ours = stat.st_nlink > 0 and identity == identity_of(stat)
        if ours and committed == [size, crc32]:
            return fd, True
        os.close(fd)
        return None, ours

    def _guard(
        self,
        session_id: str,
        path: str,
        size: int,
        crc32: int,
        steal: bool,
        fence: Callable[[], None],
    ) -> int:
        with disk_errors():  # no open file left, no permission: not now is not never
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise TailMissing(session_id, "absent") from error
        try:
            self._prove(session_id, fd, size, crc32)
            fence()
            with disk_errors():
                if os.fstat(fd).st_size > size:
                    os.ftruncate(fd, size)
                return self._move(fd, path, size, fence) if steal else fd
        except BaseException:
            os.close(fd)
            raise

    def _prove(self, session_id: str, fd: int, size: int, crc32: int) -> None:
        stat = os.fstat(fd)
        if self._trusted.get(session_id) == (identity_of(stat), size, crc32):
            return
        if stat.st_size < size:
            raise TailMissing(session_id, "short")
        with disk_errors():
            found = crc32_of(FileRange(fd=fd, offset=0, size=size))
        if found != crc32:
            raise TailMissing(session_id, "damaged")

    def _move(self, fd: int, path: str, size: int, fence: Callable[[], None]) -> int:
        """Copies the tail into a new file under the same name; returns its handle."""
        # Open before the name changes: a rename that could not be flushed might not last.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            new, name = tempfile.mkstemp(dir=self._folder, prefix=_MOVING)
            try:
                write_segments(new, 0, [FileRange(fd=fd, offset=0, size=size)])
                os.fdatasync(new)
                fence()  # who stood still meanwhile has lost it, and its copy is old
                Path(name).replace(path)
                os.fsync(folder)
            except BaseException:
                os.close(new)
                Path(name).unlink(missing_ok=True)
                raise
        finally:
            os.close(folder)
        os.close(fd)
        return new

    async def spool(self) -> NodeSpool:
        """See `ports.TailStore`."""
        fd = await _outcome(self._together.run(self._anonymous), _close)
        return NodeSpool(fd, self._run_together)

    def _anonymous(self) -> int:
        with disk_errors(), tempfile.TemporaryFile(dir=self._folder) as file:
            return os.dup(file.fileno())

    async def delete(self, session_id: str) -> bool:
        """See `ports.TailStore`."""
        self._trusted.pop(session_id, None)
        left = self._open.pop(session_id, None)
        try:
            return await self._run(self._unlink, self._path(session_id))
        finally:
            if left is not None:
                self._close(left[0])

    def _close(self, fd: int) -> None:
        """Of a file without a name, that frees its blocks: longer than a request should wait."""
        try:
            self._threads.submit(os.close, fd)
        except RuntimeError:  # the threads have ended
            os.close(fd)

    @staticmethod
    def _unlink(path: str) -> bool:
        try:
            Path(path).unlink()
        except FileNotFoundError:
            return False
        return True

    def scan(self) -> Iterator[TailFile]:
        """See `ports.TailStore`. Blocking, one directory entry at a time."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                session_id = session_id_of(Path(entry.path))
                if session_id is None:
                    continue
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                modified_at = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield TailFile(session_id=session_id, size=stat.st_size, modified_at=modified_at)

    async def aclose(self) -> None:
        """Ends the threads; work under way finishes first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._open:
            _, (fd, _) = self._open.popitem()
            os.close(fd)
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[..., T], /, *args: Any) -> T:
        """Awaits blocking work; a cancelled caller waits for the thread before it goes."""
        return await _outcome(self._submit(work, *args))

    async def _run_together(self, work: Callable[..., T], /, *args: Any) -> T:
        """The same, for work that may wait for what others ask for meanwhile."""
        return await _outcome(self._together.run(partial(work, *args)))

    async def _opened(self, work: Callable[..., int], /, *args: Any) -> int:
        """As `_run`, of work that opens a file: for a cancelled caller it is closed again."""
        return await _outcome(self._submit(work, *args), _close)

    def _submit(self, work: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


async def _outcome(
    future: "asyncio.Future[T]", abandon: Callable[["asyncio.Future[T]"], None] | None = None
) -> T:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if abandon is not None:
            future.add_done_callback(abandon)
        await despite_cancellation(future)
        raise


def _close(future: "asyncio.Future[int]") -> None:
    if future.exception() is None:
        os.close(future.result())


def _remove_residue(folder: Path) -> None:
    oldest = time.time() - _RESIDUE_AGE_S
    for path in folder.glob(_MOVING + "*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
