"""Blocking file work: writing segments, flushing, checksums. Runs in threads only."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from isal import isal_zlib

from tusd_storage.errors import DiskFull
from tusd_storage.records import FileRange, Segment

BLOCK_SIZE = 1024 * 1024
_AT_ONCE = 1024
"""Pieces that the system takes in one call."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turns a full disk, and any other failure to write, into DiskFull."""
    try:
        yield
    except OSError as error:
        what = "is full" if error.errno in _NO_ROOM else f"failed ({error.strerror})"
        raise DiskFull(f"the disk for tails {what}") from error


def write_segments(fd: int, position: int, segments: Sequence[Segment]) -> int:
    """Writes all segments from `position` on; returns the position behind them."""
    chunks: list[bytes | memoryview] = []
    for segment in segments:
        if isinstance(segment, FileRange):
            position = _write(fd, position, chunks)
            position = _copy(segment, fd, position)
            chunks = []
        else:
            chunks.append(segment)
    return _write(fd, position, chunks)


def _write(fd: int, position: int, chunks: Sequence[bytes | memoryview]) -> int:
    while chunks:
        count = os.pwritev(fd, chunks[:_AT_ONCE], position)
        position += count
        chunks = _behind(chunks, count)
    return position


def _behind(chunks: Sequence[bytes | memoryview], count: int) -> Sequence[bytes | memoryview]:
    """What is left of them after so many bytes."""
    for index, chunk in enumerate(chunks):
        if len(chunk) > count:
            return [memoryview(chunk)[count:], *chunks[index + 1 :]]
        count -= len(chunk)
    return ()


def _copy(source: FileRange, fd: int, position: int) -> int:
    for block in read_blocks(source):
        position = _write(fd, position, [block])
    return position


def read_blocks(source: FileRange) -> Iterator[bytes]:
    """The bytes of a range, block by block. Raises OSError when the file is shorter."""
    offset, end = source.offset, source.offset + source.size
    while offset < end:
        block = os.pread(source.fd, min(BLOCK_SIZE, end - offset), offset)
        if not block:
            raise OSError(errno.EIO, "file is shorter than its range")
        offset += len(block)
        yield block


def crc32_of(source: FileRange) -> int:
    """CRC-32 of the bytes of a range."""
    crc = 0
    for block in read_blocks(source):
        crc = isal_zlib.crc32(block, crc)
    return crc


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Makes a new or renamed directory entry durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
