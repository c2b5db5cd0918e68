"""Bodies that come slowly: the system collects their bytes for a while, and none is lost by it."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.blackbox.conftest import Site, open_site
from tests.blackbox.test_limits import patch_head, problem, until
from tests.support.engines import Engine
from tests.support.wire import Wire

IDLE_S = 3.0
PIECE = 8 * 1024 + 1
PIECES = 45
EVERY_S = 0.1
"""About 80 KiB/s for longer than the server takes to know the pace."""


@pytest.fixture(scope="module")
def site(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from open_site(seaweed, tmp_path_factory, {"TUSD_BODY_IDLE_TIMEOUT": f"{IDLE_S}s"})


def trickled(wire: Wire, data: bytes, offset: int = 0) -> int:
    """Sends most of the body bit by bit; how far it got."""
    for begin in range(offset, offset + PIECE * PIECES, PIECE):
        wire.send(data[begin : begin + PIECE])
        time.sleep(EVERY_S)
    return offset + PIECE * PIECES


@pytest.mark.parametrize("end", ["close", "reset", "pause"])
def test_every_byte_that_arrived_is_kept_however_it_ends(site: Site, end: str) -> None:
    data = os.urandom(2_000_000)
    url = site.tus.create(len(data))
    with Wire(site.server.port) as wire:
        wire.send(patch_head(url, len(data)))
        sent = trickled(wire, data)
        wire.send(data[sent : sent + 777])
        sent += 777
        if end == "pause":
            answer = wire.answer(to="PATCH")
            assert (answer.status, problem(answer)) == (503, "body_timeout")
        elif end == "reset":
            time.sleep(0.01)  # on its way, a reset may overtake what it follows
            wire.reset()
        else:
            wire.close()
    until(lambda: site.tus.offset(url) == sent)
    assert site.tus.patch(url, sent, data[sent:]).status == 204
    assert site.bucket.read(url) == data


def test_what_follows_on_the_same_connection_is_heard_at_once(site: Site) -> None:
    data = os.urandom(PIECE * PIECES + 500)
    url = site.tus.create(len(data))
    first = PIECE * PIECES + 100
    with Wire(site.server.port, timeout_s=10.0) as wire:
        wire.send(patch_head(url, first))
        sent = trickled(wire, data)
        wire.send(data[sent:first])
        assert wire.answer(to="PATCH").status == 204
        for offset in range(first, len(data), 100):
            wire.send(patch_head(url, 100, offset), data[offset : offset + 100])
            assert wire.answer(to="PATCH").status == 204
    assert site.bucket.read(url) == data


def test_who_speeds_up_is_not_held_back(site: Site) -> None:
    data = os.urandom(PIECE * PIECES + 60_000_000)
    url = site.tus.create(len(data))
    with Wire(site.server.port, timeout_s=60.0) as wire:
        wire.send(patch_head(url, len(data)))
        sent = trickled(wire, data)
        wire.send(data[sent:])
        assert wire.answer(to="PATCH").status == 204
    assert site.bucket.read(url) == data
