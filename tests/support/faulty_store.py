"""An ObjectStore that fails where a test says so: before the effect or after it.

`FaultyStore` wraps any other one.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from tusd_storage.errors import StorageError
from tusd_storage.ports import ObjectStore, Presigned
from tusd_storage.records import Body, MultipartUpload, ObjectInfo, ObjectSpec, Part

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """Makes one call fail: `before` it has any effect, or `after` it had all of it.

    For `read` and `list_multipart`, `after` means after the first item.
    """

    error: StorageError
    when: Literal["before", "after"] = "before"


class FaultyStore:
    """Any ObjectStore, failing where it is told to.

    `script`: one entry for each coming call of any method, None for one that works. `fail` picks
    the method instead. `hold` makes calls wait for a test's permission, before their effect.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.script: deque[Fault | None] = deque()
        self.calls: Counter[str] = Counter()
        self._planned: dict[str, deque[Fault | None]] = {}
        self._held: dict[str, asyncio.Event] = {}

    def fail(
        self,
        method: str,
        error: StorageError,
        *,
        when: Literal["before", "after"] = "before",
        skip: int = 0,
        times: int = 1,
    ) -> None:
        """After `skip` more calls of `method`, `times` calls raise `error`."""
        planned = self._planned.setdefault(method, deque())
        planned.extend([None] * skip)
        planned.extend([Fault(error, when)] * times)

    def hold(self, method: str) -> asyncio.Event:
        """Calls of `method` wait until the returned event is set."""
        return self._held.setdefault(method, asyncio.Event())

    async def _enter(self, method: str) -> Fault | None:
        """Counts, waits, raises a fault of the `before` kind, returns one of the other."""
        self.calls[method] += 1
        fault = self.script.popleft() if self.script else None
        planned = self._planned.get(method)
        if planned:
            fault = planned.popleft() or fault
        if method in self._held:
            await self._held[method].wait()
        if fault is not None and fault.when == "before":
            raise fault.error
        return fault

    async def _call(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        fault = await self._enter(method)
        result = await call()
        if fault is not None:
            raise fault.error
        return result

    async def _iterate(
        self, method: str, call: Callable[[], AsyncGenerator[T, None]]
    ) -> AsyncGenerator[T, None]:
        fault = await self._enter(method)
        items = call()
        try:
            async for item in items:
                yield item
                if fault is not None:
                    raise fault.error
        finally:
            await items.aclose()

    async def put(
        self, spec: ObjectSpec, body: Body, *, fence: Callable[[], None] | None = None
    ) -> str:
        """As the inner store's."""
        return await self._call("put", lambda: self.inner.put(spec, body, fence=fence))

    async def create_multipart(self, spec: ObjectSpec, *, direct: bool = False) -> str:
        """As the inner store's."""
        return await self._call(
            "create_multipart", lambda: self.inner.create_multipart(spec, direct=direct)
        )

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> Part:
        """As the inner store's."""
        return await self._call(
            "upload_part", lambda: self.inner.upload_part(bucket, key, upload_id, number, body)
        )

    async def copy_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_key: str,
        offset: int,
        size: int,
        crc32: int | None,
    ) -> Part:
        """As the inner store's."""
        return await self._call(
            "copy_part",
            lambda: self.inner.copy_part(
                bucket,
                key,
                upload_id,
                number,
                source_key=source_key,
                offset=offset,
                size=size,
                crc32=crc32,
            ),
        )

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        direct: bool = False,
    ) -> str:
        """As the inner store's."""
        return await self._call(
            "complete_multipart",
            lambda: self.inner.complete_multipart(bucket, key, upload_id, parts, direct=direct),
        )

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """As the inner store's."""
        await self._call(
            "abort_multipart", lambda: self.inner.abort_multipart(bucket, key, upload_id)
        )

    def list_multipart(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """As the inner store's."""
        return self._iterate("list_multipart", lambda: self.inner.list_multipart(bucket, prefix))

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        """As the inner store's."""
        return await self._call("list_parts", lambda: self.inner.list_parts(bucket, key, upload_id))

    async def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """As the inner store's."""
        return await self._call("head", lambda: self.inner.head(bucket, key))

    def read(
        self, bucket: str, key: str, *, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """As the inner store's."""
        return self._iterate("read", lambda: self.inner.read(bucket, key, offset=offset, size=size))

    async def delete(self, bucket: str, key: str) -> None:
        """As the inner store's."""
        await self._call("delete", lambda: self.inner.delete(bucket, key))

    async def presign_get(
        self,
        bucket: str,
        key: str,
        *,
        expires_in_s: int,
        content_disposition: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """As the inner store's."""
        return await self._call(
            "presign_get",
            lambda: self.inner.presign_get(
                bucket,
                key,
                expires_in_s=expires_in_s,
                content_disposition=content_disposition,
                content_type=content_type,
            ),
        )

    async def presign_put(
        self, spec: ObjectSpec, *, expires_in_s: int, content_length: int | None = None
    ) -> Presigned:
        """As the inner store's."""
        return await self._call(
            "presign_put",
            lambda: self.inner.presign_put(
                spec, expires_in_s=expires_in_s, content_length=content_length
            ),
        )

    async def presign_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        expires_in_s: int,
        content_length: int | None = None,
    ) -> Presigned:
        """As the inner store's."""
        return await self._call(
            "presign_part",
            lambda: self.inner.presign_part(
                bucket,
                key,
                upload_id,
                number,
                expires_in_s=expires_in_s,
                content_length=content_length,
            ),
        )

    async def probe(self, bucket: str) -> None:
        """As the inner store's."""
        await self._call("probe", lambda: self.inner.probe(bucket))

    async def aclose(self) -> None:
        """As the inner store's; never fails."""
        await self.inner.aclose()
