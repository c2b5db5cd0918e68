"""Ports that fail where they are told to, and processes that die between any two effects.

`Faults` decides about each call of a wrapped port: let it work, fail before or after its effect, or
let the process die there. After a death no wrapped call has any effect any more: what is on disk,
in the database and in the store stays, memory is gone.
"""

import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Any

from tusd_storage.errors import (
    AccessDenied,
    ChecksumRejected,
    DiskFull,
    NoSuchUpload,
    StateUnavailable,
    StorageError,
    StoreUnavailable,
)
from tusd_storage.leases import LeaseManager
from tusd_storage.ports import (
    ObjectStore,
    SessionStore,
    Spool,
    Tail,
    TailFile,
    TailStore,
    Writing,
)
from tusd_storage.records import Append, FileRange, Segment


class Trouble(StrEnum):
    """What happens to one call."""

    NONE = "none"
    FAIL_BEFORE = "fail before"
    FAIL_AFTER = "fail after"
    DIE_BEFORE = "die before"
    DIE_AFTER = "die after"
    REFUSE = "refuse"
    """A store's definitive and wrong answer: see `FaultyObjects`. Elsewhere as FAIL_BEFORE."""
    ROB = "rob"
    """The store loses what it has of this upload, or keeps other bytes than it said."""


class Death(BaseException):
    """The process is gone. Not an Exception: nothing may handle it."""


async def end_leases(leases: LeaseManager) -> None:
    """Ends a process's leases; the dead give nothing back, and let their neighbours end."""
    with suppress(Death):
        await leases.aclose()


class Faults:
    """The plan of one process: what happens to its coming calls, in order."""

    def __init__(self) -> None:
        self.plan: list[Trouble] = []
        self.dead = False
        self.calls = 0
        self.met: Counter[str] = Counter()
        self.robbed: set[str] = set()
        """Object keys that the store has lost something of."""

    def next(self) -> Trouble:
        """What happens to the call that is being made now. Raises: Death, if it happened before."""
        if self.dead:
            raise Death
        self.calls += 1
        trouble = self.plan.pop(0) if self.plan else Trouble.NONE
        self.met[trouble] += 1
        return trouble

    def die(self) -> Death:
        """The process ends here."""
        self.dead = True
        return Death()

    async def call(
        self, method: Callable[..., Any], error: StorageError, args: Any, kwargs: Any
    ) -> Any:
        """One call of a port, under the plan."""
        trouble = self.next()
        if trouble is Trouble.DIE_BEFORE:
            raise self.die()
        if trouble in {Trouble.FAIL_BEFORE, Trouble.REFUSE, Trouble.ROB}:
            raise error
        result = await method(*args, **kwargs)
        if self.dead:  # another task of the process died meanwhile
            raise Death
        if trouble is Trouble.DIE_AFTER:
            raise self.die()
        if trouble is Trouble.FAIL_AFTER:
            raise error
        return result


class _Wrapped:
    def __init__(self, inner: Any, faults: Faults, error: Callable[[], StorageError]) -> None:
        self._inner = inner
        self._faults = faults
        self._error = error

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._faults.call(method, self._error(), args, kwargs)

        return call


class FaultySessions(_Wrapped):
    """A SessionStore that may be away, and whose answers may get lost.

    FAIL_BEFORE is a connection error or a serialization failure, FAIL_AFTER the lost
    acknowledgement of a commit.
    """

    def __init__(self, inner: SessionStore, faults: Faults) -> None:
        super().__init__(inner, faults, lambda: StateUnavailable("the database is away"))

    async def append(self, commit: Append, tail: Writing | None = None) -> None:
        if tail is not None:
            await tail.ahead()  # with the faults of its disk
        await self._faults.call(self._inner.append, self._error(), (commit,), {})


class FaultyObjects(_Wrapped):
    """An ObjectStore that may be down, do it and not say so, say no, or lose what it had.

    At this port a 500, a 503 SlowDown, a time-out, a reset and a 200 with an error in its body are
    one thing: StoreUnavailable, with the effect (FAIL_AFTER) or without (FAIL_BEFORE). REFUSE is
    the refusal that the call knows: of bytes damaged on their way, of a right just taken away, of
    an upload that was completed by the very call whose answer was lost.
    """

    def __init__(self, inner: ObjectStore, faults: Faults) -> None:
        super().__init__(inner, faults, lambda: StoreUnavailable("the store is away"))

    def __getattr__(self, name: str) -> Any:
        ordinary = super().__getattr__(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            trouble = self._faults.plan[0] if self._faults.plan else Trouble.NONE
            if self._faults.dead or trouble not in {Trouble.REFUSE, Trouble.ROB}:
                return await ordinary(*args, **kwargs)
            self._faults.next()
            if trouble is Trouble.REFUSE:
                return await self._refuse(name, args, kwargs)
            return await self._rob(name, args, kwargs)

        return call

    async def _refuse(self, name: str, args: Any, kwargs: Any) -> Any:
        if name in {"put", "upload_part", "copy_part"}:
            raise ChecksumRejected("BadDigest")
        if name == "complete_multipart":
            await self._inner.complete_multipart(*args, **kwargs)
            raise NoSuchUpload("completed by the request before this one")
        raise AccessDenied("AccessDenied")

    async def _rob(self, name: str, args: Any, kwargs: Any) -> Any:
        """The multipart upload vanishes, or a part is not what its ETag says."""
        if name == "upload_part":
            bucket, key, upload_id, number, body = args
            part = await self._inner.upload_part(bucket, key, upload_id, number, body)
            self._faults.robbed.add(key)
            return replace(part, etag='"00000000000000000000000000000000"')
        if name in {"complete_multipart", "copy_part", "list_parts"}:
            bucket, key, upload_id = args[:3]
            await self._inner.abort_multipart(bucket, key, upload_id)
            self._faults.robbed.add(key)
        return await getattr(self._inner, name)(*args, **kwargs)

    async def read(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        """Fails before the first chunk or behind the last."""
        async for chunk in self._iterate(self._inner.read(*args, **kwargs)):
            yield chunk

    async def list_multipart(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Fails before the first or behind the last."""
        async for upload in self._iterate(self._inner.list_multipart(*args, **kwargs)):
            yield upload

    async def _iterate(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        trouble = self._faults.next()
        if trouble is Trouble.DIE_BEFORE:
            raise self._faults.die()
        if trouble in {Trouble.FAIL_BEFORE, Trouble.REFUSE, Trouble.ROB}:
            raise StoreUnavailable("the store is away")
        async for item in items:
            yield item
        if trouble is Trouble.DIE_AFTER:
            raise self._faults.die()
        if trouble is Trouble.FAIL_AFTER:
            raise StoreUnavailable("the store is away")


_DISK_FAILS = {Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER, Trouble.REFUSE, Trouble.ROB}


class FaultyTail:
    """A tail on a disk that may be full."""

    def __init__(self, inner: Tail, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def exists(self) -> bool:
        return self._inner.exists

    def range(self) -> FileRange:
        return self._inner.range()

    def append(self, segments: Sequence[Segment], *, crc32: int) -> "FaultyWriting":
        return FaultyWriting(self._faults, self._inner.append, segments, crc32)

    def drop(self) -> None:
        self._inner.drop()

    async def aclose(self) -> None:
        await self._inner.aclose()


class FaultyWriting:
    """A write to such a tail, always ahead of its commit: between the two the process may die."""

    def __init__(
        self,
        faults: Faults,
        method: Callable[..., Writing],
        segments: Sequence[Segment],
        crc32: int,
    ) -> None:
        self._faults = faults
        self._method = method
        self._segments = segments
        self._crc32 = crc32

    def __call__(self) -> None:
        raise AssertionError("a store with faults writes tails ahead")

    async def ahead(self) -> None:
        trouble = self._faults.next()
        if trouble in _DISK_FAILS:
            raise DiskFull("no room")  # the port promises the old state: there is no `after`
        if trouble is Trouble.DIE_BEFORE:
            # Half of the write had reached the disk when the process died.
            half = [
                piece[: len(piece) // 2] for piece in self._segments if isinstance(piece, bytes)
            ]
            await self._method(half, crc32=0).ahead()
            raise self._faults.die()
        await self._method(self._segments, crc32=self._crc32).ahead()
        if trouble is Trouble.DIE_AFTER:
            raise self._faults.die()


class FaultyTails:
    """A TailStore on a disk that may be full."""

    def __init__(self, inner: TailStore, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def open(self, *args: Any, **kwargs: Any) -> FaultyTail:
        trouble = self._faults.next()
        if trouble in _DISK_FAILS:
            raise DiskFull("no room")
        if trouble is Trouble.DIE_BEFORE:
            raise self._faults.die()
        tail = await self._inner.open(*args, **kwargs)
        if trouble is Trouble.DIE_AFTER:
            await tail.aclose()
            raise self._faults.die()
        return FaultyTail(tail, self._faults)

    async def spool(self) -> Spool:
        spool: Spool = await self._faults.call(self._inner.spool, DiskFull("no room"), (), {})
        return spool

    async def delete(self, session_id: str) -> bool:
        if self._faults.dead:
            raise Death
        return await self._inner.delete(session_id)

    def scan(self) -> Iterator[TailFile]:
        return self._inner.scan()


class DiskTrouble(StrEnum):
    """What happens to one write or flush below the tails."""

    NONE = "none"
    FULL = "full"
    SHORT = "short"
    """Half of the bytes are written, then there is no room."""
    FLUSH = "flush"
    """The flush fails; a write before it goes well."""


class Disk:
    """Stands in for the module `os` where tails are written: the operations, and their failures."""

    def __init__(self) -> None:
        self.plan: list[DiskTrouble] = []
        self.met: Counter[DiskTrouble] = Counter()
        self._full = False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def begin(self, plan: Sequence[DiskTrouble]) -> None:
        """What the coming operations meet, in order."""
        self.plan = list(plan)
        self._full = False

    def pwritev(self, fd: int, chunks: Sequence[Any], offset: int) -> int:
        """Raises: OSError."""
        trouble = self._take({DiskTrouble.FULL, DiskTrouble.SHORT})
        if self._full or trouble is DiskTrouble.FULL:
            self._full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        if trouble is DiskTrouble.SHORT:
            self._full = True
            data = b"".join(chunks)
            chunks = [data[: len(data) // 2]]
        return os.pwritev(fd, chunks, offset)

    def fdatasync(self, fd: int) -> None:
        """Flushes nothing. Raises: OSError."""
        if self._take({DiskTrouble.FLUSH}) is DiskTrouble.FLUSH:
            raise OSError(errno.EIO, "Input/output error")

    fsync = fdatasync

    def _take(self, kinds: set[DiskTrouble]) -> DiskTrouble:
        if not self.plan or self.plan[0] not in {*kinds, DiskTrouble.NONE}:
            return DiskTrouble.NONE
        trouble = self.plan.pop(0)
        self.met[trouble] += 1
        return trouble
