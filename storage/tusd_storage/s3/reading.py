"""GetObject as a stream: bounded memory, no thread held between chunks, no short read unnoticed."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from tusd_storage.errors import StoreRefused, StoreUnavailable
from tusd_storage.s3 import faults
from tusd_storage.s3.calls import Calls
from tusd_storage.s3.threads import Threads

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

CHUNK = 1024 * 1024


class Reader:
    """Reads objects, on threads that do nothing else."""

    def __init__(self, client: "S3Client", calls: Calls, threads: Threads) -> None:
        self._client = client
        self._calls = calls
        self._threads = threads

    async def read(
        self, bucket: str, key: str, *, offset: int, size: int | None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes, in chunks. Closing early closes the connection.

        Raises: NoSuchObject, StoreUnavailable when bytes are missing in the end,
        StoreRefused("InvalidRange") when the object does not reach that far.
        """
        if size == 0:
            # No Range header can say "nothing".
            await self._calls.call(
                "HeadObject", lambda: self._client.head_object(Bucket=bucket, Key=key)
            )
            return
        answer = await self._open(bucket, key, _range(offset, size))
        stream = _Stream(answer["Body"], self._threads)
        try:
            expected = _expected(answer, offset, size)
            while expected:
                chunk = await stream.next(min(CHUNK, expected))
                expected -= len(chunk)
                yield chunk
        finally:
            stream.close()

    async def _open(self, bucket: str, key: str, byte_range: str) -> "GetObjectOutputTypeDef":
        def request() -> "GetObjectOutputTypeDef":
            if byte_range:
                return self._client.get_object(Bucket=bucket, Key=key, Range=byte_range)
            return self._client.get_object(Bucket=bucket, Key=key)

        return await self._calls.call(
            "GetObject", request, discard=lambda answer: answer["Body"].close()
        )


class _Stream:
    """The body of one answer."""

    def __init__(self, body: "StreamingBody", threads: Threads) -> None:
        self._body = body
        self._threads = threads
        self._reading: Future[bytes] | None = None

    async def next(self, size: int) -> bytes:
        """Between one and `size` bytes. Raises StoreUnavailable where there are none."""

        def read() -> bytes:
            try:
                return self._body.read(size)
            except faults.FOREIGN as error:
                raise faults.from_exception("GetObject", error) from error

        self._reading = self._threads.submit(read)
        chunk = await asyncio.wrap_future(self._reading)
        if not chunk:
            raise StoreUnavailable("GetObject: the body ended early")
        return chunk

    def close(self) -> None:
        """Frees the connection: once the read under way has ended, if a cancelled one left any."""
        if self._reading is None:
            self._body.close()
        else:
            self._reading.add_done_callback(lambda _: self._body.close())


def _range(offset: int, size: int | None) -> str:
    """A Range header; empty for the whole object."""
    if size is not None:
        return f"bytes={offset}-{offset + size - 1}"
    return f"bytes={offset}-" if offset else ""


def _expected(answer: "GetObjectOutputTypeDef", offset: int, size: int | None) -> int:
    """Bytes to come. Raises StoreRefused when the store answers with another range."""
    length = answer["ContentLength"]
    ranged = bool(_range(offset, size))
    if ranged and not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
        raise StoreRefused("RangeIgnored", "GetObject: the store did not honour the range")
    if size is not None and length != size:
        raise StoreRefused("InvalidRange", "GetObject: the object ends before the range")
    return length
