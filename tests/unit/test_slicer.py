"""The slicer: any chunking of the same bytes gives the same parts and the same rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.uploads.slicer import Slicer
from tusd_storage.partplan import PartPlan


@dataclass
class Cutting:
    """What came out of a slicer."""

    parts: list[bytes]
    rest: bytes
    number: int
    filled: int
    offset: int


def run(slicer: Slicer, chunks: Sequence[bytes]) -> Cutting:
    parts, current = [], b""
    for chunk in chunks:
        for cut in slicer.feed(chunk):
            current += cut.data
            if cut.ends:
                parts.append(current)
                current = b""
    return Cutting(parts, current, slicer.number, slicer.filled, slicer.offset)


def cut_at(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@st.composite
def uploads(draw: st.DrawFn) -> tuple[PartPlan, int, int, int, int | None, bytes]:
    """Plan, part number, filled, offset, length, and the bytes that arrive now."""
    plan = PartPlan(
        part_size=draw(st.integers(1, 9)),
        growth=draw(st.integers(0, 3)),
        max_part_size=draw(st.integers(9, 40)),
    )
    number = draw(st.integers(1, 8))
    filled = draw(st.integers(0, plan.size_of(number)))
    offset = plan.total_of(number - 1) + filled
    data = bytes(range(draw(st.integers(0, 60))))
    length = draw(st.none() | st.integers(offset + len(data), offset + len(data) + 12))
    return plan, number, filled, offset, length, data


@given(uploads(), st.lists(st.integers(0, 60), max_size=6))
@settings(deadline=None, max_examples=150)
def test_any_chunking_gives_the_same(
    upload: tuple[PartPlan, int, int, int, int | None, bytes], cuts: list[int]
) -> None:
    plan, number, filled, offset, length, data = upload

    def slicer() -> Slicer:
        return Slicer(plan, number=number, filled=filled, offset=offset, length=length)

    ones = run(slicer(), [data[i : i + 1] for i in range(len(data))])
    if not data:
        ones = run(slicer(), [])
    got = run(slicer(), [piece for piece in cut_at(data, cuts) if piece])
    assert got == ones
    assert b"".join([*got.parts, got.rest]) == data
    assert got.offset == offset + len(data)
    assert got.number == number + len(got.parts)
    _check_sizes(plan, number, filled, length, data, got)


def _check_sizes(
    plan: PartPlan, number: int, filled: int, length: int | None, data: bytes, got: Cutting
) -> None:
    for index, part in enumerate(got.parts):
        already = filled if index == 0 else 0
        assert already + len(part) == plan.size_of(number + index)
    already = 0 if got.parts else filled
    assert got.filled == already + len(got.rest) <= plan.size_of(got.number)
    if got.filled == plan.size_of(got.number) and data:
        assert got.offset == length  # only the upload's last bytes stay uncut


def test_a_part_that_was_full_before_is_cut_at_the_next_byte() -> None:
    slicer = Slicer(PartPlan(part_size=4), number=1, filled=4, offset=4, length=8)
    assert slicer.full()
    assert run(slicer, [b"ab"]) == Cutting([b""], b"ab", 2, 2, 6)


@pytest.mark.parametrize("length", [4, 8])
def test_the_last_bytes_stay_with_the_caller(length: int) -> None:
    slicer = Slicer(PartPlan(part_size=4), number=1, filled=0, offset=0, length=length)
    data = bytes(range(length))
    got = run(slicer, [data])
    assert got.rest == data[-4:] and not slicer.full()
    assert got.parts == ([] if length == 4 else [data[:4]])


def test_a_deferred_upload_cuts_every_full_part() -> None:
    slicer = Slicer(PartPlan(part_size=4), number=1, filled=0, offset=0, length=None)
    assert run(slicer, [b"abcd"]) == Cutting([b"abcd"], b"", 2, 0, 4)


def test_small_chunks_are_passed_on_uncopied() -> None:
    slicer = Slicer(PartPlan(part_size=100), number=1, filled=0, offset=0, length=None)
    chunk = b"x" * 50
    (cut,) = slicer.feed(chunk)
    assert cut.data is chunk and not cut.ends


def test_no_bytes_change_nothing() -> None:
    slicer = Slicer(PartPlan(part_size=4), number=2, filled=3, offset=7, length=None)
    assert run(slicer, [b""]) == Cutting([], b"", 2, 3, 7)
