"""Small writes that share one hand-over to a thread: each has its own outcome."""

import asyncio
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tusd_storage.errors import DiskFull
from tusd_storage.tail import NodeTails
from tusd_storage.tail.files import read_blocks, write_segments
from tusd_storage.tail.together import Together


async def test_what_is_asked_for_in_one_turn_is_done_by_one_thread_in_order() -> None:
    with ThreadPoolExecutor(4) as threads:
        together = Together(threads)
        done: list[int] = []

        def work(number: int) -> int:
            done.append(number)
            if number == 3:
                raise OSError(number)
            return threading.get_ident()

        asked = [together.run(lambda n=number: work(n)) for number in range(8)]  # type: ignore[misc]
        asked[5].cancel()
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert done == list(range(8))
    assert isinstance(results.pop(5), asyncio.CancelledError)
    assert isinstance(results.pop(3), OSError)
    assert len(set(results)) == 1


async def test_after_the_threads_have_ended_it_says_so() -> None:
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    with pytest.raises(RuntimeError):
        await Together(threads).run(lambda: None)


async def test_one_full_spool_is_nothing_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tails = NodeTails(tmp_path)
    spools = [await tails.spool() for _ in range(3)]
    broken = spools[1].range().fd
    real = os.pwritev

    def pwritev(fd: int, chunks: Sequence[bytes], position: int) -> int:
        if fd == broken:
            raise OSError(28, "No space left on device")
        return real(fd, chunks, position)

    monkeypatch.setattr(os, "pwritev", pwritev)
    writes = [spool.write([b"one", b"two"]) for spool in spools]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), DiskFull, type(None)]
    assert [spool.size for spool in spools] == [6, 0, 6]
    assert b"".join(read_blocks(spools[2].range())) == b"onetwo"
    for spool in spools:
        spool.close()
    await tails.aclose()


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_a_write_that_the_system_cuts_short_goes_on(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev

    def pwritev(fd: int, chunks: Sequence[bytes], position: int) -> int:
        return real(fd, [b"".join(chunks)[:most]], position)

    monkeypatch.setattr(os, "pwritev", pwritev)
    chunks = [b"ab", b"", memoryview(b"cdefg"), b"h", b""]
    with (tmp_path / "file").open("wb") as file:
        assert write_segments(file.fileno(), 0, chunks) == 8
    assert (tmp_path / "file").read_bytes() == b"abcdefgh"


def test_more_pieces_than_the_system_takes_at_once(tmp_path: Path) -> None:
    chunks = [bytes([number % 256]) for number in range(3000)]
    with (tmp_path / "file").open("wb") as file:
        assert write_segments(file.fileno(), 0, chunks) == 3000
    assert (tmp_path / "file").read_bytes() == b"".join(chunks)
