"""Ports that fail where they are told to, and processes that die between any two effects.

`Faults` decides about each call of a wrapped port: let it work, fail before or after its effect, or
let the process die there. After a death no wrapped call has any effect any more: what is on disk,
in the database and in the store stays, memory is gone.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from typing import Any

from tusd_storage.errors import DiskFull, StateUnavailable, StorageError, StoreUnavailable
from tusd_storage.ports import ObjectStore, SessionStore, Spool, Tail, TailStore
from tusd_storage.records import FileRange, Segment


class Trouble(StrEnum):
    """What happens to one call."""

    NONE = "none"
    FAIL_BEFORE = "fail before"
    FAIL_AFTER = "fail after"
    DIE_BEFORE = "die before"
    DIE_AFTER = "die after"


class Death(BaseException):
    """The process is gone. Not an Exception: nothing may handle it."""


class Faults:
    """The plan of one process: what happens to its coming calls, in order."""

    def __init__(self) -> None:
        self.plan: list[Trouble] = []
        self.dead = False
        self.calls = 0

    def next(self) -> Trouble:
        """What happens to the call that is being made now. Raises: Death, if it happened before."""
        if self.dead:
            raise Death
        self.calls += 1
        return self.plan.pop(0) if self.plan else Trouble.NONE

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
        if trouble is Trouble.FAIL_BEFORE:
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
    """A SessionStore whose answers may get lost."""

    def __init__(self, inner: SessionStore, faults: Faults) -> None:
        super().__init__(inner, faults, lambda: StateUnavailable("the database is away"))


class FaultyObjects(_Wrapped):
    """An ObjectStore that may be down, or do it and not say so."""

    def __init__(self, inner: ObjectStore, faults: Faults) -> None:
        super().__init__(inner, faults, lambda: StoreUnavailable("the store is away"))

    async def read(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        """Fails before the first chunk or behind the last."""
        trouble = self._faults.next()
        if trouble is Trouble.DIE_BEFORE:
            raise self._faults.die()
        if trouble is Trouble.FAIL_BEFORE:
            raise StoreUnavailable("the store is away")
        async for chunk in self._inner.read(*args, **kwargs):
            yield chunk
        if trouble is Trouble.DIE_AFTER:
            raise self._faults.die()
        if trouble is Trouble.FAIL_AFTER:
            raise StoreUnavailable("the store is away")


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

    async def append(self, segments: Sequence[Segment], *, crc32: int) -> None:
        await self._write(self._inner.append, segments, crc32)

    async def replace(self, segments: Sequence[Segment], *, crc32: int) -> None:
        await self._write(self._inner.replace, segments, crc32)

    async def _write(
        self, method: Callable[..., Any], segments: Sequence[Segment], crc32: int
    ) -> None:
        trouble = self._faults.next()
        if trouble in {Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER}:
            raise DiskFull("no room")  # the port promises the old state: there is no `after`
        if trouble is Trouble.DIE_BEFORE:
            # Half of the write had reached the disk when the process died.
            half = [piece[: len(piece) // 2] for piece in segments if isinstance(piece, bytes)]
            await method(half, crc32=0)
            raise self._faults.die()
        await method(segments, crc32=crc32)
        if trouble is Trouble.DIE_AFTER:
            raise self._faults.die()

    async def aclose(self) -> None:
        await self._inner.aclose()


class FaultyTails:
    """A TailStore on a disk that may be full."""

    def __init__(self, inner: TailStore, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def open(self, *args: Any, **kwargs: Any) -> FaultyTail:
        trouble = self._faults.next()
        if trouble in {Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER}:
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
