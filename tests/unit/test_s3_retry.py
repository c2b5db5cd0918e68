"""When a failed call is repeated, and how long after."""

import asyncio
from collections.abc import Iterable

import pytest

from tusd_storage.errors import (
    AccessDenied,
    ChecksumRejected,
    InvalidPart,
    NoSuchUpload,
    StorageError,
    StoreRefused,
    StoreUnavailable,
)
from tusd_storage.s3.faults import Throttled
from tusd_storage.s3.retry import Repeat, Retry


class Time:
    """Moves when slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class Script:
    """Raises each error in turn, then returns."""

    def __init__(self, errors: Iterable[StorageError]) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def retry_in(time: Time, deadline_s: float = 30.0) -> Retry:
    return Retry(
        deadline_s=deadline_s, clock=time.clock, sleep=time.sleep, uniform=lambda _, high: high
    )


async def test_backs_off_twice_as_long_each_time() -> None:
    time, script = Time(), Script(StoreUnavailable("x") for _ in range(8))
    assert await retry_in(time).run(script, Repeat.IDEMPOTENT) == "done"
    assert time.sleeps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_the_wait_is_drawn_from_nothing_to_the_ceiling() -> None:
    time, script, drawn = Time(), Script([StoreUnavailable("x")] * 2), []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.0

    retry = Retry(deadline_s=1.0, clock=time.clock, sleep=time.sleep, uniform=uniform)
    await retry.run(script, Repeat.IDEMPOTENT)
    assert drawn == [(0.0, 0.1), (0.0, 0.2)]


async def test_no_try_starts_after_the_deadline() -> None:
    time, script = Time(), Script(StoreUnavailable(str(n)) for n in range(100))
    with pytest.raises(StoreUnavailable):
        await retry_in(time, deadline_s=1.0).run(script, Repeat.IDEMPOTENT)
    assert time.sleeps == [0.1, 0.2, 0.4]
    assert script.calls == 4


async def test_a_slow_first_try_leaves_no_second() -> None:
    time = Time()

    async def slow() -> None:
        time.now += 31
        raise StoreUnavailable("x")

    with pytest.raises(StoreUnavailable):
        await retry_in(time).run(slow, Repeat.IDEMPOTENT)
    assert time.sleeps == []


@pytest.mark.parametrize(
    "error",
    [AccessDenied("x"), NoSuchUpload("x"), InvalidPart("x"), StoreRefused("Code", "x")],
)
@pytest.mark.parametrize("repeat", list(Repeat))
async def test_definitive_errors_are_not_repeated(error: StorageError, repeat: Repeat) -> None:
    script = Script([error])
    with pytest.raises(type(error)):
        await retry_in(Time()).run(script, repeat)
    assert script.calls == 1


async def test_what_may_have_happened_is_repeated_only_where_it_may_happen_twice() -> None:
    script = Script([Throttled("x"), StoreUnavailable("x")])
    with pytest.raises(StoreUnavailable):
        await retry_in(Time()).run(script, Repeat.UNEXECUTED)
    assert script.calls == 2


async def test_a_refused_checksum_is_sent_once_more() -> None:
    script = Script([StoreUnavailable("x"), ChecksumRejected("x")])
    assert await retry_in(Time()).run(script, Repeat.IDEMPOTENT) == "done"
    script = Script([ChecksumRejected("x"), StoreUnavailable("x"), ChecksumRejected("x")])
    with pytest.raises(ChecksumRejected):
        await retry_in(Time()).run(script, Repeat.IDEMPOTENT)
    assert script.calls == 3


async def test_cancelled_while_waiting_it_does_not_try_again() -> None:
    asleep = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    script = Script([StoreUnavailable("x")] * 5)
    retry = Retry(deadline_s=30, clock=lambda: 0.0, sleep=sleep, uniform=lambda _, high: high)
    task = asyncio.create_task(retry.run(script, Repeat.IDEMPOTENT))
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.calls == 1
