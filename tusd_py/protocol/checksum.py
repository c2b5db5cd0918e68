"""Upload-Checksum (Checksum): its grammar, and the algorithms.

The whole file's checksum has the same form: declared as metadata at creation, and told once the
upload is complete. It can only be CRC-32, the one that follows from those of the parts.
"""

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from tusd_py.protocol.errors import ChecksumMismatch, InvalidHeader, UnknownChecksumAlgorithm

_NAME = "Upload-Checksum"

FILE_KEY = "upload-checksum"
"""Key of Upload-Metadata: the checksum of the whole file, as `crc32 <Base64>`."""

_FILE_ALGORITHMS = ("crc32",)
"""Which can be verified without reading the file again."""


class Digest(Protocol):
    """The part of hashlib's interface that is used here."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Takes in the next bytes."""
        ...

    def digest(self) -> bytes:
        """The checksum of all bytes so far."""
        ...


class Crc32:
    """CRC-32 as zlib computes it; the digest is its four bytes, most significant first."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """Takes in the next bytes."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """The checksum of all bytes so far."""
        return self._value.to_bytes(4, "big")


def _hashlib(name: str) -> Callable[[], Digest]:
    return lambda: hashlib.new(name, usedforsecurity=False)


_ALGORITHMS: dict[str, tuple[Callable[[], Digest], int]] = {
    "sha1": (_hashlib("sha1"), 20),
    "sha256": (_hashlib("sha256"), 32),
    "sha512": (_hashlib("sha512"), 64),
    "md5": (_hashlib("md5"), 16),
    "crc32": (Crc32, 4),
}

ALGORITHMS: tuple[str, ...] = tuple(_ALGORITHMS)
"""Names as advertised in Tus-Checksum-Algorithm."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """A declared checksum of one request body."""

    algorithm: str
    expected: bytes

    def start(self) -> Digest:
        """A fresh digest of this algorithm."""
        return _ALGORITHMS[self.algorithm][0]()

    def check(self, digest: Digest) -> None:
        """Raises: ChecksumMismatch."""
        if not hmac.compare_digest(digest.digest(), self.expected):
            raise ChecksumMismatch(f"the body's {self.algorithm} is another one; nothing was kept")


def parse(text: str, *, name: str = _NAME, algorithms: Collection[str] = ALGORITHMS) -> Checksum:
    """`<algorithm> <Base64>`. Raises: InvalidHeader, UnknownChecksumAlgorithm."""
    algorithm, space, encoded = text.partition(" ")
    if not space:
        raise InvalidHeader(name, "must be an algorithm and a Base64 value")
    if algorithm not in algorithms:
        names = ", ".join(algorithms)
        raise UnknownChecksumAlgorithm(f"{name}: supported algorithms are {names}")
    size = _ALGORITHMS[algorithm][1]
    try:
        expected = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidHeader(name, "the value must be Base64") from error
    if len(expected) != size:
        raise InvalidHeader(name, f"a {algorithm} value has {size} bytes")
    return Checksum(algorithm, expected)


def declared_crc32(pairs: Mapping[str, bytes]) -> int | None:
    """CRC-32 of the whole file, where the metadata declare it under `FILE_KEY`.

    Raises: InvalidHeader; UnknownChecksumAlgorithm for those that could not be verified.
    """
    value = pairs.get(FILE_KEY)
    if value is None:
        return None
    name = f"Upload-Metadata, {FILE_KEY}"
    checksum = parse(value.decode("latin-1"), name=name, algorithms=_FILE_ALGORITHMS)
    return int.from_bytes(checksum.expected, "big")


def crc32_text(crc32: int) -> str:
    """The whole file's CRC-32 as `Upload-Checksum` has it."""
    return f"crc32 {base64.b64encode(crc32.to_bytes(4, 'big')).decode()}"


def trailer_declared(headers_trailer: str | None) -> bool:
    """Whether the `Trailer` header announces Upload-Checksum (checksum-trailer)."""
    names = (headers_trailer or "").split(",")
    return any(name.strip().lower() == _NAME.lower() for name in names)
