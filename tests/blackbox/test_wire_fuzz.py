"""Random bytes on the wire: broken requests of every kind, from one seed.

No answer is a 500, the server lives, its memory stays, and nothing is stored that was not sent
whole. `FUZZ_SEED` and `FUZZ_ROUNDS` repeat a run or make it longer.
"""

import os
import random
from urllib.parse import urlsplit

from tests.blackbox.conftest import Site
from tests.blackbox.test_limits import resident
from tests.support.tus import OFFSET_MEDIA_TYPE
from tests.support.wire import Wire, chunked, request_head

SEED = int(os.environ.get("FUZZ_SEED", "20240229"))
ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "600"))
TUS = {"Tus-Resumable": "1.0.0"}
BODY = TUS | {"Content-Type": OFFSET_MEDIA_TYPE, "Upload-Offset": "0"}
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"0", b"-1", b"9" * 25, b"\xff", b";x="]
PIECES += [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Expect: 100-continue\r\n"]
PIECES += [b"Upload-Length: 5\r\n", b"Upload-Concat: final;/a\r\n", b"Content-Encoding: gzip\r\n"]


def requests(path: str) -> list[bytes]:
    """Good ones, to be broken."""
    sized = BODY | {"Content-Length": "5"}
    chunks = BODY | {"Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    as_json = {"Content-Type": "application/json", "Content-Length": "2"}
    return [
        request_head("POST", "/files/", TUS | {"Upload-Length": "-"}),
        request_head("PATCH", path, sized | {"Upload-Offset": "9"}) + b"01234",
        request_head("PATCH", path, chunks | {"Upload-Offset": "9"})
        + chunked([b"01", b"234"], {"Upload-Checksum": "sha1 AAAA"}),
        request_head("HEAD", path, TUS),
        request_head("GET", path, {"Range": "bytes=0-1"}),
        request_head("OPTIONS", "/files/", {"Origin": "https://a.example"}),
        request_head("POST", "/sessions", as_json) + b"{}",
        request_head("DELETE", "/files/a~b", TUS),
    ]


def broken(rng: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them changed, left out, put in, or doubled."""
    text = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(5):
            case 0:
                text[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del text[at : at + rng.randrange(1, 12)]
            case 2:
                text[at:at] = rng.choice(PIECES)
            case 3:
                text[at:at] = text[at : at + rng.randrange(40)]
            case _:
                text[at:at] = rng.randbytes(rng.randrange(20))
    return bytes(text)


def test_bytes_of_every_kind(site: Site) -> None:
    rng = random.Random(SEED)
    url = site.tus.create(5)
    path = urlsplit(url).path
    before = 0
    for number in range(ROUNDS):
        data = b"".join(broken(rng, rng.choice(requests(path))) for _ in range(rng.randrange(1, 3)))
        with Wire(site.server.port) as wire:
            wire.send_until_refused([data])
            try:
                wire.finish_sending()
            except OSError:
                continue
            told = wire.rest()
        assert b"HTTP/1.1 500" not in told, (SEED, number, data, told)
        if number == ROUNDS // 3:
            before = resident(site)
    assert resident(site) - before < 24 * 1024 * 1024
    answer = site.tus.head(url)
    if answer.status == 200 and answer["Upload-Offset"] == "0":
        assert site.tus.patch(url, 0, b"abcde").status == 204
        assert site.bucket.read(url) == b"abcde"
    log = site.server.log()
    assert '"request_failed"' not in log and "Traceback" not in log, (SEED, log[-3000:])
