"""What tus leaves open, in stories: downloads."""

from urllib.parse import urljoin

import pytest

from tests.blackbox.conformance import BIG, DATA, GIVEN, MIB, Stories, Story
from tests.blackbox.conftest import Site
from tests.support.tus import metadata

story = Stories()


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
    assert site.tus.get(site.tus.get(GIVEN["final"](site))["Location"]).body == DATA


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
    unchanged = site.tus.get(url, {"If-None-Match": etag})
    assert unchanged.status == 304 and "Content-Length" not in unchanged
    assert site.tus.get(url, {"If-None-Match": '"other"'}).status == 200
    assert site.tus.get(url, {"Range": "bytes=1-1", "If-Range": etag}).status == 206
    assert site.tus.get(url, {"Range": "bytes=1-1", "If-Range": '"other"'}).body == DATA


@pytest.mark.parametrize("told", story, ids=lambda told: told.name)
def test_story(told: Story, request: pytest.FixtureRequest) -> None:
    told.check(request)
