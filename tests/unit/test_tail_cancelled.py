"""Callers of tails that are cancelled while a thread opens a file: the file is closed again."""

import asyncio
import os
import threading
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.tus import poll
from tusd_storage.tail import NodeTails, tail_path

ID = "n-1~AbC_-9"
DATA = b"acknowledged"


def open_files() -> set[str]:
    """What this process has open of ordinary files; one that ends meanwhile counts as closed."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(f"{entry.name} {entry.readlink()}")
    return found


async def broken_off(
    work: Callable[[], Awaitable[object]],
    entered: threading.Event,
    proceed: threading.Event,
    *,
    times: int,
) -> None:
    """Cancels the caller while its thread is at work, and then lets that go on."""
    task = asyncio.ensure_future(work())
    await asyncio.to_thread(entered.wait, 10)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("what", ["tail", "stolen", "spool"])
async def test_nothing_stays_open(
    what: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tails = NodeTails(tmp_path)
    tail_path(ID, root=tmp_path).write_bytes(DATA)
    entered, proceed = threading.Event(), threading.Event()

    def fence() -> None:
        entered.set()
        assert proceed.wait(10)

    if what == "spool":
        real = os.dup

        def dup(fd: int) -> int:
            fence()
            return real(fd)

        monkeypatch.setattr(os, "dup", dup)

    async def work() -> object:
        if what == "spool":
            return await tails.spool()
        return await tails.open(
            ID,
            size=len(DATA),
            crc32=zlib.crc32(DATA),
            fresh=False,
            steal=what == "stolen",
            fence=fence,
        )

    before = open_files()
    await broken_off(work, entered, proceed, times=times)
    await tails.aclose()
    await asyncio.to_thread(poll, lambda: not [f for f in open_files() - before if "tus" in f])


async def test_a_refusal_that_nobody_waits_for_is_no_noise(tmp_path: Path) -> None:
    """The thread raises after its caller went: nothing is left, and nothing is told."""
    tails = NodeTails(tmp_path)
    tail_path(ID, root=tmp_path).write_bytes(DATA)
    entered, proceed = threading.Event(), threading.Event()

    def fence() -> None:
        entered.set()
        assert proceed.wait(10)
        raise RuntimeError("the lease is gone")

    async def work() -> object:
        crc32 = zlib.crc32(DATA)
        return await tails.open(
            ID, size=len(DATA), crc32=crc32, fresh=False, steal=False, fence=fence
        )

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    before = open_files()
    await broken_off(work, entered, proceed, times=2)
    await tails.aclose()
    assert told == []
    assert not [f for f in open_files() - before if "tus" in f]
