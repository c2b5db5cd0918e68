"""How fast uploads move, told from offsets and times, and which of them are under way."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.state import NOW, a_session, later
from tusd_py.operator.speed import STANDSTILL_S, Speedometer, eta_s
from tusd_py.operator.tracker import BETWEEN, Status, Tracker
from tusd_storage.records import SessionState, UploadSession


def seen(*steps: tuple[float, int]) -> Speedometer:
    speed = Speedometer()
    for at, offset in steps:
        speed.saw(at, offset)
    return speed


def test_nothing_is_told_before_two_steps() -> None:
    assert seen().per_s(0) is None
    assert seen((0, 100)).per_s(1) is None
    assert seen((0, 100), (1, 100)).per_s(1) is None, "the same offset is no step"


def test_an_even_pace() -> None:
    assert seen(*((n, n * 50) for n in range(10))).per_s(9) == 50


def test_rare_steps_of_whole_parts() -> None:
    """A slow upload is acknowledged once a minute: between two steps it is no slower."""
    speed = seen((0, 0), (60, 6000), (120, 12000))
    assert speed.per_s(121) == speed.per_s(175) == 100


def test_silence_slows_down_and_then_is_a_standstill() -> None:
    speed = seen((0, 0), (1, 100), (2, 200))
    assert speed.per_s(4) == 100, "two usual distances are no silence"
    assert speed.per_s(8) == pytest.approx(25)
    assert speed.per_s(5 + STANDSTILL_S) == 0


def test_what_never_moved_stands_still() -> None:
    assert seen((0, 0)).per_s(STANDSTILL_S + 1) == 0


def test_what_is_long_ago_does_not_count() -> None:
    speed = seen(*((n, n * 1000) for n in range(10)), *((n, 10_000 + n) for n in range(100, 140)))
    assert speed.per_s(139) == pytest.approx(1)


def test_an_offset_that_steps_back_begins_anew() -> None:
    assert seen((0, 0), (1, 500), (2, 100)).per_s(2) is None
    assert seen((0, 0), (1, 500), (2, 100), (3, 110)).per_s(3) == 10


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 2**60)), max_size=30), st.floats(0, 1e9)
)
def test_no_times_and_offsets_break_it(steps: list[tuple[float, int]], now: float) -> None:
    per_s = seen(*steps).per_s(now)
    assert per_s is None or per_s >= 0


@pytest.mark.parametrize(("left", "per_s", "eta"), [(100, 10.0, 10), (101, 10.0, 11), (0, 5.0, 0)])
def test_time_left(left: int, per_s: float, eta: int) -> None:
    assert eta_s(left, per_s) == eta


@pytest.mark.parametrize(("left", "per_s"), [(None, 5.0), (10, None), (10, 0.0)])
def test_time_left_that_nobody_can_tell(left: int | None, per_s: float | None) -> None:
    assert eta_s(left, per_s) is None


def writing(**changes: object) -> UploadSession:
    facts: dict[str, object] = {
        "state": SessionState.UPLOADING,
        "lease_holder": "n/1",
        "lease_until": later(3600),
    }
    return a_session(**(facts | changes))  # type: ignore[arg-type]


def test_what_this_process_receives_moves_before_it_is_acknowledged() -> None:
    tracker = Tracker()
    for second in range(5):
        (one,) = tracker.look([writing()], {"node~one": second * 1000}, later(second))
    assert (one.received, one.per_s, one.status) == (4000, 1000, Status.RECEIVING)
    assert one.eta_s is not None


def test_what_others_receive_moves_as_they_acknowledge() -> None:
    tracker = Tracker()
    for second in range(12):
        offset, at = (second // 5) * 5000, later(second // 5 * 5)
        (one,) = tracker.look([writing(offset=offset, updated_at=at)], {}, later(second))
    assert (one.received, one.per_s) == (10_000, 1000)


def test_an_upload_between_two_requests_is_still_under_way() -> None:
    tracker = Tracker()
    row = a_session(updated_at=NOW)
    (one,) = tracker.look([row, row], {}, later(1))
    assert (one.status, one.eta_s) == (Status.WAITING, None)
    assert tracker.known == [row.id]
    assert tracker.look([row], {}, NOW + BETWEEN) == []
    assert tracker.known == []


@pytest.mark.parametrize("state", [SessionState.COMPLETED, SessionState.ABORTED])
def test_what_has_ended_is_not(state: SessionState) -> None:
    assert Tracker().look([a_session(state=state)], {}, NOW) == []


def test_a_request_without_bytes_is_stalled() -> None:
    tracker = Tracker()
    tracker.look([writing()], {"node~one": 5}, NOW)
    (one,) = tracker.look([writing()], {"node~one": 5}, NOW + timedelta(seconds=STANDSTILL_S + 1))
    assert (one.status, one.per_s) == (Status.STALLED, 0)


@pytest.mark.parametrize(
    "row", [writing(state=SessionState.VERIFYING), writing(offset=7, length=7)]
)
def test_with_all_its_bytes_it_is_finishing(row: UploadSession) -> None:
    (one,) = Tracker().look([row], {}, NOW)
    assert one.status is Status.FINISHING
