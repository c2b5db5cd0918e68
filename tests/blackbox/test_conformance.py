"""tus 1.0.0, as a table: the section of the text, what is there, what is sent, what must come back.

Rows with one request are data; rows with several are functions marked `@story`. All run against the
real server process and a real S3 engine.
"""

import base64
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import pytest

from tests.blackbox.conftest import Site
from tests.support.tus import OFFSET_MEDIA_TYPE, metadata, poll
from tests.support.wire import Answer, Wire, chunk, exchange, last_chunk, request_head

MIB = 1024 * 1024
DATA = b"0123456789"
HALF = 4
BIG = os.urandom(12 * MIB + 7)
UNKNOWN = "nobody~AAAAAAAAAAAAAAAAAAAAAAAA"
TUS = {"Tus-Resumable": "1.0.0"}
BODY = TUS | {"Content-Type": OFFSET_MEDIA_TYPE}
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}
EXTENSIONS = {
    *("creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum"),
    *("checksum-trailer", "termination", "concatenation", "concatenation-unfinished"),
}


def checksum(algorithm: str, data: bytes) -> str:
    return f"{algorithm} {base64.b64encode(ALGORITHMS[algorithm](data)).decode()}"


# -- What is there before the request


def _half(site: Site) -> str:
    url = site.tus.create(len(DATA))
    assert site.tus.patch(url, 0, DATA[:HALF]).status == 204
    return url


def _deferred(site: Site) -> str:
    url = site.tus.create(None)
    assert site.tus.patch(url, 0, DATA[:HALF]).status == 204
    return url


def _gone(site: Site) -> str:
    url = _half(site)
    assert site.tus.delete(url).status == 204
    return url


def _final(site: Site) -> str:
    parts = [site.tus.upload(piece, headers=PARTIAL) for piece in (DATA[:HALF], DATA[HALF:])]
    answer = site.tus.concatenate(parts)
    assert answer.status == 201, answer
    return site.tus.location(answer)


def _waiting(site: Site) -> str:
    answer = site.tus.concatenate([_partial_half(site)])
    assert answer.status == 201, answer
    return site.tus.location(answer)


def _partial_half(site: Site) -> str:
    url = site.tus.create(len(DATA), PARTIAL)
    assert site.tus.patch(url, 0, DATA[:HALF]).status == 204
    return url


PARTIAL = {"Upload-Concat": "partial"}
GIVEN: dict[str, Callable[[Site], str]] = {
    "nothing": lambda site: site.tus.endpoint,
    "unknown": lambda site: site.tus.endpoint + UNKNOWN,
    "new": lambda site: site.tus.create(len(DATA)),
    "half": _half,
    "full": lambda site: site.tus.upload(DATA),
    "empty": lambda site: site.tus.create(0),
    "deferred": _deferred,
    "gone": _gone,
    "partial": _partial_half,
    "final": _final,
    "waiting": _waiting,
}

# What HEAD and bucket say afterwards, where the request must not change anything.
UNCHANGED: dict[str, tuple[str | None, bytes | None]] = {
    "new": ("0", None),
    "half": ("4", None),
    "full": ("10", DATA),
    "empty": ("0", b""),
    "deferred": ("4", None),
    "partial": ("4", None),
    "final": ("10", DATA),
    "waiting": (None, None),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request. `expect`: a text, a pattern, or None for a header that must not be there."""

    section: str
    name: str
    given: str
    method: str
    status: int
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None
    target: str | None = None
    version: str | None = "1.0.0"
    expect: Mapping[str, str | re.Pattern[str] | None] = field(default_factory=dict)
    code: str | None = None
    offset: str | None = None
    """Upload-Offset of HEAD afterwards; None: as before."""
    content: bytes | None = None
    """In the bucket afterwards, with `offset`."""

    def check(self, site: Site) -> None:
        """Sends it, and looks at everything it may have changed."""
        before = set(site.bucket.keys()) if self.given == "nothing" else set()
        url = GIVEN[self.given](site)
        body = self.body if self.body is None or isinstance(self.body, bytes) else iter(self.body)
        target = url if self.target is None else self.target
        answer = site.tus.request(self.method, target, self.headers, body, version=self.version)
        assert answer.status == self.status, answer
        self._check_answer(answer)
        if self.given == "nothing" and self.status >= 400:
            assert set(site.bucket.keys()) == before
        elif self.offset is not None:
            assert site.tus.head(url)["Upload-Offset"] == self.offset
            assert site.bucket.read(url) == self.content
        elif self.given in UNCHANGED and "DELETE" not in {self.method, self.headers.get(OVERRIDE)}:
            offset, content = UNCHANGED[self.given]
            assert site.tus.head(url).get("Upload-Offset") == offset
            assert site.bucket.read(url) == content

    def _check_answer(self, answer: Answer) -> None:
        for name, wanted in self.expect.items():
            value = answer.get(name)
            if wanted is None or value is None:
                assert value is wanted, (name, answer)
            elif isinstance(wanted, str):
                assert value == wanted, (name, answer)
            else:
                assert wanted.fullmatch(value), (name, answer)
        if self.code is not None:
            assert json.loads(answer.body)["code"] == self.code


def options(name: str, target: str, version: str | None, given: str = "nothing") -> Row:
    return Row(
        section="Core, OPTIONS",
        name=name,
        given=given,
        method="OPTIONS",
        target=target or None,
        version=version,
        status=204,
        expect={
            "Tus-Version": "1.0.0",
            "Tus-Extension": re.compile("creation,.*"),
            "Tus-Checksum-Algorithm": re.compile("sha1,.*"),
        },
    )


def head(section: str, name: str, given: str, status: int = 200, **expect: str | None) -> Row:
    wanted = {key.replace("_", "-"): value for key, value in expect.items()}
    wanted |= {"Cache-Control": "no-store", "Tus-Resumable": "1.0.0"}
    return Row(section=section, name=name, given=given, method="HEAD", status=status, expect=wanted)


def patch(
    section: str,
    name: str,
    given: str,
    offset: int | str | None,
    body: bytes | Iterable[bytes],
    status: int,
    *,
    code: str | None = None,
    headers: Mapping[str, str | None] | None = None,
    expect: Mapping[str, str | re.Pattern[str] | None] | None = None,
    after: str | None = None,
    content: bytes | None = None,
    version: str | None = "1.0.0",
) -> Row:
    sent = {"Content-Type": OFFSET_MEDIA_TYPE, "Upload-Offset": str(offset)}
    if offset is None:
        del sent["Upload-Offset"]
    return Row(
        section=section,
        name=name,
        given=given,
        method="PATCH",
        headers=sent | dict(headers or {}),
        body=body,
        status=status,
        version=version,
        code=code,
        expect=expect or {},
        offset=after,
        content=content,
    )


def post(
    section: str,
    name: str,
    headers: Mapping[str, str | None],
    status: int,
    *,
    code: str | None = None,
    body: bytes | Iterable[bytes] | None = None,
    expect: Mapping[str, str | re.Pattern[str] | None] | None = None,
    version: str | None = "1.0.0",
) -> Row:
    return Row(
        section=section,
        name=name,
        given="nothing",
        method="POST",
        headers=headers,
        body=body,
        status=status,
        code=code,
        expect=expect or {},
        version=version,
    )


VERSIONS = {"Tus-Version": "1.0.0", "Tus-Resumable": "1.0.0"}
OVERRIDE = "X-HTTP-Method-Override"
LOCATION = re.compile(r"/files/[a-z0-9-]{1,16}~[A-Za-z0-9_-]{24}")
TYPE = {"Content-Type": OFFSET_MEDIA_TYPE}
C, H, P, O = "Core", "Core, HEAD", "Core, PATCH", "Core, X-HTTP-Method-Override"  # noqa: E741
CR, DL, WU = "Creation, POST", "Creation, Upload-Defer-Length", "Creation With Upload"
MD, CS, TE, CO = "Creation, Upload-Metadata", "Checksum", "Termination", "Concatenation"

ROWS = [
    # -- Core
    options("core-options", "/files/", None),
    options("core-options-no-slash", "/files", None),
    options("core-options-wrong-version", "/files/", "0.2.2"),
    options("core-options-any-upload", "/files/nobody~x", None),
    options("core-options-strange-id", "/files/a/b/..%2f", "x"),
    options("core-options-upload", "", None, given="half"),
    *(
        Row(
            section="Core, Tus-Resumable",
            name=f"core-version-{method.lower()}-{said}",
            given="half",
            method=method,
            headers=TYPE | {"Upload-Offset": "4"},
            body=b"456" if method == "PATCH" else None,
            version=version,
            status=412,
            expect=VERSIONS,
        )
        for method in ("HEAD", "PATCH")
        for said, version in (("absent", None), ("old", "0.2.2"), ("twice", "1.0.0, 1.0.0"))
    ),
    post("Core, Tus-Resumable", "core-version-post", {"Upload-Length": "0"}, 412, version="1.0",
         expect=VERSIONS, code="unsupported_version"),
    head(H, "core-head-no-store", "new", Upload_Offset="0", Upload_Length="10"),
    head(H, "core-head-half", "half", Upload_Offset="4", Upload_Length="10"),
    head(H, "core-head-full", "full", Upload_Offset="10", Upload_Length="10",
         Upload_Defer_Length=None, Upload_Expires=None),
    head(H, "core-head-unknown", "unknown", 404, Upload_Offset=None),
    head(H, "core-head-gone", "gone", 410, Upload_Offset=None),
    patch(P, "core-patch-first", "new", 0, b"012", 204, after="3",
          expect={"Upload-Offset": "3", "Tus-Resumable": "1.0.0", "Content-Length": None}),
    patch(P, "core-patch-next", "half", 4, b"45", 204, expect={"Upload-Offset": "6"}, after="6"),
    patch(P, "core-patch-last", "half", 4, b"456789", 204, expect={"Upload-Offset": "10"},
          after="10", content=DATA),
    patch(P, "core-patch-chunked", "half", 4, [b"45", b"6789"], 204, after="10", content=DATA,
          expect={"Upload-Offset": "10"}),
    patch(P, "core-patch-empty", "half", 4, b"", 204, expect={"Upload-Offset": "4"}),
    patch(P, "core-patch-empty-when-full", "full", 10, b"", 204, expect={"Upload-Offset": "10"}),
    patch(P, "core-patch-offset-below", "half", 3, b"345", 409, code="offset_mismatch",
          expect={"Upload-Offset": "4"}),
    patch(P, "core-patch-offset-above", "half", 5, b"567", 409, expect={"Upload-Offset": "4"}),
    patch(P, "core-patch-offset-full", "full", 0, DATA, 409, expect={"Upload-Offset": "10"}),
    patch(P, "core-patch-offset-absent", "half", None, b"456", 400, code="invalid_header"),
    *(
        patch(P, f"core-patch-offset-{name}", "half", text, b"456", 400, code="invalid_header")
        for name, text in (
            *(("negative", "-1"), ("fraction", "4.0"), ("words", "four"), ("twice", "4, 4")),
            *(("huge", "9" * 30), ("plus", "+4"), ("hex", "0x4")),
        )
    ),
    *(
        patch(P, f"core-patch-type-{name}", "half", 4, b"456", 415, code="unsupported_media_type",
              headers={"Content-Type": kind})
        for name, kind in (
            *(("absent", None), ("json", "application/json"), ("form", "multipart/form-data")),
            ("octets", "application/octet-stream"),
        )
    ),
    patch(P, "core-patch-unknown", "unknown", 0, b"0", 404, code="upload_not_found"),
    patch(P, "core-patch-gone", "gone", 4, b"4", 410, code="upload_gone"),
    patch(P, "core-patch-too-long", "half", 4, b"4567890", 413, code="size_exceeded"),
    patch(P, "core-patch-too-long-when-full", "full", 10, b"x", 413, code="size_exceeded"),
    patch(P, "core-patch-too-long-when-full-chunked", "full", 10, [b"x"], 413,
          code="size_exceeded"),
    Row(section=O, name="core-override-patch", given="half", method="POST", status=204,
        headers=TYPE | {OVERRIDE: "PATCH", "Upload-Offset": "4"}, body=b"456789",
        expect={"Upload-Offset": "10"}, offset="10", content=DATA),
    Row(section=O, name="core-override-head", given="half", method="POST", status=200,
        headers={OVERRIDE: "HEAD"}, expect={"Upload-Offset": "4", "Cache-Control": "no-store"}),
    Row(section=O, name="core-override-delete", given="half", method="POST", status=204,
        headers={OVERRIDE: "DELETE"}),
    Row(section=O, name="core-override-options", given="half", method="POST", status=204,
        headers={OVERRIDE: "OPTIONS"}, version=None, expect={"Tus-Version": "1.0.0"}),
    Row(section=O, name="core-override-hides-delete", given="half", method="DELETE", status=200,
        headers={OVERRIDE: "HEAD"}, offset="4"),
    Row(section=O, name="core-override-nonsense", given="half", method="PATCH", status=405,
        headers=TYPE | {OVERRIDE: "BREW", "Upload-Offset": "4"}, body=b"456",
        code="method_not_allowed", expect={"Allow": re.compile(".*PATCH.*")}),
    Row(section=C, name="core-put-is-not-there", given="half", method="PUT", status=405,
        body=b"x", code="method_not_allowed"),
    Row(section=C, name="core-post-on-upload", given="half", method="POST", status=405,
        headers={"Upload-Length": "1"}),
    Row(section=C, name="core-patch-on-collection", given="nothing", method="PATCH", status=405,
        headers=TYPE | {"Upload-Offset": "0"}, body=b"x"),
    Row(section=C, name="core-get-on-collection", given="nothing", method="GET", status=405,
        version=None),
    # -- Creation
    post(CR, "creation-post", {"Upload-Length": "5"}, 201,
         expect={"Location": LOCATION, "Tus-Resumable": "1.0.0", "Upload-Offset": None,
                 "Upload-Expires": DATE}),
    Row(section=CR, name="creation-post-no-slash", given="nothing", method="POST", status=201,
        target="/files", headers={"Upload-Length": "5"}, expect={"Location": LOCATION}),
    head(CR, "creation-empty-is-complete", "empty", Upload_Offset="0", Upload_Length="0",
         Upload_Expires=None),
    post(CR, "creation-no-length", {}, 400, code="invalid_header"),
    post(CR, "creation-both-lengths", {"Upload-Length": "5", "Upload-Defer-Length": "1"}, 400),
    *(
        post(CR, f"creation-length-{name}", {"Upload-Length": text}, 400, code="invalid_header")
        for name, text in (
            *(("negative", "-1"), ("empty", ""), ("words", "ten"), ("twice", "5, 5")),
            *(("fraction", "1.5"), ("above-2-63", str(2**63)), ("long", "1" * 5000)),
        )
    ),
    post(CR, "creation-too-large", {"Upload-Length": str(6 * 1024**4)}, 413, code="size_exceeded"),
    *(
        post(DL, f"creation-defer-{name}", {"Upload-Defer-Length": text}, 400)
        for name, text in (("zero", "0"), ("two", "2"), ("true", "true"), ("twice", "1, 1"))
    ),
    head(DL, "creation-defer-in-head", "deferred", Upload_Offset="4", Upload_Defer_Length="1",
         Upload_Length=None),
    head(DL, "creation-not-deferred-in-head", "half", Upload_Defer_Length=None),
    patch(DL, "creation-defer-declare-with-bytes", "deferred", 4, b"456789", 204, after="10",
          content=DATA, headers={"Upload-Length": "10"}, expect={"Upload-Offset": "10"}),
    patch(DL, "creation-defer-declare-empty-at-end", "deferred", 4, b"", 204, after="4",
          content=DATA[:4], headers={"Upload-Length": "4"}),
    patch(DL, "creation-defer-below-offset", "deferred", 4, b"", 400, code="invalid_header",
          headers={"Upload-Length": "3"}),
    patch(DL, "creation-defer-too-long", "deferred", 4, b"45", 413, headers={"Upload-Length": "5"}),
    patch(DL, "creation-defer-too-large", "deferred", 4, b"", 413,
          headers={"Upload-Length": str(6 * 1024**4)}),
    patch(DL, "creation-length-changes", "half", 4, b"4", 400, headers={"Upload-Length": "11"}),
    patch(DL, "creation-length-again", "half", 4, b"4", 204, headers={"Upload-Length": "10"},
          after="5"),
    *(
        post(MD, f"creation-metadata-{name}", {"Upload-Length": "0", "Upload-Metadata": text}, 400,
             code="invalid_header")
        for name, text in (
            *(("no-base64", "a b"), ("twice", "a YQ==,a YQ=="), ("no-key", "a,,b"), ("comma", ",")),
            *(("non-ascii-key", "\xe4 YQ=="), ("two-values", "a YQ== Yg=="), ("tab", "a\tYQ==")),
            ("huge", "a " + "A" * 20_000),
        )
    ),
    # -- Creation With Upload
    post(WU, "with-upload-whole", TYPE | {"Upload-Length": "10"}, 201, body=DATA,
         expect={"Upload-Offset": "10", "Location": LOCATION, "Upload-Expires": None}),
    post(WU, "with-upload-part", TYPE | {"Upload-Length": "10"}, 201, body=DATA[:4],
         expect={"Upload-Offset": "4", "Upload-Expires": DATE}),
    post(WU, "with-upload-chunked", TYPE | {"Upload-Length": "10"}, 201, body=[DATA[:4], DATA[4:]],
         expect={"Upload-Offset": "10"}),
    post(WU, "with-upload-deferred", TYPE | {"Upload-Defer-Length": "1"}, 201, body=DATA,
         expect={"Upload-Offset": "10", "Upload-Expires": DATE}),
    post(WU, "with-upload-too-long", TYPE | {"Upload-Length": "9"}, 413, body=DATA,
         code="size_exceeded", expect={"Location": None}),
    post(WU, "with-upload-too-long-chunked", TYPE | {"Upload-Length": "9"}, 413, body=[DATA]),
    post(WU, "with-upload-no-type", {"Upload-Length": "10"}, 415, body=DATA),
    post(WU, "with-upload-other-type", {"Content-Type": "text/plain", "Upload-Length": "10"}, 415,
         body=DATA),
    post(WU, "with-upload-checksum", TYPE | {"Upload-Length": "10",
         "Upload-Checksum": checksum("sha1", DATA)}, 201, body=DATA,
         expect={"Upload-Offset": "10"}),
    post(WU, "with-upload-checksum-mismatch", TYPE | {"Upload-Length": "10",
         "Upload-Checksum": checksum("sha1", b"")}, 460, body=DATA, code="checksum_mismatch"),
    # -- Checksum
    *(
        patch(CS, f"checksum-{name}", "half", 4, DATA[4:], 204, after="10", content=DATA,
              headers={"Upload-Checksum": checksum(name, DATA[4:])})
        for name in ALGORITHMS
    ),
    *(
        patch(CS, f"checksum-{name}-mismatch", "half", 4, DATA[4:], 460, code="checksum_mismatch",
              headers={"Upload-Checksum": checksum(name, DATA)})
        for name in ALGORITHMS
    ),
    patch(CS, "checksum-mismatch-chunked", "half", 4, [b"45", b"67"], 460,
          headers={"Upload-Checksum": checksum("sha1", b"")}),
    patch(CS, "checksum-unknown", "half", 4, b"456", 400, code="unknown_checksum_algorithm",
          headers={"Upload-Checksum": "sha3 AAAA"}),
    patch(CS, "checksum-uppercase", "half", 4, b"456", 400, code="unknown_checksum_algorithm",
          headers={"Upload-Checksum": checksum("sha1", b"456").replace("sha1", "SHA1")}),
    patch(CS, "checksum-no-base64", "half", 4, b"456", 400, code="invalid_header",
          headers={"Upload-Checksum": "sha1 !"}),
    patch(CS, "checksum-short", "half", 4, b"456", 400, headers={"Upload-Checksum": "sha1 AAAA"}),
    patch(CS, "checksum-before-offset", "half", 5, b"456", 409,
          headers={"Upload-Checksum": checksum("sha1", b"456")}, expect={"Upload-Offset": "4"}),
    # -- Termination
    *(
        Row(section=TE, name=f"termination-{given}", given=given, method="DELETE", status=204,
            expect={"Tus-Resumable": "1.0.0"})
        for given in ("new", "half", "full", "empty", "deferred", "partial", "final", "waiting")
    ),
    Row(section=TE, name="termination-again", given="gone", method="DELETE", status=410),
    Row(section=TE, name="termination-unknown", given="unknown", method="DELETE", status=404),
    Row(section=TE, name="termination-wrong-version", given="half", method="DELETE", version="2",
        status=412, offset="4"),
    Row(section=TE, name="termination-of-nothing", given="nothing", method="DELETE", status=405),
    # -- Concatenation
    head(CO, "concat-head-partial", "partial", Upload_Concat="partial", Upload_Offset="4",
         Upload_Length="10"),
    head(CO, "concat-head-waiting", "waiting", Upload_Offset=None, Upload_Length="10"),
    head(CO, "concat-head-final", "final", Upload_Offset="10", Upload_Length="10",
         Upload_Expires=None),
    head(CO, "concat-head-single", "half", Upload_Concat=None),
    patch(CO, "concat-patch-final", "final", 10, b"", 403, code="final_not_writable"),
    patch(CO, "concat-patch-final-bytes", "final", 0, b"x", 403),
    patch(CO, "concat-patch-waiting", "waiting", 0, b"x", 403),
    *(
        post(CO, f"concat-{name}", {"Upload-Concat": text}, 400)
        for name, text in (
            *(("nothing", "final;"), ("no-semicolon", "final"), ("word", "whole")),
            *(("unknown", f"final;/files/{UNKNOWN}"), ("elsewhere", "final;/else/a~b")),
            *(("foreign", "final;https://example.com/x"), ("case", "Final;/files/a~b")),
            *(("nul", "final;/files/%00"), ("dots", "final;/files/..%2f..")),
            ("many", "final;" + " ".join(["/files/a~b"] * 1001)),
        )
    ),
    post(CO, "concat-partial-without-length", {"Upload-Concat": "partial"}, 400),
    # -- Downloads (GET is no part of the text)
    Row(section="GET", name="get-unfinished", given="half", method="GET", version=None, status=409,
        code="upload_unfinished"),
    Row(section="GET", name="get-unknown", given="unknown", method="GET", version=None, status=404),
    Row(section="GET", name="get-partial", given="partial", method="GET", version=None, status=404),
    Row(section="GET", name="get-waiting", given="waiting", method="GET", version=None, status=409),
    Row(section="GET", name="get-wrong-version", given="full", method="GET", version="0.2.2",
        status=302),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row: Row, site: Site) -> None:
    row.check(site)


def test_names_are_unique() -> None:
    names = [row.name for row in ROWS] + [story.name for story in STORIES]
    assert len(names) == len(set(names))


# -- Rows with more than one request


@dataclass(frozen=True, slots=True)
class Story:
    section: str
    name: str
    site: str
    tell: Callable[[Site], None]


STORIES: list[Story] = []


def story(
    section: str, name: str, site: str = "site"
) -> Callable[[Callable[[Site], None]], Callable[[Site], None]]:
    def register(tell: Callable[[Site], None]) -> Callable[[Site], None]:
        STORIES.append(Story(section, name, site, tell))
        return tell

    return register


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
    url = _half(site)
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
        url = _half(site)
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


# -- Concatenation


@story(CO, "concat-order-and-repetition")
def _(site: Site) -> None:
    pieces = [b"one,", b"two,", b"three,"]
    urls = [site.tus.upload(piece, headers=PARTIAL) for piece in pieces]
    for order in ([0, 1, 2], [2, 0, 1], [1, 1, 0, 1]):
        answer = site.tus.concatenate([urls[i] for i in order])
        assert answer.status == 201, answer
        expected = b"".join(pieces[i] for i in order)
        assert site.bucket.read(site.tus.location(answer)) == expected


@story(CO, "concat-small-and-large-mixed")
def _(site: Site) -> None:
    sizes = [3, 5 * MIB, 1, 5 * MIB + 1, 0, 6 * MIB, 5 * MIB - 1, 7]
    pieces = [os.urandom(size) for size in sizes]
    urls = [
        site.tus.upload(p, headers=PARTIAL) if p else site.tus.create(0, PARTIAL) for p in pieces
    ]
    answer = site.tus.concatenate(urls)
    assert answer.status == 201, answer
    url = site.tus.location(answer)
    told = site.tus.head(url)
    assert told["Upload-Offset"] == told["Upload-Length"] == str(sum(sizes))
    assert site.bucket.read(url) == b"".join(pieces)


@story(CO, "concat-large-only")
def _(site: Site) -> None:
    large = BIG[: 6 * MIB]
    url = site.tus.upload(large, headers=PARTIAL)
    answer = site.tus.concatenate([url, url])
    assert answer.status == 201, answer
    assert site.bucket.read(site.tus.location(answer)) == large * 2


@story(CO, "concat-header-comes-back")
def _(site: Site) -> None:
    """Its value as received in the creation request: absolute, relative, percent-encoded."""
    partial = site.tus.upload(DATA, headers=PARTIAL)
    path = urlsplit(partial).path
    name = path.rpartition("/")[2]
    for form in (partial, path, name, path.replace("~", "%7E"), f"https://elsewhere.example{path}"):
        text = f"final;{form} {path}"
        answer = site.tus.post({"Upload-Concat": text})
        assert answer.status == 201, (form, answer)
        url = site.tus.location(answer)
        assert site.tus.head(url)["Upload-Concat"] == text
        assert site.bucket.read(url) == DATA * 2


@story(CO, "concat-unfinished-partials")
def _(site: Site) -> None:
    first = site.tus.create(len(BIG), PARTIAL)
    second = site.tus.create(None, PARTIAL)
    answer = site.tus.concatenate([first, second])
    assert answer.status == 201, answer
    url = site.tus.location(answer)
    told = site.tus.head(url)
    assert told.status == 200 and "Upload-Offset" not in told and "Upload-Length" not in told
    assert told["Upload-Concat"].startswith("final;")
    assert site.tus.patch(first, 0, BIG).status == 204
    assert site.tus.patch(second, 0, DATA, {"Upload-Length": "10"}).status == 204
    told = site.tus.head(url)
    assert told["Upload-Offset"] == told["Upload-Length"] == str(len(BIG) + 10)
    assert site.bucket.read(url) == BIG + DATA


@story(CO, "concat-does-not-end-its-partials")
def _(site: Site) -> None:
    partial = site.tus.upload(DATA, headers=PARTIAL)
    finals = [site.tus.location(site.tus.concatenate([partial])) for _ in range(2)]
    assert site.tus.delete(partial).status == 204
    for final in finals:
        assert site.bucket.read(final) == DATA
    assert site.tus.concatenate([partial]).status == 400


@story(CO, "concat-only-partials")
def _(site: Site) -> None:
    partial, single, final = (
        site.tus.upload(DATA, headers=PARTIAL),
        site.tus.upload(DATA),
        _final(site),
    )
    before = set(site.bucket.keys())
    for wrong in (single, final, site.tus.endpoint + UNKNOWN, _half(site), _gone(site)):
        answer = site.tus.concatenate([partial, wrong])
        assert answer.status == 400, (wrong, answer)
        assert json.loads(answer.body)["code"] == "not_concatenable"
    assert set(site.bucket.keys()) == before


@story(CO, "concat-metadata-is-not-transferred")
def _(site: Site) -> None:
    text = metadata({"filename": "part.txt", "filetype": "text/plain"})
    partial = site.tus.upload(DATA, headers=PARTIAL, metadata=text)
    bare = site.tus.location(site.tus.concatenate([partial]))
    assert "Upload-Metadata" not in site.tus.head(bare)
    assert "part" not in site.bucket.info(bare)["ContentDisposition"]
    own = metadata({"filename": "whole.txt"})
    answer = site.tus.concatenate([partial], {"Upload-Metadata": own})
    named = site.tus.location(answer)
    assert site.tus.head(named)["Upload-Metadata"] == own
    assert 'filename="whole.txt"' in site.bucket.info(named)["ContentDisposition"]


@story(CO, "concat-takes-no-length")
def _(site: Site) -> None:
    partial = site.tus.upload(DATA, headers=PARTIAL)
    assert site.tus.concatenate([partial], {"Upload-Length": "10"}).status == 400
    assert site.tus.concatenate([partial], {"Upload-Defer-Length": "1"}).status == 400


@story(CO, "concat-takes-no-body")
def _(site: Site) -> None:
    partial = site.tus.upload(DATA, headers=PARTIAL)
    answer = site.tus.post({"Upload-Concat": f"final;{urlsplit(partial).path}"}, b"x")
    assert answer.status == 400, answer


@story(CO, "concat-head-never-says-more-than-there-is")
def _(site: Site) -> None:
    """A partial that is terminated before the final one is made: no offset, ever."""
    partial = _partial_half(site)
    url = site.tus.location(site.tus.concatenate([partial]))
    assert site.tus.delete(partial).status == 204
    told = site.tus.head(url)
    assert told.status >= 400 and "Upload-Offset" not in told
    assert site.bucket.read(url) is None


# -- Downloads


@story("GET", "get-redirects")
def _(site: Site) -> None:
    text = metadata({"filename": "ü.html", "filetype": "text/html"})
    url = site.tus.upload(DATA, metadata=text)
    answer = site.tus.get(url)
    assert answer.status == 302 and answer["Cache-Control"] == "no-store"
    told = site.tus.get(answer["Location"])
    assert told.status == 200 and told.body == DATA
    assert told["Content-Type"] == "text/html"
    expected = "attachment; filename=\"_.html\"; filename*=UTF-8''%C3%BC.html"
    assert told["Content-Disposition"] == expected


@story("GET", "get-head-stays-tus")
def _(site: Site) -> None:
    url = site.tus.upload(DATA)
    assert site.tus.request("HEAD", url, version=None).status == 412


@story("GET", "get-final-redirects")
def _(site: Site) -> None:
    assert site.tus.get(site.tus.get(_final(site))["Location"]).body == DATA


@story("GET", "get-off", "hasty")
def _(site: Site) -> None:
    answer = site.tus.post({"Upload-Length": "2"}, b"01")
    url = urljoin(site.server.uploads_url, answer["Location"].rpartition("/")[2])
    assert site.tus.get(url).status == 405


@story("GET", "get-streams", "streaming")
def _(site: Site) -> None:
    data = BIG[: MIB - 3]
    text = metadata({"filename": "ü.html", "filetype": "application/xhtml+xml"})
    url = site.tus.upload(data, metadata=text)
    answer = site.tus.get(url)
    assert answer.status == 200 and answer.body == data
    assert answer["Content-Length"] == str(len(data)) and answer["Accept-Ranges"] == "bytes"
    assert answer["Content-Type"] == "application/xhtml+xml"
    assert answer["X-Content-Type-Options"] == "nosniff"
    expected = "attachment; filename=\"_.html\"; filename*=UTF-8''%C3%BC.html"
    assert answer["Content-Disposition"] == expected


@story("GET", "get-streams-untyped", "streaming")
def _(site: Site) -> None:
    answer = site.tus.get(site.tus.upload(b"<script>alert(1)</script>"))
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == "attachment"


@story("GET", "get-streams-nothing", "streaming")
def _(site: Site) -> None:
    answer = site.tus.get(site.tus.create(0))
    assert (answer.status, answer.body, answer["Content-Length"]) == (200, b"", "0")
    assert site.tus.get(site.tus.create(0), {"Range": "bytes=0-"}).status == 416


@story("GET", "get-inline-only-where-allowed", "streaming")
def _(site: Site) -> None:
    for kind, shown in (
        ("image/png", "inline"),
        ("IMAGE/PNG", "inline"),
        ("text/plain; charset=utf-8", "inline"),
        ("image/svg+xml", "attachment"),
        ("image/png2", "attachment"),
        ("application/text/plain", "attachment"),
    ):
        url = site.tus.upload(DATA, metadata=metadata({"filetype": kind}))
        assert site.tus.get(url)["Content-Disposition"] == shown, kind


@story("GET", "get-ranges", "streaming")
def _(site: Site) -> None:
    url = site.tus.upload(DATA)
    for text, status, body, told in (
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-5", 206, b"2345", "bytes 2-5/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
    ):
        answer = site.tus.get(url, {"Range": text})
        assert (answer.status, answer.body) == (status, body), text
        assert answer["Content-Range"] == told
        assert answer["Content-Length"] == str(len(body))
    for text in ("bytes=5-2", "lines=1-2", "bytes=x"):
        assert site.tus.get(url, {"Range": text}).body == DATA


@story("GET", "get-conditions", "streaming")
def _(site: Site) -> None:
    url = site.tus.upload(DATA)
    etag = site.tus.get(url)["ETag"]
    assert site.tus.get(url, {"If-None-Match": etag}).status == 304
    assert site.tus.get(url, {"If-None-Match": '"other"'}).status == 200
    assert site.tus.get(url, {"Range": "bytes=1-1", "If-Range": etag}).status == 206
    assert site.tus.get(url, {"Range": "bytes=1-1", "If-Range": '"other"'}).body == DATA


# -- Location, CORS


@story("Creation, Location", "location-ignores-untrusted-proxies")
def _(site: Site) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    answer = site.tus.post({"Upload-Length": "1", "Host": "other.example"} | forwarded)
    assert LOCATION.fullmatch(answer["Location"]), answer


@story("Creation, Location", "location-from-trusted-proxies", "streaming")
def _(site: Site) -> None:
    def location(**forwarded: str) -> str:
        headers = {name.replace("_", "-"): text for name, text in forwarded.items()}
        path = site.tus.post({"Upload-Length": "1"} | headers)["Location"]
        return path.rpartition("/")[0]

    proto, host = "https", "up.example.com"
    assert location(X_Forwarded_Proto=proto, X_Forwarded_Host=host) == f"https://{host}/files"
    assert location(X_Forwarded_Proto=proto, Host=host) == f"https://{host}/files"
    assert location(X_Forwarded_Proto="https, http", X_Forwarded_Host=f"{host}, b") == (
        f"https://{host}/files"
    )
    assert location() == "/files"
    assert location(X_Forwarded_Proto="javascript", X_Forwarded_Host=host) == "/files"
    assert location(X_Forwarded_Proto=proto, X_Forwarded_Host="a/b?c") == "/files"


@story("Creation, Location", "location-from-the-public-url", "hasty")
def _(site: Site) -> None:
    answer = site.tus.post({"Upload-Length": "1", "X-Forwarded-Host": "evil.example"})
    assert answer["Location"].startswith("https://uploads.example.com/a/b/")


EXPOSED = {
    *("location", "upload-offset", "upload-length", "upload-defer-length", "upload-metadata"),
    *("upload-expires", "upload-concat", "tus-version", "tus-resumable", "tus-max-size"),
    *("tus-extension", "tus-checksum-algorithm"),
}
ASKED = {
    *("tus-resumable", "upload-length", "upload-offset", "upload-metadata", "content-type"),
    *("upload-defer-length", "upload-concat", "upload-checksum", "x-http-method-override"),
}


def _names(answer: Answer, header: str) -> set[str]:
    return {name.strip().lower() for name in answer[header].split(",")}


@story("CORS", "cors-preflight")
def _(site: Site) -> None:
    headers = {
        "Origin": "https://anywhere.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "upload-offset, x-own-header",
    }
    for target in ("/files/", "/files/nobody~x"):
        answer = site.tus.request("OPTIONS", target, headers, version=None)
        assert answer.status == 204 and answer["Access-Control-Allow-Origin"] == "*"
        assert _names(answer, "Access-Control-Allow-Methods") >= {"post", "head", "patch", "delete"}
        assert _names(answer, "Access-Control-Allow-Headers") >= ASKED | {"x-own-header"}
        assert "Access-Control-Allow-Credentials" not in answer


@story("CORS", "cors-exposes-every-header")
def _(site: Site) -> None:
    origin = {"Origin": "https://anywhere.example"}
    url = _half(site)
    for answer in (
        site.tus.post({"Upload-Length": "1"} | origin),
        site.tus.request("HEAD", url, origin),
        site.tus.patch(url, 9, b"x", origin),
        site.tus.patch(url, 4, b"x", origin),
        site.tus.request("HEAD", UNKNOWN, origin),
        site.tus.request("DELETE", url, origin),
        site.tus.get(site.tus.upload(DATA), origin),
    ):
        assert answer["Access-Control-Allow-Origin"] == "*", answer
        assert _names(answer, "Access-Control-Expose-Headers") >= EXPOSED, answer


@story("CORS", "cors-no-origin-no-headers")
def _(site: Site) -> None:
    assert "Access-Control-Allow-Origin" not in site.tus.post({"Upload-Length": "1"})


@story("CORS", "cors-one-origin", "hasty")
def _(site: Site) -> None:
    for method, headers in (("OPTIONS", {}), ("POST", {"Upload-Length": "1"})):
        mine = site.tus.request(method, "", headers | {"Origin": "https://app.example.com"})
        assert mine["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert mine["Access-Control-Allow-Credentials"] == "true" and mine["Vary"] == "Origin"
        other = site.tus.request(method, "", headers | {"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other and other["Vary"] == "Origin"


@pytest.mark.parametrize("told", STORIES, ids=lambda told: told.name)
def test_story(told: Story, request: pytest.FixtureRequest) -> None:
    told.tell(request.getfixturevalue(told.site))
