"""How many parts are on their way: as many as the store needs, never more than are allowed."""

import pytest

from tusd_py.uploads.pace import FIRST, SEEN, SPARE, Pace

MOST = 12


def seen(*, receive_s: float, send_s: float, times: int = SEEN) -> Pace:
    pace = Pace(MOST)
    for _ in range(times):
        pace.received(receive_s)
        pace.sent(send_s)
    return pace


def test_before_anything_is_known_there_are_a_few() -> None:
    assert Pace(MOST).parts == FIRST


@pytest.mark.parametrize(
    ("receive_s", "send_s", "parts"),
    [
        (1.0, 0.01, SPARE + 1),  # a slow client: one is sent before the next one is here
        (0.010, 0.010, SPARE + 1),
        (0.010, 0.011, SPARE + 2),
        (0.005, 0.020, SPARE + 4),
        (0.001, 1.0, MOST),
    ],
)
def test_as_many_as_arrive_while_one_is_sent(receive_s: float, send_s: float, parts: int) -> None:
    assert seen(receive_s=receive_s, send_s=send_s).parts == parts


def test_parts_in_each_others_way_do_not_ask_for_more() -> None:
    """Or a store at its limit would be given more the slower it got."""
    pace = seen(receive_s=0.010, send_s=0.010)
    for _ in range(SEEN - 1):
        pace.sent(5.0)
    assert pace.parts == SPARE + 1


def test_a_network_that_changed_is_noticed() -> None:
    pace = seen(receive_s=0.010, send_s=0.010)
    for _ in range(SEEN):
        pace.sent(0.050)
    assert pace.parts == SPARE + 5
    for _ in range(SEEN):
        pace.received(0.060)
    assert pace.parts == SPARE + 1


@pytest.mark.parametrize(("answer_s", "parts"), [(0.0, FIRST), (0.020, FIRST), (0.060, SPARE + 6)])
def test_a_store_that_answers_late_is_known_before_the_first_part(
    answer_s: float, parts: int
) -> None:
    pace = Pace(MOST)
    pace.received(0.010)
    pace.answered(answer_s)
    assert pace.parts == parts


def test_the_first_part_that_was_sent_tells_more_than_an_answer() -> None:
    pace = seen(receive_s=0.010, send_s=0.010, times=1)
    pace.answered(1.0)
    assert pace.parts == SPARE + 1


def test_a_clock_that_stood_still_asks_for_what_is_allowed() -> None:
    assert seen(receive_s=0.0, send_s=0.010).parts == MOST
    pace = Pace(MOST)
    pace.sent(0.010)
    assert pace.parts == MOST


@pytest.mark.parametrize("most", [1, 2, 3])
def test_never_more_than_allowed(most: int) -> None:
    assert Pace(most).parts == most
    pace = Pace(most)
    pace.received(0.001)
    pace.answered(10.0)
    assert pace.parts == most
    pace.sent(10.0)
    assert pace.parts == most
