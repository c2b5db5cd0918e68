"""Threads of our own: what happens to work when the system grants no further thread."""

import asyncio
import threading

import pytest

from tusd_storage.pool import Pool, despite_cancellation


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_a_further_thread_the_work_is_done_by_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Pool(8, "test") as pool:
        gate = threading.Event()
        first = pool.submit(gate.wait, 10)
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        others = [pool.submit(int, text) for text in "123"]
        assert not any(other.done() for other in others)
        gate.set()
        assert first.result(10)
        assert [other.result(10) for other in others] == [1, 2, 3]


def test_a_pool_without_any_thread_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(RuntimeError):
        Pool(8, "test")


def test_a_pool_that_is_shut_takes_nothing() -> None:
    pool = Pool(1, "test")
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(int)


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_whoever_is_cancelled_waits_on(times: int) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(despite_cancellation(future))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    future.set_exception(OSError())
    assert await waiting is (times > 0)
