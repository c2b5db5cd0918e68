"""What no client would send, on purpose or by accident.

Whatever arrives, the answer is never a 500, the server stays up, and nothing is stored that nobody
may store.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.blackbox.conftest import Site
from tests.support.tus import OFFSET_MEDIA_TYPE
from tests.support.wire import (
    Answer,
    ConnectionEnded,
    Wire,
    chunk,
    chunked,
    exchange,
    last_chunk,
    request_head,
)

TUS = {"Tus-Resumable": "1.0.0"}
BODY = TUS | {"Content-Type": OFFSET_MEDIA_TYPE}
OWN_KEY = "documents/salaries.txt"
OWN_DATA = b"somebody else's object"


@pytest.fixture
def target(site: Site) -> Iterator[Site]:
    """A server with an object under its prefix that is no upload; both survive the test."""
    site.bucket.put(OWN_KEY, OWN_DATA)
    site.bucket.put("plain", OWN_DATA)
    before = sorted(site.bucket.keys())
    uploads = _tails(site)
    yield site
    assert sorted(site.bucket.keys()) == before
    assert _tails(site) == uploads
    assert site.tus.request("OPTIONS", version=None).status == 204
    log = site.server.log()
    assert '"request_failed"' not in log and "Traceback" not in log


def _tails(site: Site) -> list[Path]:
    return sorted((site.server.tmp_dir / "tus").glob("*"))


def ask(site: Site, *data: bytes, to: str = "GET") -> Answer | None:
    """The answer; None where the server just hangs up."""
    try:
        answer = exchange(site.server.port, *data, to=to)
    except (ConnectionEnded, ConnectionError):
        return None
    assert 200 <= answer.status < 500, answer
    told = repr(answer)
    assert not [secret for secret in site.tus.secrets if secret in told], answer
    return answer


CREATE = request_head("POST", "/files/", TUS | {"Upload-Length": "5"})
BROKEN = {
    "empty-line": b"\r\n\r\n\r\n\r\n",
    "no-method": b" /files/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no-version": b"POST /files/\r\nHost: a\r\n\r\n",
    "bad-version": b"POST /files/ HTTP/9.9\r\nHost: a\r\n\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "binary": bytes(range(256)) * 4,
    "space-before-colon": b"POST /files/ HTTP/1.1\r\nHost: a\r\nUpload-Length : 5\r\n\r\n",
    "no-colon": b"POST /files/ HTTP/1.1\r\nHost: a\r\nUpload-Length\r\n\r\n",
    "nul-in-value": CREATE.replace(b"Length: 5", b"Length: 5\x00"),
    "nul-in-name": CREATE.replace(b"Upload-Length", b"Upload\x00Length"),
    "bare-cr": CREATE.replace(b"Length: 5", b"Length: 5\rX: 1"),
    "folded": CREATE.replace(b"Length: 5", b"Length:\r\n 5\r\n\t5"),
    "spaces-in-target": b"POST /files/ x HTTP/1.1\r\nHost: a\r\n\r\n",
    "latin1-target": b"GET /files/\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /files/#a HTTP/1.1\r\nHost: a\r\n\r\n",
    "connect": b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "star": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrade": (
        b"GET /files/a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    ),
    "absolute-of-another": b"GET http://other.example/files/a HTTP/1.1\r\nHost: b\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_requests(target: Site, name: str) -> None:
    with Wire(target.server.port) as wire:
        wire.send(BROKEN[name])
        wire.finish_sending()
        told = wire.rest()
    assert b" 500 " not in told and b" 201 " not in told


HOSTS = {
    "none": b"OPTIONS /files/ HTTP/1.1\r\n\r\n",
    "two": b"OPTIONS /files/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "twice-the-same": b"OPTIONS /files/ HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_request_has_one_host(target: Site, name: str) -> None:
    """RFC 9112, section 3.2; HTTP/1.0 knows none."""
    answer = ask(target, HOSTS[name], to="OPTIONS")
    assert answer is not None
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "invalid_request")
    old = ask(target, b"OPTIONS /files/ HTTP/1.0\r\n\r\n", to="OPTIONS")
    assert old is not None and old.status == 204


FRAMING = {
    "length-and-chunked": [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
    "chunked-and-length": [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
    "two-lengths": [("Content-Length", "5"), ("Content-Length", "6")],
    "length-list": [("Content-Length", "5, 6")],
    "length-negative": [("Content-Length", "-5")],
    "length-plus": [("Content-Length", "+5")],
    "length-hex": [("Content-Length", "0x5")],
    "length-huge": [("Content-Length", "9" * 40)],
    "length-empty": [("Content-Length", "")],
    "chunked-not-last": [("Transfer-Encoding", "chunked, identity")],
    "unknown-coding": [("Transfer-Encoding", "xchunked")],
}


@pytest.mark.parametrize("name", FRAMING)
def test_bodies_whose_end_is_in_doubt(target: Site, name: str) -> None:
    """Two readings of one request are how requests are smuggled: refused, connection closed."""
    url = target.tus.create(5)
    path = urlsplit(url).path
    headers = [*BODY.items(), ("Upload-Offset", "0"), *FRAMING[name]]
    smuggled = request_head("DELETE", path, TUS)
    with Wire(target.server.port) as wire:
        wire.send(request_head("PATCH", path, headers), chunked([b"01234"]) + smuggled)
        answer = wire.answer()
        assert answer.status == 400, answer
        assert wire.rest() == b""
    assert target.tus.offset(url) == 0
    assert target.tus.delete(url).status == 204


CHUNKS = {
    "no-hex": b"xyz\r\n01234\r\n0\r\n\r\n",
    "negative": b"-5\r\n01234\r\n0\r\n\r\n",
    "overflow": b"fffffffffffffffff\r\n01234\r\n0\r\n\r\n",
    "longer-than-said": b"3\r\n01234\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
def test_broken_chunks(target: Site, name: str) -> None:
    url = target.tus.create(50)
    headers = BODY | {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    head = request_head("PATCH", urlsplit(url).path, headers)
    with Wire(target.server.port) as wire:
        wire.send(head + CHUNKS[name])
        wire.finish_sending()
        told = wire.rest()
    assert b" 204 " not in told and b" 500 " not in told
    assert target.tus.delete(url).status == 204


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "deflate", "x", "GZIP"])
def test_coded_bodies_are_refused_before_they_are_read(target: Site, coding: str) -> None:
    """Nothing is ever unpacked, and nothing packed is taken for a file."""
    url = target.tus.create(50)
    headers = BODY | {"Upload-Offset": "0", "Content-Length": "50", "Content-Encoding": coding}
    answer = ask(target, request_head("PATCH", urlsplit(url).path, headers))
    assert answer is not None
    assert answer.status == 415 and b"unsupported_media_type" in answer.body
    assert target.tus.offset(url) == 0
    length = BODY | {"Upload-Length": "50", "Content-Length": "50", "Content-Encoding": coding}
    created = ask(target, request_head("POST", "/files/", length))
    assert created is not None and created.status == 415
    assert target.tus.delete(url).status == 204


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate,chunked", "br, gzip, chunked"])
def test_coded_transfers_are_refused_before_they_are_read(target: Site, coding: str) -> None:
    url = target.tus.create(50)
    headers = BODY | {"Upload-Offset": "0", "Transfer-Encoding": coding}
    answer = ask(target, request_head("PATCH", urlsplit(url).path, headers))
    assert answer is not None
    assert answer.status == 415 and b"unsupported_media_type" in answer.body
    assert target.tus.offset(url) == 0
    assert target.tus.delete(url).status == 204


SIZES = ["-1", "+1", "1.5", "1e3", "0x10", "1 1", "5, 5", "", "NaN", "9" * 19, "9" * 5000, "\xb2"]


@pytest.mark.parametrize("text", SIZES, ids=lambda text: text[:8] or "empty")
@pytest.mark.parametrize("name", ["Upload-Length", "Upload-Offset"])
def test_sizes_that_are_none(target: Site, name: str, text: str) -> None:
    url = target.tus.create(5)
    path = urlsplit(url).path
    if name == "Upload-Length":
        answer = ask(target, request_head("POST", "/files/", TUS | {name: text}))
    else:
        headers = BODY | {name: text, "Content-Length": "1"}
        answer = ask(target, request_head("PATCH", path, headers), b"x")
    assert answer is None or answer.status in {400, 409, 413}, answer
    assert target.tus.offset(url) == 0
    assert target.tus.delete(url).status == 204


@pytest.mark.parametrize(
    "name", ["Upload-Length", "Upload-Offset", "Tus-Resumable", "Upload-Concat"]
)
def test_headers_that_come_twice(target: Site, name: str) -> None:
    url = target.tus.create(5)
    pairs = {"Upload-Offset": "0", "Content-Length": "1"} if name == "Upload-Offset" else {}
    twice = {"Upload-Length": "5", "Upload-Offset": "0", "Upload-Concat": "partial"} | TUS
    headers = [*BODY.items(), *pairs.items(), (name, twice[name])]
    if name in {"Upload-Length", "Upload-Concat"}:
        headers.append((name, twice[name]))
    method, path = ("PATCH", urlsplit(url).path) if pairs else ("POST", "/files/")
    answer = ask(target, request_head(method, path, headers), b"x" if pairs else b"")
    assert answer and answer.status in {400, 412}, answer
    assert target.tus.offset(url) == 0
    assert target.tus.delete(url).status == 204


IDS = {
    "dot": ".",
    "dots": "..",
    "dots-slash": "../../etc/passwd",
    "dots-encoded": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "dots-twice-encoded": "%252e%252e%252f",
    "backslash": "..%5c..%5cboot.ini",
    "nul": "a%00b",
    "crlf": "a%0d%0aSet-Cookie:%20a=b",
    "space": "a%20b",
    "unicode": "%F0%9F%A6%84",
    "broken-utf8": "%ff%fe",
    "broken-percent": "%zz%",
    "overlong": "%c0%ae%c0%ae",
    "long": "a" * 10_240,
    "quote": "'%20OR%201=1--",
    "semicolon": "a;b",
    "wildcard": "*",
    "slash-at-end": "abc/",
    "double-slash": "/abc",
    "deep": "a/" * 500,
    "own-object": OWN_KEY,
    "own-object-encoded": OWN_KEY.replace("/", "%2f"),
    "plain-object": "plain",
    "plain-object-dots": "x%2f..%2fplain",
    "empty-query": "?",
    "tilde": "~",
    "other-node": "nobody~AAAAAAAAAAAAAAAAAAAAAAAA",
}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "GET", "DELETE"])
def test_ids_of_every_shape(target: Site, name: str, method: str) -> None:
    headers = BODY | {"Upload-Offset": "0", "Content-Length": "3"} if method == "PATCH" else TUS
    body = b"abc" if method == "PATCH" else b""
    answer = ask(target, request_head(method, "/files/" + IDS[name], headers), body, to=method)
    # `/files/?` is the collection itself, hence 405.
    assert answer is None or answer.status in {400, 404, 405}, answer


def test_no_id_reaches_another_object(target: Site) -> None:
    """DELETE on a crafted id removed any object under the prefix, elsewhere."""
    for name in (OWN_KEY, "plain", OWN_KEY.replace("/", "%2F")):
        assert target.tus.delete(target.tus.endpoint + name).status in {404, 405}
        assert target.tus.get(target.tus.endpoint + name).status == 404
    assert sorted(target.bucket.keys()) == sorted({*target.bucket.keys(), OWN_KEY, "plain"})


@pytest.mark.parametrize("form", ["dash", "tilde-encoded", "upper", "key"])
def test_other_spellings_of_an_id(target: Site, form: str) -> None:
    url = target.tus.upload(b"data")
    node, _, rest = urlsplit(url).path.rpartition("/")[2].partition("~")
    name = {
        "dash": f"{node}-{rest}",
        "tilde-encoded": f"{node}%7E{rest}",
        "upper": f"{node.upper()}~{rest}",
        "key": target.bucket.prefix + f"{node}-{rest}",
    }[form]
    answer = target.tus.request("HEAD", target.tus.endpoint + name)
    assert answer.status == (200 if form == "tilde-encoded" else 404)
    assert target.tus.delete(url).status == 204


METADATA = [
    "a b\r\nSet-Cookie: x=y",
    "filename \r\n YQ==",
    "\x01 YQ==",
    "a YQ==\x0b",
    "a " + "=" * 1000,
    ",".join(f"k{i} YQ==" for i in range(5000)),
    "k" * 16_385,
    "a YQ==,A YQ==,a YQ==",
]


@pytest.mark.parametrize("text", METADATA, ids=range(len(METADATA)))
def test_metadata_that_is_none(target: Site, text: str) -> None:
    head = request_head("POST", "/files/", TUS | {"Upload-Length": "0", "Upload-Metadata": text})
    answer = ask(target, head)
    assert answer is None or (answer.status == 400 and "Set-Cookie" not in answer), answer


def test_a_final_upload_of_too_many(target: Site) -> None:
    partial = target.tus.upload(b"x", headers={"Upload-Concat": "partial"})
    path = urlsplit(partial).path
    assert len(path) > 20
    answer = target.tus.post({"Upload-Concat": "final;" + " ".join([path] * 1001)})
    assert answer.status == 400, answer
    nothing = target.tus.create(0, {"Upload-Concat": "partial"})
    names = [urlsplit(nothing).path] * 999 + [path]
    most = target.tus.post({"Upload-Concat": "final;" + " ".join(names)})
    assert most.status == 201, most
    url = target.tus.location(most)
    assert target.bucket.read(url) == b"x"
    for made in (url, partial, nothing):
        assert target.tus.delete(made).status == 204


@pytest.mark.parametrize(("count", "status"), [(3_000, 400), (50_000, 431)])
def test_thousands_of_parts_are_refused_early(target: Site, count: int, status: int) -> None:
    """From the headers, quickly, and however many ask at once; no line in the log for any."""
    head = request_head(
        "POST",
        target.path,
        TUS | {"Upload-Concat": "final;" + " ".join(["/files/n~a"] * count), "Content-Length": "0"},
    )
    lines = target.server.log().count("\n")
    begun = time.monotonic()
    for _ in range(20):
        with Wire(target.server.port) as wire:
            wire.send_until_refused([head])
            answer = wire.answer()
            assert answer.status == status, answer
    assert time.monotonic() - begun < 10
    assert target.server.log().count("\n") == lines


def test_a_final_upload_of_a_thousand(target: Site) -> None:
    """Of 250 resources, each four times; the last one alone has bytes."""
    partial = {"Upload-Concat": "partial"}
    urls = [target.tus.create(0, partial) for _ in range(249)]
    urls.append(target.tus.upload(b"last", headers=partial))
    names = " ".join([urlsplit(url).path for url in urls] * 4)
    made = target.tus.post({"Upload-Concat": f"final;{names}"})
    assert made.status == 201, made
    url = target.tus.location(made)
    assert target.bucket.read(url) == b"last" * 4
    assert target.tus.head(url)["Upload-Concat"] == f"final;{names}"
    for one in (url, *urls):
        assert target.tus.delete(one).status == 204


def _refusal(site: Site, first: bytes, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    with Wire(site.server.port) as wire:
        wire.send(first)
        sent = wire.send_until_refused(pieces)
        return sent, wire.rest()


def test_headers_without_end(target: Site) -> None:
    """A head is refused long before it fills the memory."""
    first = b"POST /files/ HTTP/1.1\r\nHost: a\r\n"
    line = b"X-%d: " + b"a" * 8_000 + b"\r\n"
    sent, told = _refusal(target, first, (line % i for i in range(8_000)))
    assert sent < 32 * 1024 * 1024
    assert not told or told.startswith(b"HTTP/1.1 431 ")


def test_one_header_without_end(target: Site) -> None:
    first = b"POST /files/ HTTP/1.1\r\nHost: a\r\nUpload-Metadata: "
    sent, told = _refusal(target, first, (b"a" * 8_192 for _ in range(8_000)))
    assert sent < 32 * 1024 * 1024
    assert not told or told.startswith(b"HTTP/1.1 431 ")


def test_a_target_without_end(target: Site) -> None:
    sent, told = _refusal(target, b"GET /files/", (b"a" * 8_192 for _ in range(8_000)))
    assert sent < 32 * 1024 * 1024
    assert not told or told.startswith(b"HTTP/1.1 431 ")


def test_the_answer_to_large_headers_is_seen(target: Site) -> None:
    answer = exchange(
        target.server.port, request_head("GET", "/files/a", {"X": "a" * 300_000})[:-2]
    )
    assert answer.status == 431 and answer["Connection"] == "close"
    assert json.loads(answer.body)["code"] == "headers_too_large"


@pytest.mark.parametrize("kind", ["trailers", "one-trailer", "chunk-extension"])
def test_bodies_that_bring_no_bytes(target: Site, kind: str) -> None:
    url = target.tus.create(5)
    headers = BODY | {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    start, piece = {
        "trailers": (chunk(b"01") + b"0\r\n", b"X: " + b"a" * 8_000 + b"\r\n"),
        "one-trailer": (chunk(b"01") + b"0\r\nX: ", b"a" * 8_000),
        "chunk-extension": (chunk(b"01") + b"1;x=", b"a" * 8_000),
    }[kind]
    head = request_head("PATCH", urlsplit(url).path, headers)
    sent, told = _refusal(target, head + start, (piece for _ in range(8_000)))
    assert sent < 32 * 1024 * 1024
    assert b" 204 " not in told
    assert target.tus.delete(url).status == 204


def test_many_small_headers_are_fine(target: Site) -> None:
    headers = TUS | {f"X-{i}": "v" * 50 for i in range(500)}
    answer = ask(target, request_head("OPTIONS", "/files/", headers))
    assert answer and answer.status == 204


def test_heads_that_never_end_hold_nobody_up(target: Site) -> None:
    wires = [Wire(target.server.port) for _ in range(50)]
    try:
        for wire in wires:
            wire.send(b"POST /files/ HTTP/1.1\r\nHost: a\r\nX")
        started = time.monotonic()
        url = target.tus.upload(b"data")
        assert time.monotonic() - started < 10
        assert target.tus.delete(url).status == 204
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.parametrize("cut", [1, 20, 60, 100, 150, 170])
def test_requests_cut_anywhere(target: Site, cut: int) -> None:
    url = target.tus.create(5)
    head = request_head(
        "PATCH",
        urlsplit(url).path,
        BODY | {"Upload-Offset": "0", "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"},
    )
    data = head + chunk(b"01234") + last_chunk({"Upload-Checksum": "sha1 AAAA"})
    with Wire(target.server.port) as wire:
        wire.send_cut(data, cut)
    assert target.tus.delete(url).status == 204


def test_pipelined_requests_are_answered_in_order(target: Site) -> None:
    url = target.tus.create(4)
    path = urlsplit(url).path
    patch = BODY | {"Content-Length": "2"}
    with Wire(target.server.port) as wire:
        wire.send(
            request_head("PATCH", path, patch | {"Upload-Offset": "0"}) + b"01",
            request_head("HEAD", path, TUS),
            request_head("PATCH", path, patch | {"Upload-Offset": "2"}) + b"23",
            request_head("DELETE", path, TUS),
        )
        methods = ["PATCH", "HEAD", "PATCH", "DELETE"]
        answers = [wire.answer(to=method) for method in methods]
    assert [answer.status for answer in answers] == [204, 200, 204, 204]
    assert [answer.get("Upload-Offset") for answer in answers] == ["2", "2", "4", None]


printable = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)
values = printable | st.sampled_from(
    [
        *("", "0", "1", "5", "-1", "1.0.0", "1" * 19, "partial", "final;", "final;/files/a~b"),
        *("final;/files/%00", "sha1 AAAA", "md5 1B2M2Y8AsgTpgAmY7PhCfg==", "a YQ==", "a", ","),
        *("Upload-Checksum", "HEAD", "DELETE", "PATCH", "bytes=0-", "https://a.example", "*"),
    ]
)
names = st.sampled_from(
    [
        *("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Defer-Length", "Trailer"),
        *("Upload-Metadata", "Upload-Checksum", "Upload-Concat", "Content-Type", "Range", "Origin"),
        *("X-HTTP-Method-Override", "X-Forwarded-Host", "X-Forwarded-Proto", "Host", "Expect"),
        *("Access-Control-Request-Headers", "If-Range", "If-None-Match", "Connection"),
    ]
)
paths = st.sampled_from(["/files/", "/files", "/files/a~b", "/files/%00", "/files/a/b", "/x", "/"])
methods = st.sampled_from(["GET", "HEAD", "PATCH", "DELETE", "OPTIONS", "PUT", "TRACE"])


@given(methods, paths, st.dictionaries(names, values, max_size=6), st.booleans())
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_headers(
    target: Site, method: str, path: str, headers: dict[str, str], version: bool
) -> None:
    sent = (TUS | headers) if not version else (headers | TUS)
    ask(target, request_head(method, path, sent | {"Content-Length": "0"}), to=method)
