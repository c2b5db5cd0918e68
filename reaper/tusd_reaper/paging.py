"""Long listings in pieces that fit into memory: pages of rows, of files, of multipart uploads."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tusd_storage.ports import TailFile
from tusd_storage.records import UploadSession

R = TypeVar("R")


async def by_id(
    fetch: Callable[[str | None], Awaitable[list[UploadSession]]],
) -> AsyncGenerator[UploadSession, None]:
    """All rows of a listing whose key is the id; `fetch` gives the page behind one."""
    after: str | None = None
    while page := await fetch(after):
        for row in page:
            yield row
        after = page[-1].id


async def by_row(
    fetch: Callable[[R | None], Awaitable[list[R]]],
) -> AsyncGenerator[list[R], None]:
    """The pages of a listing whose key is the row; `fetch` gives the page behind one."""
    after: R | None = None
    while page := await fetch(after):
        yield page
        after = page[-1]


async def in_batches(items: AsyncIterator[R], size: int) -> AsyncGenerator[list[R], None]:
    """The items, `size` at a time."""
    batch: list[R] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def scanned(
    scan: Callable[[], Iterator[TailFile]], size: int
) -> AsyncGenerator[list[TailFile], None]:
    """What a blocking scan finds, `size` at a time; it runs in a thread of its own.

    Raises: OSError, when the folder cannot be read.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="scan") as thread:
        files = await loop.run_in_executor(thread, scan)
        try:
            while batch := await loop.run_in_executor(thread, _take, files, size):
                yield batch
        finally:
            await loop.run_in_executor(thread, _close, files)


def _take(files: Iterator[TailFile], size: int) -> list[TailFile]:
    return list(islice(files, size))


def _close(files: Iterator[TailFile]) -> None:
    """Frees the folder's handle where the scan ended early."""
    close = getattr(files, "close", None)
    if close is not None:
        close()
