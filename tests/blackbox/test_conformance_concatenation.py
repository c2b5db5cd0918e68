"""tus 1.0.0 in stories: concatenation."""

import json
import os
from urllib.parse import urlsplit

import pytest

from tests.blackbox.conformance import BIG, CO, DATA, GIVEN, MIB, PARTIAL, UNKNOWN, Stories, Story
from tests.blackbox.conftest import Site
from tests.support.tus import metadata

story = Stories()


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
        GIVEN["final"](site),
    )
    before = set(site.bucket.keys())
    for wrong in (
        single,
        final,
        site.tus.endpoint + UNKNOWN,
        GIVEN["half"](site),
        GIVEN["gone"](site),
    ):
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
    partial = GIVEN["partial"](site)
    url = site.tus.location(site.tus.concatenate([partial]))
    assert site.tus.delete(partial).status == 204
    told = site.tus.head(url)
    assert told.status >= 400 and "Upload-Offset" not in told
    assert site.bucket.read(url) is None


@pytest.mark.parametrize("told", story, ids=lambda told: told.name)
def test_story(told: Story, request: pytest.FixtureRequest) -> None:
    told.check(request)
