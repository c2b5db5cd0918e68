"""Which parts of another server's multipart upload can go on under our part plan."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.importing.fitting import fit
from tusd_py.importing.refusals import NotTaken
from tusd_py.importing.tusd_info import parse
from tusd_storage.partplan import GIB, MIB, MIN_PART_SIZE, StoreLimits
from tusd_storage.records import Part

LIMITS = StoreLimits()


def parts(*sizes: int, first: int = 1) -> list[Part]:
    return [
        Part(number=number, size=size, etag='"e"', crc32=None)
        for number, size in enumerate(sizes, first)
    ]


@given(
    sizes=st.lists(st.integers(MIN_PART_SIZE, 60 * MIB), max_size=40),
    rest=st.integers(0, MIN_PART_SIZE - 1),
    missing=st.integers(0, 500 * MIB),
    max_parts=st.integers(41, 10_000),
)
def test_what_is_taken_leaves_room_for_all_that_is_missing(
    sizes: list[int], rest: int, missing: int, max_parts: int
) -> None:
    length = sum(sizes) + rest + missing
    limits = StoreLimits(max_parts=max_parts)
    fitted = fit(parts(*sizes), rest, length, limits, rewinds=False)
    assert (fitted.offset, fitted.lost) == (sum(sizes) + rest, 0)
    number, left = len(sizes), length - sum(sizes)
    while left > 0:
        number += 1
        left -= max(fitted.plan.size_of(number), rest if number == len(sizes) + 1 else 0)
    assert number <= max_parts


def refusal(listed: list[Part], rest: int, length: int | None, **limits: object) -> str:
    with pytest.raises(NotTaken) as refused:
        fit(listed, rest, length, StoreLimits(**limits), rewinds=False)  # type: ignore[arg-type]
    return refused.value.code


def test_what_does_not_fit_is_refused() -> None:
    five = MIN_PART_SIZE
    assert refusal(parts(five, first=2), 0, 9 * five) == "gap"
    assert refusal(parts(five, 10, five), 0, 9 * five) == "gap"
    assert refusal(parts(five, five), 1, 2 * five) == "too_long"
    assert refusal(parts(five, five), 0, 3 * five, max_parts=2) == "too_many_parts"
    assert refusal(parts(*[five] * 99), 0, 9 * GIB, max_parts=100, max_part_size=8 * GIB) == (
        "too_many_parts"
    )
    assert refusal([], 0, 6 * 1024 * GIB) == "too_large"
    assert refusal(parts(*[five] * 9), 0, None, max_parts=48) == "too_many_parts"
    assert refusal(parts(7 * MIB, 6 * MIB), 0, 50 * MIB, equal_parts=True) == "unequal_parts"


def test_equal_parts_go_on_in_their_own_size() -> None:
    limits = StoreLimits(equal_parts=True)
    fitted = fit(parts(50 * MIB, 50 * MIB), 7, 500 * MIB, limits, rewinds=False)
    assert (fitted.plan.part_size, fitted.plan.growth) == (50 * MIB, 0)


def test_a_small_last_part_is_good_where_it_is_the_end() -> None:
    fitted = fit(parts(MIN_PART_SIZE, 3), 0, MIN_PART_SIZE + 3, LIMITS, rewinds=False)
    assert fitted.offset == MIN_PART_SIZE + 3


def test_with_rewind_the_prefix_is_taken_and_the_rest_is_told() -> None:
    listed = [*parts(MIN_PART_SIZE), *parts(6 * MIB, first=3)]
    fitted = fit(listed, 9, 99 * MIB, LIMITS, rewinds=True)
    assert (fitted.offset, fitted.rest, fitted.lost) == (MIN_PART_SIZE, 0, 6 * MIB + 9)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["ID", "Size", "MetaData", "Storage", "Key", "Type", "IsPartial"]),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_an_upload_or_a_refusal(text: bytes) -> None:
    try:
        upload = parse(text, "p/key.info")
    except NotTaken as error:
        assert error.code
    else:
        assert upload.id.endswith("+" + upload.multipart_id)
