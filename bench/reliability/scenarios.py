"""The failures of `tests/blackbox/test_known_failures.py`, for any tus server in front of S3.

Each is played once against a running server and says what became of the file. Nothing here knows
how a server works: only requests, the store behind it, kill -9 and what HEAD says are used.
"""

import http.client
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from bench.reliability.place import MAX_PARTS, MIB, PART, PATIENCE_S, Place
from tests.support.fake_s3 import Answer, Call, Hang
from tests.support.tus import poll

DOWN = Answer(500, "InternalError")
SURVIVED = "survived"
LOST = "lost bytes"
WRONG = "wrong content"
NO_FILE = "100 % without a file"
STUCK = "cannot be finished"
AGAIN = "upload lost, start again"
BROKEN = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Verdict:
    """What became of the file, and what was seen."""

    word: str
    seen: str = ""


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    number: str
    title: str
    play: Callable[[Place], Verdict]


def finish(it: Place, url: str, data: bytes, *, safe: int = 0) -> Verdict:
    """What a client does after an error: HEAD until it answers, the rest, and a look at the file.

    `safe`: bytes that had been acknowledged.
    """
    offset = it.offset(url)
    for _ in range(8):
        if offset is None:
            return Verdict(AGAIN, "HEAD says that it is gone, or nothing at all")
        if offset < safe:
            return Verdict(LOST, f"{safe} bytes were acknowledged, HEAD says {offset}")
        if offset >= len(data):
            break
        with suppress(*BROKEN):
            it.client.patch(url, offset, data[offset:])
        offset = it.offset(url)
    return judge(it, url, data, offset)


def judge(it: Place, url: str, data: bytes, offset: int | None) -> Verdict:
    """The object against what the client sent."""
    stored = it.read(url)
    if offset is None or offset < len(data):
        return Verdict(STUCK, f"HEAD says {offset} of {len(data)} after eight tries")
    if stored is None:
        return Verdict(NO_FILE, f"HEAD says {offset} of {len(data)}, there is no object")
    if stored != data:
        same = next((i for i, (a, b) in enumerate(zip(stored, data, strict=False)) if a != b), 0)
        return Verdict(WRONG, f"{len(stored)} bytes of {len(data)}; differs from byte {same} on")
    return Verdict(SURVIVED)


def failed_part(it: Place) -> Verdict:
    data = os.urandom(5 * PART + 17)
    url = it.client.create(len(data))
    others = it.store.seen["UploadPart"] + 4

    def wait() -> None:
        with suppress(AssertionError):
            poll(lambda: it.store.seen["UploadPart"] >= others, timeout_s=2)

    it.store.fail("UploadPart 2", *[Call(wait)] * 500)
    with suppress(*BROKEN):
        it.client.patch(url, 0, data)
    it.store.heal()
    return finish(it, url, data)


def remainder_500(it: Place) -> Verdict:
    data = os.urandom(2 * PART + 17)
    url, safe = _with_remainder(it, data)
    it.store.fail("UploadPart", *[DOWN] * 50)
    with suppress(*BROKEN):
        it.client.patch(url, safe, data[safe : safe + 2])
    it.store.heal()
    return finish(it, url, data, safe=safe)


def remainder_killed(it: Place) -> Verdict:
    data = os.urandom(2 * PART + 17)
    url, safe = _with_remainder(it, data)
    it.store.fail("UploadPart", Hang())
    seen = it.store.seen["UploadPart"]
    thread = it.patch_aside(url, safe, data[safe : safe + 2])
    poll(lambda: it.store.seen["UploadPart"] > seen)
    it.program.kill()
    thread.join()
    it.store.heal()
    it.restart()
    return finish(it, url, data, safe=safe)


def _with_remainder(it: Place, data: bytes) -> tuple[str, int]:
    """An upload one byte short of its first part, all of it acknowledged."""
    url = it.client.create(len(data))
    answer = it.client.patch(url, 0, data[: PART - 1])
    assert answer.status == 204, answer
    return url, PART - 1


def killed_before_complete(it: Place) -> Verdict:
    data = os.urandom(PART + 17)
    url = it.client.create(len(data))
    it.store.fail("CompleteMultipartUpload", Hang())
    seen = it.store.seen["CompleteMultipartUpload"]
    thread = it.patch_aside(url, 0, data)
    poll(lambda: it.store.seen["CompleteMultipartUpload"] > seen)
    it.program.kill()
    thread.join()
    it.store.heal()
    it.restart()
    return finish(it, url, data)


def trickling(it: Place) -> Verdict:
    wires = []
    for _ in range(80):
        url = it.client.create(2 * PART)
        wires.append(it.slow(url, 2 * PART, os.urandom(1000)))
    data = os.urandom(4 * PART)
    url = it.client.create(len(data))
    try:
        answer = it.client.patch(url, 0, data)
    except BROKEN:
        return Verdict(STUCK, "80 slow uploads, and another does not move for 60 s")
    finally:
        for wire in wires:
            wire.close()
    if answer.status != 204:
        return Verdict(STUCK, f"80 slow uploads, and another is answered with {answer.status}")
    return judge(it, url, data, it.offset(url))


def crafted_id(it: Place) -> Verdict:
    it.bucket.put("other", b"not an upload")
    for crafted in ("other", "..%2Fother", "other+upload"):
        with suppress(*BROKEN):
            it.client.request("DELETE", crafted)
    if "other" not in it.bucket.keys():  # noqa: SIM118 - a method of its own
        return Verdict(LOST, "DELETE removed an object that is no upload")
    return Verdict(SURVIVED)


def part_numbers(it: Place) -> Verdict:
    """A store that takes 20 parts instead of 10,000, which the servers are told of."""
    data = os.urandom(MAX_PARTS * PART + PART)
    url = it.client.create(len(data))
    for number in range(MAX_PARTS + 1, MAX_PARTS + 12):
        it.store.fail(f"UploadPart {number}", *[Answer(400, "InvalidArgument")] * 100)
    step, offset = 8 * MIB, 0
    try:
        while offset < len(data):
            answer = it.client.patch(url, offset, data[offset : offset + step])
            if answer.status != 204:
                return Verdict(
                    STUCK, f"{answer.status} at {offset // MIB} of {len(data) // MIB} MiB"
                )
            offset = int(answer["Upload-Offset"])
    except BROKEN as error:
        return Verdict(
            STUCK, f"{type(error).__name__} at {offset // MIB} of {len(data) // MIB} MiB"
        )
    finally:
        it.store.heal()
    return judge(it, url, data, it.offset(url))


def vanished(it: Place) -> Verdict:
    data = os.urandom(2 * PART + 17)
    url = it.client.create(len(data))
    assert it.client.patch(url, 0, data[: PART + 1]).status == 204
    it.abort(url)
    return _told_that_it_is_gone(it, url)


def vanished_before_complete(it: Place) -> Verdict:
    data = os.urandom(PART + 17)
    url = it.client.create(len(data))
    it.store.fail("CompleteMultipartUpload", Call(lambda: it.abort(url)))
    with suppress(*BROKEN):
        it.client.patch(url, 0, data)
    it.store.heal()
    return _told_that_it_is_gone(it, url)


def _told_that_it_is_gone(it: Place, url: str) -> Verdict:
    """The bytes are lost whatever the server does; it must not say that all is well."""
    answer = it.client.head(url)
    length = answer.get("Upload-Length")
    if answer.status == 200 and length is not None and answer.get("Upload-Offset") == length:
        return Verdict(NO_FILE, "HEAD says 100 %, there is no object")
    return Verdict(SURVIVED, f"HEAD says {answer.status}")


def empty(it: Place) -> Verdict:
    url = it.client.create(0)
    stored = it.read(url)
    return Verdict(SURVIVED) if stored == b"" else Verdict(NO_FILE, "no object")


def dropped(it: Place) -> Verdict:
    data = os.urandom(2 * PART)
    url = it.client.create(len(data))
    sent = PART + 300_001
    it.slow(url, len(data), data[:sent]).close()
    with suppress(AssertionError):
        poll(lambda: _reached(it, url, sent), timeout_s=10)
    best = it.offset(url) or 0
    verdict = finish(it, url, data, safe=best)
    if verdict.word == SURVIVED and best < sent:
        return Verdict("sent again", f"{sent} bytes arrived, {best} were kept")
    return verdict


def _reached(it: Place, url: str, wanted: int) -> bool:
    answer = it.client.head(url)
    return answer.status == 200 and int(answer["Upload-Offset"]) >= wanted


def two_servers(it: Place) -> Verdict:
    """A slow client at one process, a second one that is sent to either in turn."""
    ours, theirs = os.urandom(2 * PART), os.urandom(2 * PART)
    url = it.client.create(2 * PART)
    told: list[int] = []

    def body(offset: int) -> Iterator[bytes]:
        yield theirs[offset : offset + 1000]
        if not told:
            with suppress(OSError):
                slow.send(ours[PART + 1000 :])
            with suppress(OSError, EOFError, AssertionError, KeyError):
                answer = slow.answer(to="PATCH")
                told.append(int(answer["Upload-Offset"]) if answer.status == 204 else 0)
        yield theirs[offset + 1000 :]

    taken = None
    with it.second() as second:
        slow = it.slow(url, 2 * PART, ours[: PART + 1000])
        with suppress(AssertionError):
            poll(lambda: _reached(it, it.at(second, url), PART), timeout_s=5)
        for program in [second, it.program] * 4:
            client, there = it.client_of(program), it.at(program, url)
            with suppress(*BROKEN):
                head = client.head(there)
                if head.status != 200:
                    continue
                offset = int(head["Upload-Offset"])
                if offset == 2 * PART:
                    break
                if client.patch(there, offset, body(offset)).status == 204:
                    taken = offset
                    break
        slow.close()
        final = it.offset(url)
        stored = it.read(url)
    first = told[0] if told else 0
    seen = f"the slow client was told {first} bytes; the other gave those from {taken} on"
    if stored is None:
        return Verdict(NO_FILE if final == 2 * PART else STUCK, seen)
    if stored != (ours if taken is None else ours[:taken] + theirs[taken:]):
        return Verdict(WRONG, f"{len(stored)} bytes; {seen}")
    if taken is not None and first > taken:
        return Verdict(LOST, seen)
    return Verdict(SURVIVED, seen)


def hooks(it: Place) -> Verdict:
    data = os.urandom(PART + 17)
    url = it.client.create(len(data))
    killed = threading.Event()

    def kill() -> None:
        it.program.kill()
        killed.set()

    it.store.fail("CompleteMultipartUpload", Call(kill, executed=True))
    thread = it.patch_aside(url, 0, data)
    thread.join()
    assert killed.wait(PATIENCE_S)
    it.restart()
    verdict = finish(it, url, data)
    if verdict.word != SURVIVED:
        return verdict
    with suppress(AssertionError):
        poll(lambda: it.told(url), timeout_s=5)
    times = it.told(url)
    return (
        verdict
        if times == 1
        else Verdict(
            "never told" if not times else "told twice", f"told {times} times, five seconds after"
        )
    )


def refused(it: Place) -> Verdict:
    data = os.urandom(2 * PART)
    for bad in ({"Tus-Resumable": "0.2.2"}, {"Content-Type": "text/plain"}):
        url = it.client.create(len(data))
        before = it.store.seen["UploadPart"] + it.store.seen["PutObject"]
        with suppress(*BROKEN):
            it.client.patch(url, 0, data, bad)
        if it.offset(url) != 0 or it.store.seen["UploadPart"] + it.store.seen["PutObject"] > before:
            return Verdict("stored all the same", f"{bad}")
    return Verdict(SURVIVED)


SCENARIOS = [
    Scenario("1", "part 2 of 5 fails, the others land", failed_part),
    Scenario("2a", "500 while a saved remainder is stored again", remainder_500),
    Scenario("2b", "kill -9 while a saved remainder is stored again", remainder_killed),
    Scenario("3", "kill -9 between the last part and Complete", killed_before_complete),
    Scenario("4", "80 clients trickle, another uploads", trickling),
    Scenario("5", "DELETE on crafted ids", crafted_id),
    Scenario("6", "8 MiB chunks at a store with few part numbers", part_numbers),
    Scenario("7a", "the multipart upload is aborted half-way", vanished),
    Scenario("7b", "the multipart upload is aborted before Complete", vanished_before_complete),
    Scenario("8", "an empty file", empty),
    Scenario("9", "the connection drops inside a PATCH", dropped),
    Scenario("10", "two server processes on one upload", two_servers),
    Scenario("11", "kill -9 between Complete and the hook", hooks),
    Scenario("12", "PATCHes refused by their headers", refused),
]
