"""Part plans stay within every limit of every store."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tusd_storage.partplan import (
    GIB,
    MIB,
    MIN_PART_SIZE,
    TIB,
    PartPlan,
    StoreLimits,
    TooLarge,
    max_length,
    plan,
)

AMAZON = StoreLimits()

limits = st.builds(
    lambda part_size, more, max_parts, max_object_size, equal_parts: StoreLimits(
        part_size=part_size,
        max_part_size=min(5 * GIB, part_size + more),
        max_parts=max_parts,
        max_object_size=max_object_size,
        equal_parts=equal_parts,
    ),
    part_size=st.integers(MIN_PART_SIZE, 64 * MIB) | st.just(MIN_PART_SIZE),
    more=st.integers(0, 3 * MIB) | st.integers(0, 5 * GIB),
    max_parts=st.sampled_from([1, 2, 11, 12, 13, 1000, 10_000]) | st.integers(1, 10_000),
    max_object_size=st.integers(1, 5 * TIB),
    equal_parts=st.booleans(),
)
lengths = st.integers(0, 5 * TIB) | st.integers(0, 200 * MIB)


def parts_needed(part_plan: PartPlan, length: int) -> int:
    return -(-length // part_plan.part_size)


@given(lengths, limits)
@example(10 * (MIN_PART_SIZE + 1), StoreLimits(max_part_size=MIN_PART_SIZE + 1, max_parts=10))
@settings(deadline=None, max_examples=150)
def test_a_known_length_fits_the_store_or_is_refused(length: int, store: StoreLimits) -> None:
    fits = length <= min(store.max_object_size, store.max_parts * store.max_part_size)
    assert (length <= max_length(store, deferred=False)) == fits
    if not fits:
        with pytest.raises(TooLarge):
            plan(length, store)
        return
    made = plan(length, store)
    assert made.growth == 0
    assert store.part_size <= made.part_size <= store.max_part_size
    assert parts_needed(made, length) <= store.max_parts


@given(lengths, limits)
@settings(deadline=None, max_examples=60)
def test_parts_are_no_larger_than_they_must_be(length: int, store: StoreLimits) -> None:
    assume(length <= max_length(store, deferred=False))
    made = plan(length, store)
    if made.part_size > store.part_size:
        assert parts_needed(PartPlan(part_size=made.part_size - MIB), length) > store.max_parts


@given(limits)
@settings(deadline=None, max_examples=150)
def test_a_deferred_plan_never_leaves_the_limits(store: StoreLimits) -> None:
    made = plan(None, store)
    longest = max_length(store, deferred=True)
    assert longest <= store.max_object_size
    assert longest <= made.total_of(store.max_parts)
    sizes = [made.size_of(number) for number in range(1, store.max_parts + 1)]
    assert sizes == sorted(sizes) and sizes[0] == store.part_size
    assert max(sizes) <= store.max_part_size
    assert not store.equal_parts or set(sizes) == {store.part_size}


def test_a_deferred_length_reaches_five_tebibytes() -> None:
    assert max_length(AMAZON, deferred=True) == 5 * TIB
    assert plan(None, AMAZON).total_of(10_000) >= 5 * TIB
    assert max_length(StoreLimits(max_parts=1000), deferred=True) >= TIB


@given(st.integers(1, 50), st.integers(0, 9), st.integers(1, 200), st.integers(0, 120))
@settings(deadline=None, max_examples=60)
def test_totals_are_sums_of_sizes(part_size: int, growth: int, largest: int, count: int) -> None:
    made = PartPlan(part_size=part_size, growth=growth, max_part_size=max(part_size, largest))
    assert made.total_of(count) == sum(made.size_of(n) for n in range(1, count + 1))


@pytest.mark.parametrize(
    ("length", "part_size"),
    [
        (0, 5 * MIB),
        (1, 5 * MIB),
        (10_000 * 5 * MIB, 5 * MIB),
        (10_000 * 5 * MIB + 1, 6 * MIB),
        (10_000 * 6 * MIB, 6 * MIB),
        (78 * GIB, 8 * MIB),
        (5 * TIB, 525 * MIB),
    ],
)
def test_amazon(length: int, part_size: int) -> None:
    assert plan(length, AMAZON).part_size == part_size


def test_one_byte_too_many_says_both_numbers() -> None:
    with pytest.raises(TooLarge, match=str(5 * TIB + 1)) as caught:
        plan(5 * TIB + 1, AMAZON)
    assert (caught.value.length, caught.value.maximum) == (5 * TIB + 1, 5 * TIB)
