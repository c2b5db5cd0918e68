"""Upload-Concat (Concatenation): its grammar."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tusd_py.protocol.errors import InvalidHeader, NotConcatenable
from tusd_py.protocol.headers import UPLOAD_ID

MAX_PARTIALS = 1000
"""Partial uploads one final upload may name; keeps header, row and plan bounded."""

_NAME = "Upload-Concat"


@dataclass(frozen=True, slots=True)
class Concat:
    """What Upload-Concat says: nothing, a partial upload, or a final one with its partials' ids."""

    partial: bool = False
    final: bool = False
    ids: tuple[str, ...] = ()


def parse(text: str | None, *, base_path: str) -> Concat:
    """`partial`, or `final;` and partial upload URLs, absolute or relative, separated by spaces.

    `base_path` is the path below which this server's uploads live, with a slash at its end.
    Raises: InvalidHeader, NotConcatenable for URLs that are not uploads of this server.
    """
    if text is None:
        return Concat()
    if text == "partial":
        return Concat(partial=True)
    kind, semicolon, urls = text.partition(";")
    if kind != "final" or not semicolon:
        raise InvalidHeader(_NAME, "must be `partial`, or `final;` and a list of upload URLs")
    names = urls.split()
    if not names:
        raise InvalidHeader(_NAME, "a final upload names at least one partial upload")
    if len(names) > MAX_PARTIALS:
        raise InvalidHeader(_NAME, f"a final upload names at most {MAX_PARTIALS} partial uploads")
    return Concat(final=True, ids=tuple(_upload_id(url, base_path) for url in names))


def _upload_id(url: str, base_path: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError as error:
        raise InvalidHeader(_NAME, "holds something that is not a URL") from error
    below, last = path.removeprefix(base_path), path.rpartition("/")[2]
    if path.startswith("/") and below != last:
        raise NotConcatenable(f"{_NAME} names a URL that is no upload of this server")
    upload_id = unquote(last)
    if not UPLOAD_ID.fullmatch(upload_id):
        raise NotConcatenable(f"{_NAME} names a URL without an upload id")
    return upload_id
