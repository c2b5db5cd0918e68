"""One open tail, and one anonymous spool. Their blocking work runs on the store's threads."""

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tusd_storage.errors import LeaseLost
from tusd_storage.records import FileRange, Segment
from tusd_storage.tail.files import disk_errors, sync_folder, write_segments
from tusd_storage.tail.paths import tail_path

T = TypeVar("T")

Identity = tuple[int, int, int]

Content = tuple[Identity, int, int]
"""A file, how much of it is committed in bytes, and the CRC-32 of that."""


def identity_of(stat: os.stat_result) -> Identity:
    """What changes with every write to a file and cannot be set back: inode, ctime, size."""
    return stat.st_ino, stat.st_ctime_ns, stat.st_size


def found_at(path: Path | str) -> Identity | None:
    """What stands at a path now; None for nothing."""
    try:
        return identity_of(os.stat(path))  # noqa: PTH116 - on the hot path
    except FileNotFoundError:
        return None


class Runner(Protocol):
    """Runs blocking work on the threads of the tail store."""

    def __call__(self, work: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Awaits `work(*args)`; a cancelled caller still waits for the thread to end."""
        ...


class NodeTail:
    """Implements `ports.Tail` on one file handle.

    The file may be longer than what is committed: what was dropped stays until it is written over.
    Blocks that are there already are flushed several times as fast as those a file gets anew, and
    to cut them off takes a disk longer than most requests.
    """

    def __init__(
        self,
        *,
        session_id: str,
        root: Path,
        fd: int | None,
        residue: Identity | None,
        size: int,
        fsync: bool,
        crc32: int,
        run: Runner,
        fence: Callable[[], None],
        leave: Callable[[str, int, Content], None],
        close: Callable[[int], None],
    ) -> None:
        self._session_id = session_id
        self._root = root
        self._fd = fd
        self._residue = residue
        self._size = size
        self._crc32 = crc32
        self._fsync = fsync
        self._run = run
        self._fence = fence
        self._leave = leave
        self._close = close
        self._identity: Identity | None = None
        """Of the file as our last write left it."""

    @property
    def exists(self) -> bool:
        """See `ports.Tail`."""
        return self._fd is not None

    def range(self) -> FileRange:
        """See `ports.Tail`."""
        if self._fd is None:
            return FileRange(fd=-1, offset=0, size=0)
        return FileRange(fd=self._fd, offset=0, size=self._size)

    def append(self, segments: Sequence[Segment], *, crc32: int) -> "NodeWriting":
        """See `ports.Tail`."""
        return NodeWriting(self._run, partial(self._append, segments, crc32))

    def drop(self) -> None:
        """See `ports.Tail`."""
        self._size = self._crc32 = 0

    async def aclose(self) -> None:
        """See `ports.Tail`."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        stat = os.fstat(fd)
        identity = self._identity or identity_of(stat)
        if stat.st_nlink and identity[-1] >= self._size:
            self._leave(self._session_id, fd, (identity, self._size, self._crc32))
        else:
            self._close(fd)

    def _append(self, segments: Sequence[Segment], crc32: int) -> None:
        self._fence()
        self._identity = None
        with disk_errors():
            fd = self._writable()
            try:
                end = write_segments(fd, self._size, segments)
                if end > self._size:
                    self._flush(fd)
            except OSError:
                os.ftruncate(fd, self._size)
                raise
        self._size, self._crc32 = end, crc32
        self._identity = identity_of(os.fstat(fd))

    def _writable(self) -> int:
        if self._fd is None:
            self._fd = self._create()
        return self._fd

    def _create(self) -> int:
        """A fresh file. Residue is what stood there at offset 0 when we had just got the lease.

        Anything newer is the tail of somebody who has it now, whatever our clock says.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        path = tail_path(self._session_id, root=self._root)
        try:
            fd = os.open(path, flags, 0o600)
        except FileExistsError:
            self._fence()
            if found_at(path) != self._residue:
                raise LeaseLost(self._session_id) from None
            path.unlink(missing_ok=True)
            try:
                fd = os.open(path, flags, 0o600)
            except FileExistsError as error:
                raise LeaseLost(self._session_id) from error
        if self._fsync:
            try:
                sync_folder(path.parent)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def _flush(self, fd: int) -> None:
        if self._fsync:
            os.fdatasync(fd)


class NodeWriting:
    """Implements `ports.Writing`."""

    def __init__(self, run: Runner, work: Callable[[], None]) -> None:
        self._run = run
        self._work = work

    def __call__(self) -> None:
        """See `ports.Writing`."""
        self._work()

    async def ahead(self) -> None:
        """See `ports.Writing`."""
        await self._run(self._work)


class NodeSpool:
    """Implements `ports.Spool` on an unlinked temporary file."""

    def __init__(self, fd: int, run: Runner) -> None:
        self.size = 0
        self._fd = fd
        self._run = run

    async def write(self, segments: Sequence[Segment]) -> None:
        """See `ports.Spool`."""
        self.size = await self._run(self._write, segments)

    def _write(self, segments: Sequence[Segment]) -> int:
        with disk_errors():
            return write_segments(self._fd, self.size, segments)

    def range(self) -> FileRange:
        """See `ports.Spool`."""
        return FileRange(fd=self._fd, offset=0, size=self.size)

    def close(self) -> None:
        """See `ports.Spool`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
