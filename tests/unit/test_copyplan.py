"""Copy plans cover every byte once, in order, with parts the store takes."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tusd_storage.copyplan import COPY_SIZE, PlanChanged, PlannedPart, plan_copy
from tusd_storage.partplan import (
    GIB,
    MIB,
    MIN_PART_SIZE,
    StoreLimits,
    TooLarge,
    max_length,
    plan,
)

sizes_around = st.sampled_from(
    [0, 1, MIN_PART_SIZE - 1, MIN_PART_SIZE, MIN_PART_SIZE + 1, 2 * MIN_PART_SIZE - 1, GIB, GIB + 1]
)
sources = st.lists(sizes_around | st.integers(0, 30 * MIB) | st.integers(0, 12 * GIB), max_size=12)
limits = st.builds(
    lambda part_size, more, max_parts, equal_parts: StoreLimits(
        part_size=part_size,
        max_part_size=min(5 * GIB, part_size + more),
        max_parts=max_parts,
        equal_parts=equal_parts,
    ),
    part_size=st.just(MIN_PART_SIZE) | st.integers(MIN_PART_SIZE, GIB + MIB),
    more=st.sampled_from([0, 1, 5 * MIB, 5 * GIB]),
    max_parts=st.sampled_from([3, 20, 1000, 10_000]),
    equal_parts=st.booleans(),
)


def check_coverage(sizes: list[int], parts: list[PlannedPart], done: list[int]) -> None:
    assert [part.number for part in parts] == list(range(len(done) + 1, len(done) + len(parts) + 1))
    at = []
    skipped = sum(done)
    for size in sizes:
        at.append(min(size, skipped))
        skipped -= at[-1]
    last_source = 0
    for part in parts:
        assert part.spans and part.size > 0
        for span in part.spans:
            assert span.source >= last_source and span.size > 0
            assert span.offset == at[span.source]
            at[span.source] += span.size
            last_source = span.source
    assert at == sizes


@given(sources, limits, st.sampled_from([COPY_SIZE, MIN_PART_SIZE, 7 * MIB, 64 * MIB, 5 * GIB]))
@example([MIN_PART_SIZE + 1], StoreLimits(max_part_size=MIN_PART_SIZE), COPY_SIZE)
@example([GIB + 1], StoreLimits(part_size=GIB), COPY_SIZE)
@example([12 * MIB, 3], StoreLimits(), MIN_PART_SIZE)
@settings(deadline=None, max_examples=150)
def test_every_byte_once_in_order_within_the_limits(
    sizes: list[int], store: StoreLimits, copy_size: int
) -> None:
    assume(sum(sizes) <= max_length(store, deferred=False))
    assume(sum(sizes) // min(copy_size, store.max_part_size) < 20_000)
    parts = plan_copy(sizes, store, copy_size=copy_size)
    check_coverage(sizes, parts, [])
    assert len(parts) <= store.max_parts
    assert all(part.size <= store.max_part_size for part in parts)
    assert all(part.size >= MIN_PART_SIZE for part in parts[:-1])
    if store.equal_parts:
        assert {part.size for part in parts[:-1]} <= {plan(sum(sizes), store).part_size}


@given(sources, limits, limits, st.integers(0, 30))
@settings(deadline=None, max_examples=150)
def test_a_copy_goes_on_behind_what_another_plan_left(
    sizes: list[int], before: StoreLimits, now: StoreLimits, count: int
) -> None:
    assume(sum(sizes) <= min(max_length(before, deferred=False), max_length(now, deferred=False)))
    done = [part.size for part in plan_copy(sizes, before)][:count]
    try:
        parts = plan_copy(sizes, now, done=done)
    except PlanChanged:
        equal = now.equal_parts and set(done) != {plan(sum(sizes), now).part_size}
        assert equal or len(done) + plan_length(sizes, done, now) > now.max_parts
        return
    check_coverage(sizes, parts, done)
    whole = done + [part.size for part in parts]
    assert len(whole) <= max(now.max_parts, len(done))
    assert all(part.size <= now.max_part_size for part in parts)
    assert all(size >= MIN_PART_SIZE for size in whole[:-1])
    if now.equal_parts and parts:
        assert len(set(whole[:-1])) <= 1


def plan_length(sizes: list[int], done: list[int], store: StoreLimits) -> int:
    """The fewest parts that can hold the rest."""
    return -(-(sum(sizes) - sum(done)) // store.max_part_size)


@given(sources, limits, st.integers(0, 30))
@settings(deadline=None, max_examples=100)
def test_a_copy_can_always_go_on_under_the_same_plan(
    sizes: list[int], store: StoreLimits, count: int
) -> None:
    assume(sum(sizes) <= max_length(store, deferred=False))
    parts = plan_copy(sizes, store)
    done = [part.size for part in parts[:count]]
    rest = plan_copy(sizes, store, done=done)
    check_coverage(sizes, rest, done)
    assert len(done) + len(rest) <= store.max_parts


@pytest.mark.parametrize(
    ("done", "store"),
    [
        ([5 * MIB, 6 * MIB], StoreLimits(equal_parts=True)),
        ([5 * MIB, 5 * MIB], StoreLimits(equal_parts=True, max_parts=3)),
        ([5 * MIB] * 3, StoreLimits(max_parts=3)),
        ([40 * MIB], StoreLimits()),
    ],
)
def test_a_rest_that_does_not_fit_is_told(done: list[int], store: StoreLimits) -> None:
    with pytest.raises(PlanChanged):
        plan_copy([30 * MIB], store, done=done)


@given(st.lists(sizes_around, max_size=40))
@settings(deadline=None, max_examples=60)
def test_what_passes_through_is_at_most_one_small_part(sizes: list[int]) -> None:
    parts = plan_copy(sizes, StoreLimits())
    assert all(part.size <= MIN_PART_SIZE for part in parts if not part.copied)


def test_what_passes_through_stays_small_whatever_the_part_size() -> None:
    sizes = [MIN_PART_SIZE - 1] * 300
    parts = plan_copy(sizes, StoreLimits(part_size=512 * MIB))
    assert max(part.size for part in parts if not part.copied) <= MIN_PART_SIZE


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([], []),
        ([0, 0], []),
        ([1], [(1, True)]),
        ([3, 4], [(7, False)]),
        ([5 * MIB, 5 * MIB], [(5 * MIB, True), (5 * MIB, True)]),
        ([5 * MIB, 0, 1], [(5 * MIB, True), (1, True)]),
        ([1, 5 * MIB], [(5 * MIB, False), (1, True)]),
        ([6 * MIB, 1, 1], [(6 * MIB, True), (2, False)]),
        ([COPY_SIZE + 1], [(COPY_SIZE + 1 - 5 * MIB, True), (5 * MIB, True)]),
        ([2 * COPY_SIZE], [(COPY_SIZE, True), (COPY_SIZE, True)]),
    ],
)
def test_shapes(sizes: list[int], shape: list[tuple[int, bool]]) -> None:
    assert [(part.size, part.copied) for part in plan_copy(sizes, StoreLimits())] == shape


def test_too_much_is_refused() -> None:
    with pytest.raises(TooLarge):
        plan_copy([5 * GIB, 5 * GIB], StoreLimits(max_parts=1))
