"""tus 1.0.0 in stories: the core, creation, expiration, checksums, termination."""

import json
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import pytest

from tests.blackbox.conformance import (
    ALGORITHMS,
    BIG,
    BODY,
    CR,
    CS,
    DATA,
    DATE,
    DL,
    EXTENSIONS,
    GIVEN,
    MD,
    MIB,
    PARTIAL,
    TE,
    WU,
    P,
    Stories,
    Story,
    checksum,
)
from tests.blackbox.conftest import Site
from tests.support.tus import metadata, poll
from tests.support.wire import Answer, Wire, chunk, exchange, last_chunk, request_head

story = Stories()


@story("Core, OPTIONS", "core-options-names-exactly-what-works")
def _(site: Site) -> None:
    answer = site.tus.request("OPTIONS", version=None)
    assert set(answer["Tus-Extension"].split(",")) == EXTENSIONS
    assert set(answer["Tus-Checksum-Algorithm"].split(",")) == set(ALGORITHMS)
    assert "Tus-Max-Size" not in answer


@story("Core, OPTIONS", "core-options-max-size", "streaming")
def _(site: Site) -> None:
    assert site.tus.request("OPTIONS", version=None)["Tus-Max-Size"] == str(MIB)


@story(P, "core-patch-unaligned-pieces")
def _(site: Site) -> None:
    url = site.tus.upload(BIG, chunk=3_333_337)
    assert site.bucket.read(url) == BIG


@story(P, "core-patch-keeps-what-arrived")
def _(site: Site) -> None:
    """The Server SHOULD always attempt to store as much of the received data as possible."""
    url = site.tus.create(len(BIG))
    path = urlsplit(url).path
    cut = 6 * MIB + 3
    headers = BODY | {"Upload-Offset": "0", "Content-Length": str(len(BIG))}
    with Wire(site.server.port) as wire:
        wire.send(request_head("PATCH", path, headers), BIG[:cut])
    offset = poll(lambda: site.tus.offset(url) == cut and cut)
    assert site.tus.patch(url, offset, BIG[offset:]).status == 204
    assert site.bucket.read(url) == BIG


@story(P, "core-patch-too-long-chunked")
def _(site: Site) -> None:
    """Nothing beyond the length is stored, and the upload can still be finished."""
    data = BIG[: 11 * MIB]
    url = site.tus.create(len(data))
    answer = site.tus.patch(url, 0, iter([data[: 6 * MIB], data[6 * MIB :] + b"beyond"]))
    assert answer.status == 413, answer
    offset = site.tus.offset(url)
    assert offset < len(data)
    assert site.tus.patch(url, offset, data[offset:]).status == 204
    assert site.bucket.read(url) == data


@story(CR, "creation-empty-creates-its-object")
def _(site: Site) -> None:
    url = site.tus.create(0, metadata=metadata({"filename": "nothing.txt"}))
    assert site.bucket.read(url) == b""


@story(CR, "creation-lone-uploads-have-no-object-yet")
def _(site: Site) -> None:
    assert site.bucket.read(site.tus.create(5)) is None


@story(CR, "creation-max-size", "streaming")
def _(site: Site) -> None:
    answer = site.tus.post({"Upload-Length": str(MIB + 1)})
    assert answer.status == 413 and json.loads(answer.body)["code"] == "size_exceeded"
    assert site.tus.post({"Upload-Length": str(MIB)}).status == 201
    url = site.tus.create(None)
    assert site.tus.patch(url, 0, b"x" * (MIB + 1)).status == 413
    assert site.tus.patch(url, 0, iter([b"x" * MIB, b"y"])).status == 413
    assert site.tus.patch(url, 0, b"", {"Upload-Length": str(MIB + 1)}).status == 413
    assert site.bucket.read(url) is None


@story(CR, "creation-max-size-of-finals", "streaming")
def _(site: Site) -> None:
    part = site.tus.upload(b"x" * (MIB // 2 + 1), headers=PARTIAL)
    assert site.tus.concatenate([part, part]).status == 413


@story(DL, "creation-defer-whole-life")
def _(site: Site) -> None:
    """The length may come with any later PATCH, and then is fixed."""
    url = site.tus.create(None)
    assert site.tus.patch(url, 0, BIG[: 6 * MIB]).status == 204
    assert site.tus.patch(url, 6 * MIB, b"", {"Upload-Length": str(len(BIG))}).status == 204
    told = site.tus.head(url)
    assert told["Upload-Length"] == str(len(BIG)) and "Upload-Defer-Length" not in told
    assert site.tus.patch(url, 6 * MIB, b"", {"Upload-Length": "1"}).status == 400
    again = str(len(BIG) + 1)
    assert site.tus.patch(url, 6 * MIB, b"", {"Upload-Length": again}).status == 400
    assert site.tus.patch(url, 6 * MIB, BIG[6 * MIB :]).status == 204
    assert site.bucket.read(url) == BIG


@story(DL, "creation-defer-declared-at-a-part-boundary")
def _(site: Site) -> None:
    data = BIG[: 10 * MIB]
    url = site.tus.create(None)
    assert site.tus.patch(url, 0, data).status == 204
    answer = site.tus.patch(url, len(data), b"", {"Upload-Length": str(len(data))})
    assert answer.status == 204 and answer["Upload-Offset"] == str(len(data))
    assert site.bucket.read(url) == data


@story(DL, "creation-defer-of-nothing")
def _(site: Site) -> None:
    url = site.tus.create(None)
    assert site.tus.patch(url, 0, b"", {"Upload-Length": "0"}).status == 204
    assert site.bucket.read(url) == b""


@story(MD, "creation-metadata-echo")
def _(site: Site) -> None:
    """Byte for byte: order, padding, absent values, and values that are no text."""
    for text in (
        metadata({"filename": "Menü 日本 🦄.txt", "raw": b"\x00\xff\r\n\x80", "b": "2"}),
        "empty,also ,a YQ==",
        "z eg==, a YQ==",
    ):
        for url in (site.tus.create(1, metadata=text), site.tus.create(0, metadata=text)):
            assert site.tus.head(url)["Upload-Metadata"] == text.rstrip()


@story(MD, "creation-metadata-never-becomes-a-header")
def _(site: Site) -> None:
    name = 'evil"\r\nSet-Cookie: a=b\r\n/..\\x; y=z"\r\nX-Evil: 1.html'
    kind = "text/html\r\nX-Evil: 1"
    url = site.tus.create(0, metadata=metadata({"filename": name, "filetype": kind}))
    info = site.bucket.info(url)
    assert info["ContentDisposition"].startswith("attachment; ")
    assert info["ContentType"] != "text/html"
    told = site.tus.get(site.tus.get(url)["Location"])
    assert told.status == 200 and "Set-Cookie" not in told and "X-Evil" not in told


@story(MD, "creation-metadata-names-the-object")
def _(site: Site) -> None:
    text = metadata({"filename": "Menü.pdf", "filetype": "application/pdf"})
    url = site.tus.upload(BIG, metadata=text)
    for upload in (url, site.tus.upload(DATA, metadata=text)):
        info = site.bucket.info(upload)
        assert info["ContentType"] == "application/pdf"
        expected = "attachment; filename=\"Men_.pdf\"; filename*=UTF-8''Men%C3%BC.pdf"
        assert info["ContentDisposition"] == expected


@story(WU, "with-upload-large")
def _(site: Site) -> None:
    answer = site.tus.post({"Upload-Length": str(len(BIG))}, BIG)
    assert answer.status == 201 and answer["Upload-Offset"] == str(len(BIG))
    assert site.bucket.read(site.tus.location(answer)) == BIG


@story(WU, "with-upload-part-then-patch")
def _(site: Site) -> None:
    answer = site.tus.post({"Upload-Length": str(len(BIG))}, BIG[: 7 * MIB])
    url = site.tus.location(answer)
    assert answer["Upload-Offset"] == str(7 * MIB) == site.tus.head(url)["Upload-Offset"]
    assert site.tus.patch(url, 7 * MIB, BIG[7 * MIB :]).status == 204
    assert site.bucket.read(url) == BIG


@story(WU, "with-upload-expect-continue")
def _(site: Site) -> None:
    headers = BODY | {"Upload-Length": "10", "Content-Length": "10", "Expect": "100-continue"}
    with Wire(site.server.port) as wire:
        wire.send(request_head("POST", site.path, headers))
        wire.wait_for_continue()
        wire.send(DATA)
        answer = wire.answer()
    assert answer.status == 201 and answer["Upload-Offset"] == "10"


GIGANTIC = str(10 * 1024**3)
REFUSED: list[tuple[str, str, str, dict[str, str | None], int]] = [
    ("version", "PATCH", "half", {"Tus-Resumable": "0.2.2"}, 412),
    ("version-absent", "PATCH", "half", {"Tus-Resumable": None}, 412),
    ("type", "PATCH", "half", {"Content-Type": "text/plain"}, 415),
    ("offset", "PATCH", "half", {"Upload-Offset": "5"}, 409),
    ("offset-broken", "PATCH", "half", {"Upload-Offset": "x"}, 400),
    ("length", "PATCH", "half", {}, 413),
    ("length-deferred", "PATCH", "deferred", {"Upload-Length": "5"}, 413),
    ("checksum", "PATCH", "half", {"Upload-Checksum": "sha9 AA=="}, 400),
    ("unknown", "PATCH", "unknown", {}, 404),
    ("gone", "PATCH", "gone", {}, 410),
    ("final", "PATCH", "final", {}, 403),
    ("method", "PUT", "half", {}, 405),
    ("post-no-length", "POST", "nothing", {}, 400),
    ("post-length", "POST", "nothing", {"Upload-Length": "5"}, 413),
    ("post-too-large", "POST", "nothing", {"Upload-Length": str(6 * 1024**4)}, 413),
    ("post-type", "POST", "nothing", {"Upload-Length": GIGANTIC, "Content-Type": "a/b"}, 415),
    (
        "post-metadata",
        "POST",
        "nothing",
        {"Upload-Length": GIGANTIC, "Upload-Metadata": "a b"},
        400,
    ),
    ("post-version", "POST", "nothing", {"Upload-Length": GIGANTIC, "Tus-Resumable": "2"}, 412),
    ("post-final", "POST", "nothing", {"Upload-Concat": "final;/files/a~b"}, 400),
]


def _refused_story(
    name: str, method: str, given: str, extra: dict[str, str | None], status: int
) -> None:
    @story("Core; Creation With Upload: early feedback", f"refused-before-the-body-{name}")
    def _(site: Site) -> None:
        path = urlsplit(GIVEN[given](site)).path
        wanted: dict[str, str | None] = {
            **BODY,
            "Upload-Offset": "4",
            "Content-Length": GIGANTIC,
            "Expect": "100-continue",
        }
        if method == "POST":
            del wanted["Upload-Offset"]
        wanted |= extra
        headers = {name: text for name, text in wanted.items() if text is not None}
        started = time.monotonic()
        with Wire(site.server.port) as wire:
            wire.send(request_head(method, path, headers))
            answer = wire.answer()
            assert time.monotonic() - started < 5
            assert answer.status == status and answer.interim == (), answer
            assert answer["Connection"] == "close"
            site.tus.check(answer)
            wire.finish_sending()
            assert wire.rest() == b""


for _row in REFUSED:
    _refused_story(*_row)


# -- Expiration


def _expiry(answer: Answer) -> float:
    text = answer["Upload-Expires"]
    assert DATE.fullmatch(text), text
    return parsedate_to_datetime(text).timestamp()


@story("Expiration", "expiration-slides-and-ends", "hasty")
def _(site: Site) -> None:
    """Each accepted byte renews it, up to the longest lifetime; then 410."""
    began = time.time()
    idle = site.server.uploads_url + urlsplit(site.tus.create(5)).path.rpartition("/")[2]
    created = site.tus.post({"Upload-Length": "1000000"})
    url = urljoin(idle, created["Location"].rpartition("/")[2])
    first = last = _expiry(created)
    assert began + 0.9 <= first <= time.time() + 2
    offset, seen = 0, 0.0

    def refused() -> Answer | None:
        nonlocal offset, last, seen
        answer = site.tus.patch(url, offset, b"x")
        if answer.status != 204:
            return answer
        seen = time.time()
        offset += 1
        assert last <= _expiry(answer) <= began + 5
        last = _expiry(answer)
        return None

    answer = poll(refused, timeout_s=15)
    assert answer is not None
    assert answer.status == 410 and json.loads(answer.body)["code"] == "upload_gone"
    assert seen > began + 2.5, "it expired although bytes came"
    assert last > first
    for gone in (url, idle):
        assert site.tus.head(gone).status == 410
        assert "Upload-Offset" not in site.tus.head(gone)
        assert site.tus.patch(gone, offset, b"").status == 410


@story("Expiration", "expiration-header-everywhere", "hasty")
def _(site: Site) -> None:
    created = site.tus.post({"Upload-Length": "5"}, b"01")
    url = urljoin(site.server.uploads_url, created["Location"].rpartition("/")[2])
    _expiry(created)
    _expiry(site.tus.head(url))
    _expiry(site.tus.patch(url, 2, b"2"))
    assert "Upload-Expires" not in site.tus.patch(url, 3, b"34")
    assert "Upload-Expires" not in site.tus.head(url)


@story("Expiration", "expiration-spares-finished-uploads", "hasty")
def _(site: Site) -> None:
    done = site.tus.post({"Upload-Length": "2"}, b"01")
    open_ = site.tus.post({"Upload-Length": "2"}, b"0")
    name = [
        urljoin(site.server.uploads_url, a["Location"].rpartition("/")[2]) for a in (done, open_)
    ]
    poll(lambda: site.tus.head(name[1]).status == 410)
    told = site.tus.head(name[0])
    assert told.status == 200 and told["Upload-Offset"] == "2"
    assert site.bucket.read(name[0]) == b"01"


# -- Checksum


@story(CS, "checksum-over-several-parts")
def _(site: Site) -> None:
    """A mismatch keeps nothing, also where parts have been sent already."""
    url = site.tus.create(len(BIG))
    wrong = {"Upload-Checksum": checksum("sha256", BIG[1:])}
    assert site.tus.patch(url, 0, BIG, wrong).status == 460
    assert site.tus.offset(url) == 0
    assert site.tus.patch(url, 0, BIG[: 6 * MIB]).status == 204
    assert site.tus.patch(url, 6 * MIB, BIG[6 * MIB :], wrong).status == 460
    assert site.tus.offset(url) == 6 * MIB
    assert site.bucket.read(url) is None
    right = {"Upload-Checksum": checksum("sha256", BIG[6 * MIB :])}
    assert site.tus.patch(url, 6 * MIB, BIG[6 * MIB :], right).status == 204
    assert site.bucket.read(url) == BIG


@story(CS, "checksum-of-a-body-cut-short")
def _(site: Site) -> None:
    """Once the entire request has been received: half of it proves nothing and is discarded."""
    url = site.tus.create(len(BIG))
    headers = BODY | {
        "Upload-Offset": "0",
        "Content-Length": str(len(BIG)),
        "Upload-Checksum": checksum("sha1", BIG),
    }
    with Wire(site.server.port) as wire:
        wire.send(request_head("PATCH", urlsplit(url).path, headers), BIG[: 6 * MIB])
    # The next writer gets the lease only when the cut one has ended.
    assert site.tus.patch(url, 0, b"").status == 204
    assert site.tus.offset(url) == 0


@story(CS, "checksum-of-nothing")
def _(site: Site) -> None:
    url = GIVEN["half"](site)
    right, wrong = (checksum("sha1", data) for data in (b"", b"x"))
    assert site.tus.patch(url, 4, b"", {"Upload-Checksum": right}).status == 204
    assert site.tus.patch(url, 4, b"", {"Upload-Checksum": wrong}).status == 460
    assert site.tus.offset(url) == 4


def _with_trailer(
    site: Site, url: str, data: bytes, trailers: dict[str, str], *, at_once: bool
) -> Answer:
    headers = BODY | {
        "Upload-Offset": "4",
        "Transfer-Encoding": "chunked",
        "Trailer": "Upload-Checksum",
        "Expect": "100-continue",
    }
    with Wire(site.server.port) as wire:
        first = request_head("PATCH", urlsplit(url).path, headers)
        if at_once:
            wire.send(first + chunk(data) + last_chunk(trailers))
        else:
            wire.send(first)
            wire.wait_for_continue()
            wire.send(chunk(data[:2]), chunk(data[2:]), last_chunk(trailers))
        return wire.answer()


def _trailer_story(name: str, trailers: dict[str, str], status: int, *, at_once: bool) -> None:
    arrival = "at-once" if at_once else "later"

    @story("Checksum, trailer", f"checksum-trailer-{name}-{arrival}")
    def _(site: Site) -> None:
        url = GIVEN["half"](site)
        answer = _with_trailer(site, url, DATA[4:], trailers, at_once=at_once)
        assert answer.status == status, answer
        site.tus.check(answer)
        assert site.tus.offset(url) == (10 if status == 204 else 4)
        assert site.bucket.read(url) == (DATA if status == 204 else None)


for _at_once in (False, True):
    for _name, _trailers, _status in (
        *(
            (algorithm, {"Upload-Checksum": checksum(algorithm, DATA[4:])}, 204)
            for algorithm in ALGORITHMS
        ),
        ("mismatch", {"Upload-Checksum": checksum("sha1", DATA)}, 460),
        ("missing", {}, 400),
        ("other", {"X-Other": "1"}, 400),
        ("broken", {"Upload-Checksum": "sha1 !"}, 400),
        ("unknown", {"Upload-Checksum": "sha3 AAAA"}, 400),
    ):
        _trailer_story(_name, _trailers, _status, at_once=_at_once)


@story("Checksum, trailer", "checksum-trailer-over-several-parts")
def _(site: Site) -> None:
    for expected, status in ((BIG[1:], 460), (BIG, 204)):
        url = site.tus.create(len(BIG))
        headers = BODY | {
            "Upload-Offset": "0",
            "Transfer-Encoding": "chunked",
            "Trailer": "Upload-Checksum",
        }
        with Wire(site.server.port) as wire:
            wire.send(request_head("PATCH", urlsplit(url).path, headers))
            for start in range(0, len(BIG), MIB):
                wire.send(chunk(BIG[start : start + MIB]))
            wire.send(last_chunk({"Upload-Checksum": checksum("sha256", expected)}))
            assert wire.answer().status == status
        assert site.bucket.read(url) == (BIG if status == 204 else None)


@story("Checksum, trailer (RFC 9110, section 6.5.1)", "checksum-trailer-sets-no-other-header")
def _(site: Site) -> None:
    """Fields of a trailer must not be taken for header fields, however fast they arrive."""
    headers = BODY | {"Transfer-Encoding": "chunked"}
    for name in ("Upload-Length", "Upload-Defer-Length"):
        answer = exchange(
            site.server.port,
            request_head("POST", site.path, headers) + chunk(b"x") + last_chunk({name: "1"}),
        )
        assert answer.status == 400, (name, answer)


# -- Termination


@story(TE, "termination-frees-everything")
def _(site: Site) -> None:
    finished, unfinished = site.tus.upload(BIG), site.tus.create(len(BIG))
    assert site.tus.patch(unfinished, 0, BIG[: 11 * MIB]).status == 204
    key = site.bucket.key(unfinished).removeprefix(site.bucket.prefix)
    assert key in site.bucket.multiparts()
    for url in (finished, unfinished):
        assert site.tus.delete(url).status == 204
        assert site.tus.head(url).status in {404, 410}
        assert site.tus.patch(url, 0, b"x").status in {404, 410}
        assert site.tus.get(url).status in {404, 410} or url == unfinished
        assert site.tus.delete(url).status in {404, 410}
        assert site.bucket.read(url) is None
    assert key not in site.bucket.multiparts()


@pytest.mark.parametrize("told", story, ids=lambda told: told.name)
def test_story(told: Story, request: pytest.FixtureRequest) -> None:
    told.check(request)
