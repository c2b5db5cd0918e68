"""Clients that take places and give nothing: how long they may, and that others do not notice.

The servers here have short times and few places, so that each limit is met within seconds.
"""

import json
import resource
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.blackbox.conftest import Site, open_site
from tests.support.engines import Engine
from tests.support.tus import OFFSET_MEDIA_TYPE
from tests.support.wire import Answer, ConnectionEnded, Wire, chunk, exchange, request_head

TUS = {"Tus-Resumable": "1.0.0"}
BODY = TUS | {"Content-Type": OFFSET_MEDIA_TYPE}
PLACES = 12
HEAD_S, KEEP_ALIVE_S, BODY_S, SEND_S = 1.0, 2.0, 1.5, 2.0
SLACK_S = 8.0
"""The server looks once a second, and the machine may be busy."""

SETTINGS = {
    "TUSD_MAX_CONNECTIONS": str(PLACES),
    "TUSD_HEAD_TIMEOUT": f"{HEAD_S}s",
    "TUSD_KEEP_ALIVE_TIMEOUT": f"{KEEP_ALIVE_S}s",
    "TUSD_BODY_IDLE_TIMEOUT": f"{BODY_S}s",
    "TUSD_MIN_BODY_RATE": "100",
    "TUSD_SEND_TIMEOUT": f"{SEND_S}s",
    "TUSD_DOWNLOAD": "stream",
}


@pytest.fixture(scope="module")
def strict(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Few places and short times."""
    yield from open_site(seaweed, tmp_path_factory, SETTINGS)


@pytest.fixture(scope="module")
def roomy(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Times and places as they are by default, but downloads through the server."""
    yield from open_site(seaweed, tmp_path_factory, {"TUSD_DOWNLOAD": "stream"})


def resident(site: Site) -> int:
    """Bytes of memory of the server's process."""
    status = Path(f"/proc/{site.server.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def rows(site: Site) -> int:
    """Uploads that the database knows."""
    with sqlite3.connect(f"file:{site.server.data_dir / 'tusd.sqlite3'}?mode=ro", uri=True) as db:
        count: int = db.execute("SELECT count(*) FROM upload_sessions").fetchone()[0]
    db.close()
    return count


def tails(site: Site) -> int:
    """Files that uploads have on the disk."""
    return len(list((site.server.tmp_dir / "tus").glob("*.tail")))


def sockets_of(site: Site) -> int:
    """Sockets that the server has open."""
    folder = Path(f"/proc/{site.server.pid}/fd")
    return sum(str(path.readlink()).startswith("socket:") for path in folder.iterdir())


def patch_head(url: str, length: int, offset: int = 0) -> bytes:
    headers = BODY | {"Upload-Offset": str(offset), "Content-Length": str(length)}
    return request_head("PATCH", urlsplit(url).path, headers)


def chunked_patch_head(url: str, offset: int) -> bytes:
    headers = BODY | {"Upload-Offset": str(offset), "Transfer-Encoding": "chunked"}
    return request_head("PATCH", urlsplit(url).path, headers)


def drip(wire: Wire, piece: bytes, *, every_s: float, limit_s: float) -> float:
    """Sends the piece again and again; the seconds until the server stopped taking it."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit_s:
        try:
            wire.send(piece)
        except OSError:
            return time.monotonic() - begun
        time.sleep(every_s)
    pytest.fail(f"still taken after {limit_s} s")


def until(condition: Callable[[], bool], limit_s: float = SLACK_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def problem(answer: Answer) -> str:
    assert answer["Content-Type"] == "application/problem+json", answer
    told = json.loads(answer.body)
    assert told["status"] == answer.status
    code: str = told["code"]
    return code


def refusal(told: bytes) -> tuple[int, str]:
    """Status and code of a whole answer that closed its connection."""
    head, _, body = told.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head, told
    return int(head.split(b" ")[1]), json.loads(body)["code"]


# -- Heads


def test_a_connection_that_asks_nothing_is_closed(strict: Site) -> None:
    with Wire(strict.server.port, timeout_s=HEAD_S + SLACK_S) as wire:
        assert wire.rest() == b""


def test_half_a_head_is_told_so(strict: Site) -> None:
    with Wire(strict.server.port, timeout_s=HEAD_S + SLACK_S) as wire:
        wire.send(b"POST /files/ HTTP/1.1\r\nHost: a\r\nX")
        assert refusal(wire.rest()) == (408, "head_timeout")


@pytest.mark.parametrize("piece", [b"x", b"X: y\r\n"], ids=["byte", "line"])
def test_a_head_that_trickles_is_ended(strict: Site, piece: bytes) -> None:
    with Wire(strict.server.port) as wire:
        wire.send(b"POST /files/ HTTP/1.1\r\nHost: a\r\nX-Y: ")
        drip(wire, piece, every_s=0.1, limit_s=HEAD_S + SLACK_S)


@pytest.mark.parametrize("piece", [b"", b"\r\n"], ids=["silent", "empty-lines"])
def test_a_connection_without_a_further_request_is_closed(strict: Site, piece: bytes) -> None:
    with Wire(strict.server.port, timeout_s=KEEP_ALIVE_S + SLACK_S) as wire:
        wire.send(request_head("OPTIONS", "/files/"))
        assert wire.answer().status == 204
        if piece:
            drip(wire, piece, every_s=0.1, limit_s=KEEP_ALIVE_S + SLACK_S)
        else:
            assert wire.rest() == b""


def test_a_body_that_goes_on_after_the_answer_is_ended(strict: Site) -> None:
    with Wire(strict.server.port) as wire:
        wire.send(request_head("OPTIONS", "/files/", {"Content-Length": "1000000"}))
        assert wire.answer().status == 204
        drip(wire, b"x", every_s=0.1, limit_s=KEEP_ALIVE_S + SLACK_S)


def test_requests_at_a_distance_keep_their_connection(strict: Site) -> None:
    with Wire(strict.server.port) as wire:
        for _ in range(3):
            time.sleep(0.6)  # the first byte may come any time before the end of the wait
            wire.send(request_head("OPTIONS", "/files/"))
            assert wire.answer().status == 204


# -- Places


def test_who_asks_nothing_makes_room(strict: Site) -> None:
    """The oldest first; a client that comes always finds a place."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(strict.server.port)) for _ in range(3 * PLACES)]
        url = strict.tus.upload(b"in between")
        assert strict.tus.get(url).body == b"in between"
        assert strict.tus.delete(url).status == 204
        assert wires[0].rest() == b""


def test_when_all_places_work_a_newcomer_is_told(strict: Site) -> None:
    before = rows(strict)
    with ExitStack() as stack:
        urls = []
        busy = []
        for _ in range(PLACES):
            urls.append(strict.tus.create(1000))
        strict.tus.request("OPTIONS", version=None)
        for url in urls:
            wire = stack.enter_context(Wire(strict.server.port))
            wire.send(patch_head(url, 1000), b"x" * 200)
            busy.append(wire)
        until(lambda: tails(strict) >= 0 and _refused(strict))
        for wire in busy:
            try:
                wire.send(b"x" * 800)
            except OSError:
                continue
        statuses = [wire.answer(to="PATCH").status for wire in busy]
    assert statuses == [204] * PLACES
    for url in urls:
        assert strict.tus.delete(url).status == 204
    assert rows(strict) == before + PLACES
    lines = [line for line in strict.server.log().splitlines() if '"connections_dropped"' in line]
    assert len(lines) <= 2, lines


def _refused(site: Site) -> bool:
    with Wire(site.server.port) as wire:
        wire.send(request_head("POST", "/files/", TUS | {"Upload-Length": "5"}))
        answer = wire.answer()
        if answer.status == 201:
            site.tus.delete(site.tus.location(answer))
            return False
        assert answer.status == 503 and problem(answer) == "too_many_connections"
        assert int(answer["Retry-After"]) >= 1 and answer["Connection"] == "close"
        return True


# -- Bodies


@pytest.mark.parametrize("framing", [{"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}])
def test_a_creation_whose_body_never_begins_stores_nothing(
    strict: Site, framing: dict[str, str]
) -> None:
    before = rows(strict)
    head = request_head("POST", "/files/", BODY | {"Upload-Length": "5"} | framing)
    with Wire(strict.server.port, timeout_s=BODY_S + SLACK_S) as wire:
        wire.send(head)
        answer = wire.answer()
    assert (answer.status, problem(answer)) == (503, "body_timeout")
    with Wire(strict.server.port) as wire:
        wire.send(head)
    assert exchange(strict.server.port, request_head("OPTIONS", "/files/")).status == 204
    assert rows(strict) == before


def test_a_creation_begins_with_its_first_byte(strict: Site) -> None:
    head = request_head("POST", "/files/", BODY | {"Upload-Length": "5", "Content-Length": "5"})
    with Wire(strict.server.port) as wire:
        wire.send(head)
        time.sleep(0.3)
        wire.send(b"0")
        time.sleep(0.3)
        wire.send(b"1234")
        answer = wire.answer()
    assert answer.status == 201 and answer["Upload-Offset"] == "5"
    assert "Connection" not in answer
    url = strict.tus.location(answer)
    assert strict.bucket.read(url) == b"01234"
    assert strict.tus.delete(url).status == 204


def test_a_creation_whose_body_stands_still_is_kept_and_its_connection_closed(
    strict: Site,
) -> None:
    """The rest of the body may come after the answer, where a request would be expected."""
    head = request_head("POST", "/files/", BODY | {"Upload-Length": "5", "Content-Length": "5"})
    with Wire(strict.server.port, timeout_s=BODY_S + SLACK_S) as wire:
        wire.send(head, b"01")
        answer = wire.answer()
    assert (answer.status, answer["Upload-Offset"]) == (201, "2")
    assert answer["Connection"] == "close"
    assert strict.tus.delete(strict.tus.location(answer)).status == 204


def test_a_body_for_a_finished_upload_must_come_in_time(strict: Site) -> None:
    url = strict.tus.upload(b"01234")
    with Wire(strict.server.port, timeout_s=BODY_S + SLACK_S) as wire:
        wire.send(chunked_patch_head(url, 5))
        answer = wire.answer()
    assert (answer.status, problem(answer)) == (503, "body_timeout")
    assert strict.tus.delete(url).status == 204


def test_a_body_that_all_but_stands_still_is_ended_and_kept(strict: Site) -> None:
    """40 bytes a second where 100 are the least: what came is kept, and goes on elsewhere."""
    url = strict.tus.create(1000)
    with Wire(strict.server.port, timeout_s=BODY_S + SLACK_S) as wire:
        wire.send(patch_head(url, 1000))
        drip(wire, b"abcd", every_s=0.1, limit_s=BODY_S + 3 + SLACK_S)
        wire.rest()
    offset = strict.tus.offset(url)
    assert 0 < offset < 1000
    rest = (b"abcd" * 250)[offset:]
    assert strict.tus.patch(url, offset, rest).status == 204
    assert strict.bucket.read(url) == b"abcd" * 250
    assert strict.tus.delete(url).status == 204


def test_a_slow_body_lives(strict: Site) -> None:
    """Slow, but above the least rate, for several times the idle time-out."""
    url = strict.tus.create(2000)
    with Wire(strict.server.port) as wire:
        wire.send(patch_head(url, 2000))
        for _ in range(40):
            wire.send(b"x" * 50)
            time.sleep(0.15)
        assert wire.answer(to="PATCH").status == 204
    assert strict.tus.delete(url).status == 204


@pytest.mark.parametrize("path", ["/sessions", "/s3/multipart"])
def test_json_bodies_must_come_in_time_too(strict: Site, path: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": "100"}
    with Wire(strict.server.port, timeout_s=BODY_S + SLACK_S) as wire:
        wire.send(request_head("POST", path, headers), b"{")
        answer = wire.answer()
    assert (answer.status, problem(answer)) == (503, "body_timeout")


# -- Readers


def test_a_reader_that_stands_still_is_cut_off(strict: Site) -> None:
    url = strict.tus.upload(bytes(24 * 1024 * 1024))
    before = resident(strict)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(strict.server.port)) for _ in range(PLACES - 2)]
        for wire in wires:
            wire.send(request_head("GET", urlsplit(url).path))
        time.sleep(1)
        assert resident(strict) - before < 64 * 1024 * 1024
        during = sockets_of(strict)
        until(lambda: sockets_of(strict) <= during - len(wires), SEND_S + SLACK_S)
        for wire in wires:
            assert len(wire.rest()) < 24 * 1024 * 1024
    assert len(strict.tus.get(url).body) == 24 * 1024 * 1024
    assert strict.tus.delete(url).status == 204


def test_a_slow_reader_lives(strict: Site) -> None:
    data = bytes(12 * 1024 * 1024)
    url = strict.tus.upload(data)
    path = urlsplit(url).path
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        reader.connect(("127.0.0.1", strict.server.port))
        reader.sendall(request_head("GET", path))
        size = 0
        begun = time.monotonic()
        while size < len(data):
            got = reader.recv(65_536)
            assert got, f"cut off after {size} bytes and {time.monotonic() - begun:.1f} s"
            size += len(got)
            if time.monotonic() - begun < SEND_S + 3:
                time.sleep(0.1)
    assert strict.tus.delete(url).status == 204


# -- Floods


def test_a_flood_of_pipelined_requests_is_cut_short(roomy: Site) -> None:
    before = resident(roomy)
    one = request_head("GET", "/files/a~bbbbbbbbbbbbbbbbbbbbbbbb")
    with Wire(roomy.server.port) as wire:
        wire.send_until_refused(one * 500 for _ in range(2000))
    assert resident(roomy) - before < 64 * 1024 * 1024
    assert roomy.tus.request("OPTIONS", version=None).status == 204


def test_pipelined_patches_of_a_flood_are_answered_or_not_at_all(roomy: Site) -> None:
    """Whatever is cut off, no byte is acknowledged that is not there."""
    url = roomy.tus.create(100)
    data = bytes(range(100))
    flood = b"".join(patch_head(url, 1, at) + data[at : at + 1] for at in range(100))
    with Wire(roomy.server.port) as wire:
        wire.send_until_refused([flood])
        told = wire.rest()
    assert b" 500 " not in told
    told_offsets = told.count(b"HTTP/1.1 204")
    assert roomy.tus.offset(url) >= told_offsets
    until(lambda: _goes_on(roomy, url, data))
    assert roomy.bucket.read(url) == data
    assert roomy.tus.delete(url).status == 204


def _goes_on(site: Site, url: str, data: bytes) -> bool:
    """Requests that were cut off may still be at work: whoever is late gets 409 or 423."""
    answer = site.tus.head(url)
    if answer.status != 200:
        return False
    offset = int(answer["Upload-Offset"])
    return offset == len(data) or site.tus.patch(url, offset, data[offset:]).status == 204


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"POST /files/ HTTP/1.1\r\nHost: a\r\nUpload-Len",
        request_head("POST", "/files/", BODY | {"Upload-Length": "5", "Content-Length": "5"}),
    ],
    ids=["nothing", "half-a-head", "no-body"],
)
def test_ten_thousand_half_open(roomy: Site, many_files: None, head: bytes) -> None:
    """Bounded memory, nothing stored, and one who means it is served in between."""
    count = 10_000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < count + 500:
        pytest.skip("too few open files are allowed here")
    before, known = resident(roomy), rows(roomy)
    sockets: list[socket.socket] = []
    served = refused = 0
    try:
        for number in range(count):
            one = socket.create_connection(("127.0.0.1", roomy.server.port), timeout=20)
            sockets.append(one)
            try:
                if head:
                    one.sendall(head)
            except OSError:
                continue
            if number % 2000 == 1999:
                status = _created(roomy)
                assert status in {201, 503, None}
                served += status == 201
                refused += status != 201
        grown = resident(roomy) - before
    finally:
        for one in sockets:
            one.close()
    assert grown < 120 * 1024 * 1024, grown
    assert served >= 2
    if not head.endswith(b"\r\n\r\n"):
        assert refused == 0
    until(lambda: roomy.tus.create(0) != "", 30)
    assert rows(roomy) == known + served + 1
    assert roomy.server.log().count('"connections_dropped"') <= 5


def test_no_open_files_left(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The system refuses more files than the server thought it had: it neither spins nor ends."""
    for site in open_site(seaweed, tmp_path_factory, {}):
        url = site.tus.create(5)
        resource.prlimit(site.server.pid, resource.RLIMIT_NOFILE, (64, 64))
        with ExitStack() as stack:
            for _ in range(120):
                stack.enter_context(Wire(site.server.port))
            time.sleep(0.5)
            before = _cpu_ticks(site)
            time.sleep(2)
            assert _cpu_ticks(site) - before < 100, "it spins"
        until(partial(_answers, site), 30)
        assert site.tus.patch(url, 0, b"01234").status == 204
        assert site.bucket.read(url) == b"01234"


def _created(site: Site) -> int | None:
    """The status; None where the server just hangs up."""
    head = request_head("POST", "/files/", TUS | {"Upload-Length": "5"})
    try:
        return exchange(site.server.port, head).status
    except ConnectionEnded:
        return None


def _cpu_ticks(site: Site) -> int:
    fields = Path(f"/proc/{site.server.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _answers(site: Site) -> bool:
    try:
        return exchange(site.server.port, request_head("OPTIONS", "/files/")).status == 204
    except (OSError, ConnectionEnded):
        return False


# -- The end


def test_nothing_holds_up_a_stop(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Half heads, bodies that never come, refused ones that are drained, chunks without end."""
    for site in open_site(seaweed, tmp_path_factory, {"TUSD_SHUTDOWN_TIMEOUT": "30s"}):
        finished = site.tus.upload(b"01234")
        begun = site.tus.create(1000)
        refused = request_head(
            "POST", "/files/", BODY | {"Upload-Length": "-1", "Content-Length": "99999999"}
        )
        json_head = {"Content-Type": "application/json", "Content-Length": "100"}
        held = [
            b"",
            b"POST /files/ HTTP/1.1\r\nHost",
            request_head("POST", "/files/", BODY | {"Upload-Length": "5", "Content-Length": "5"}),
            chunked_patch_head(finished, 5),
            patch_head(begun, 1000) + b"x",
            request_head("POST", "/sessions", json_head) + b"{",
            request_head("OPTIONS", "/files/", {"Content-Length": "1000"}),
            *[refused] * 5,
        ]
        with ExitStack() as stack:
            for data in held:
                wire = stack.enter_context(Wire(site.server.port))
                wire.send(data)
            assert site.tus.request("OPTIONS", version=None).status == 204
            started = time.monotonic()
            assert site.server.terminate() == 0
            took = time.monotonic() - started
        assert took < 8, took
        site.server.start()
        assert site.tus.offset(begun) in (0, 1)  # whether it was read before the end is chance


def test_chunks_of_a_byte_make_no_line_each(roomy: Site) -> None:
    url = roomy.tus.create(5000)
    lines = roomy.server.log().count("\n")
    with Wire(roomy.server.port) as wire:
        wire.send(chunked_patch_head(url, 0), chunk(b"x") * 6000)
        wire.rest()
    assert roomy.server.log().count("\n") - lines <= 5
    assert roomy.tus.delete(url).status == 204
