"""tus 1.0.0, as a table: the section of the text, what is there, what is sent, what must come back.

One request a row; stories of several are beside this file. All run against the real server process
and a real S3 engine.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from tests.blackbox.conformance import (
    ALGORITHMS,
    CO,
    CR,
    CS,
    DATA,
    DATE,
    DL,
    GIVEN,
    LOCATION,
    MD,
    TE,
    UNKNOWN,
    WU,
    C,
    H,
    O,
    P,
    checksum,
)
from tests.blackbox.conftest import Site
from tests.support.tus import OFFSET_MEDIA_TYPE
from tests.support.wire import Answer

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
TYPE = {"Content-Type": OFFSET_MEDIA_TYPE}

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
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
