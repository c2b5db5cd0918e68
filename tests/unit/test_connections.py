"""How many connections a process takes, and what JSON bodies may hold of its memory."""

import asyncio
import resource
from collections.abc import Iterator

import pytest

from tusd_py.http.connections import (
    FILES_FOR_OTHERS,
    ConnectionLimits,
    Connections,
    affordable,
    raw_problem,
)
from tusd_py.http.json_bodies import JsonBodies
from tusd_py.http.json_errors import Overloaded
from tusd_py.server import connection_limits
from tusd_py.settings import Settings
from tusd_py.uploads.body import Interrupted, Stop


@pytest.mark.parametrize(
    ("limit", "files", "expected"),
    [
        (4096, -1, 4096),
        (4096, 1_048_576, 4096),
        (4096, 1024, (1024 - FILES_FOR_OTHERS) // 3),
        (4096, 64, 1),
        (10, 1024, 10),
    ],
)
def test_open_files_bound_the_connections(limit: int, files: int, expected: int) -> None:
    assert affordable(limit, files=files) == expected


def test_settings_become_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    settings = Settings(head_timeout="3s", keep_alive_timeout="4s", send_timeout="5s")  # type: ignore[arg-type]
    limits = connection_limits(settings)
    assert limits.max_connections == 256
    assert (limits.head_timeout_s, limits.keep_alive_timeout_s, limits.stall_timeout_s) == (3, 4, 5)


def test_a_raw_problem_is_a_whole_answer() -> None:
    head, _, body = raw_problem("503 Service Unavailable", "c", "d", "retry-after: 2").partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 2" in head and b"\r\nconnection: close" in head
    assert f"content-length: {len(body)}".encode() in head


def _messages(*bodies: bytes) -> Iterator[dict[str, object]]:
    for number, body in enumerate(bodies):
        more = number < len(bodies) - 1
        yield {"type": "http.request", "body": body, "more_body": more}


async def test_json_bodies_share_a_memory() -> None:
    bodies = JsonBodies(timeout_s=5, memory=10)
    first, second = _messages(b"1234567", b"8"), _messages(b"1234")

    async def receive_first() -> dict[str, object]:
        return next(first)

    async def receive_second() -> dict[str, object]:
        return next(second)

    with bodies.limited(receive_first) as one:
        await one()
        with pytest.raises(Overloaded), bodies.limited(receive_second) as two:
            await two()
        await one()
    second = _messages(b"1234567890")
    with bodies.limited(receive_second) as two:
        assert (await two())["body"] == b"1234567890"


@pytest.mark.parametrize("closing", [False, True])
async def test_json_bodies_do_not_wait_for_ever(closing: bool) -> None:
    bodies = JsonBodies(timeout_s=60 if closing else 0.05)

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    if closing:
        asyncio.get_running_loop().call_later(0.05, bodies.begin_shutdown)
    with pytest.raises(Interrupted) as caught, bodies.limited(receive) as limited:
        await limited()
    assert caught.value.stop is (Stop.SHUTDOWN if closing else Stop.IDLE)


async def test_a_json_body_has_one_time_for_all_of_its_pieces() -> None:
    bodies = JsonBodies(timeout_s=0.2)
    pieces = 0

    async def receive() -> dict[str, object]:
        nonlocal pieces
        await asyncio.sleep(0.05)
        pieces += 1
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Interrupted) as caught, bodies.limited(receive) as limited:
        while pieces < 20:
            await limited()
    assert caught.value.stop is Stop.IDLE


class _Idle:
    """A connection without a request; of its last answer so many bytes are on their way."""

    deadline = 0.0
    unsent = 0
    unsent_since = 0.0

    def __init__(self, on_its_way: int) -> None:
        self.transport = self
        self.on_its_way = on_its_way
        self.ended = False

    def get_write_buffer_size(self) -> int:
        return self.on_its_way

    def abort(self) -> None:
        self.ended = True

    def give_up(self) -> None:
        raise AssertionError


async def test_room_is_not_made_in_the_middle_of_an_answer() -> None:
    connections = Connections(ConnectionLimits(max_connections=3))
    clients = [_Idle(100), _Idle(0), _Idle(0)]
    for client in (*clients, _Idle(0)):
        assert connections.admit(client, client)  # type: ignore[arg-type]
    assert [client.ended for client in clients] == [False, True, False]
    for client in clients:
        connections.closed(client)  # type: ignore[arg-type]
