"""Random text: as long as it should be, never the same twice, and no other process's."""

import os
import re
from collections.abc import Callable

import pytest

from tusd_py import tokens


@pytest.mark.parametrize("size", [0, 1, 16, 18, 100, 5000])
def test_as_many_bytes_as_asked_for(size: int) -> None:
    assert len(tokens.token_bytes(size)) == size
    assert len(tokens.token_hex(size)) == 2 * size
    assert re.fullmatch(r"[A-Za-z0-9_-]*", tokens.token_urlsafe(size))
    assert len(tokens.token_urlsafe(size)) == -(-size * 4 // 3)


@pytest.mark.parametrize("make", [tokens.token_hex, tokens.token_urlsafe])
def test_never_the_same_twice(make: Callable[[int], str]) -> None:
    seen = {make(18) for _ in range(10_000)}  # over many pages
    assert len(seen) == 10_000


def test_pages_come_from_the_system_and_each_byte_goes_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[bytes] = []

    def urandom(size: int) -> bytes:
        made.append(bytes((len(made) * 7 + at) % 251 for at in range(size)))
        return made[-1]

    tokens._forget()
    monkeypatch.setattr(os, "urandom", urandom)
    try:
        got = b"".join(tokens.token_bytes(18) for _ in range(1000))
    finally:
        tokens._forget()  # what was made here is not random
    assert b"".join(made)[: len(got)] == got
    assert len(made) == -(-len(got) // len(made[0]))


def test_a_forked_process_begins_without_any() -> None:
    tokens.token_bytes(1)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, tokens.token_bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as its:
        assert its.read(32) != tokens.token_bytes(32)
    os.close(write)
