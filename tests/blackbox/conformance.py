"""tus 1.0.0, as a table: what its rows and stories begin with, and how stories are told."""

import base64
import hashlib
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.blackbox.conftest import Site
from tests.support.tus import OFFSET_MEDIA_TYPE

MIB = 1024 * 1024
DATA = b"0123456789"
HALF = 4
BIG = os.urandom(12 * MIB + 7)
UNKNOWN = "nobody~AAAAAAAAAAAAAAAAAAAAAAAA"
TUS = {"Tus-Resumable": "1.0.0"}
BODY = TUS | {"Content-Type": OFFSET_MEDIA_TYPE}
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
LOCATION = re.compile(r"/files/[a-z0-9-]{1,16}~[A-Za-z0-9_-]{24}")
C, H, P, O = "Core", "Core, HEAD", "Core, PATCH", "Core, X-HTTP-Method-Override"  # noqa: E741
CR, DL, WU = "Creation, POST", "Creation, Upload-Defer-Length", "Creation With Upload"
MD, CS, TE, CO = "Creation, Upload-Metadata", "Checksum", "Termination", "Concatenation"
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


@dataclass(frozen=True, slots=True)
class Story:
    """Several requests. `site` is the fixture it is told at."""

    section: str
    name: str
    site: str
    tell: Callable[[Site], None]

    def check(self, request: pytest.FixtureRequest) -> None:
        self.tell(request.getfixturevalue(self.site))


class Stories(list[Story]):
    """The stories of one module, each a function marked with the section of the text it is from."""

    def __call__(
        self, section: str, name: str, site: str = "site"
    ) -> Callable[[Callable[[Site], None]], Callable[[Site], None]]:
        assert name not in {told.name for told in self}

        def register(tell: Callable[[Site], None]) -> Callable[[Site], None]:
            self.append(Story(section, name, site, tell))
            return tell

        return register
