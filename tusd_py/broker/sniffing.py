"""What a file's first bytes say it is, and whether that contradicts what was promised.

Owns the one thread in which bytes from strangers are looked at, and the rules of contradiction.
The rules are lenient where signatures are (text, archives, media containers) and strict where a
lie would matter: a promised picture must be that picture.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from tusd_py.broker.profiles import essence_of

if TYPE_CHECKING:
    from pure_magic_rs import MagicDb

SNIFFED_SIZE = 4096
"""Bytes that are looked at. Every signature worth trusting is within them."""

UNKNOWN = "application/octet-stream"

_NO_PROMISE = frozenset({"", UNKNOWN, "binary/octet-stream", "application/x-download"})
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/vnd.microsoft.icon": "image/x-icon",
    "image/heif": "image/heic",
    "application/x-pdf": "application/pdf",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
    "application/x-rar-compressed": "application/x-rar",
    "application/vnd.rar": "application/x-rar",
    "application/x-tgz": "application/gzip",
}
_ALWAYS_KNOWN = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff"),
        *("application/pdf", "application/zip", "application/gzip", "application/x-7z-compressed"),
        *("video/mp4", "video/webm", "video/quicktime", "audio/ogg", "audio/flac"),
    }
)
"""Types that no file can be without showing it in its first bytes."""
_TEXTUAL_SUFFIXES = ("+xml", "+json", "+yaml")
_TEXTUAL = frozenset(
    {
        *("application/json", "application/xml", "application/javascript", "application/x-sh"),
        *("application/x-ndjson", "application/yaml", "application/sql", "application/rtf"),
        *("application/x-httpd-php", "application/toml", "message/rfc822", "application/x-ndjson"),
    }
)
_ZIP_BASED = (
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
    "application/vnd.android.package-archive",
    "application/epub+zip",
    "application/java-archive",
    "application/vnd.ms-",
    "application/x-",
)
_OLE = frozenset({"application/cdfv2", "application/x-ole-storage", "application/msword"})
_OLE_BASED = ("application/msword", "application/vnd.ms-", "application/x-msi")
_MEDIA = frozenset({"audio", "video"})


def contradicts(declared: str | None, sniffed: str) -> bool:
    """Whether bytes that look like `sniffed` break the promise of `declared`."""
    promise, fact = _normal(declared), _normal(sniffed)
    if promise in _NO_PROMISE or promise == fact:
        return False
    if fact == UNKNOWN:
        return promise in _ALWAYS_KNOWN
    if _is_textual(fact):
        return not _is_textual(promise)
    if fact == "application/zip":
        return not promise.startswith(_ZIP_BASED)
    if fact in _OLE:
        return not promise.startswith(_OLE_BASED)
    kinds = {promise.partition("/")[0], fact.partition("/")[0]}
    # One container holds sound or pictures under either name.
    return not (kinds <= _MEDIA)


class Sniffer:
    """Looks at bytes, one file at a time, beside the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sniff")

    async def sniff(self, head: bytes) -> str:
        """The media type that the bytes look like; `UNKNOWN` when they look like nothing."""
        if not head:
            return UNKNOWN
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look, head)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self, head: bytes) -> str:
        return self._database.best_magic_buffer(head).mime_type or UNKNOWN

    @cached_property
    def _database(self) -> "MagicDb":
        # Imported where it is needed: unpacking its rules takes a tenth of a second.
        from pure_magic_rs import MagicDb

        return MagicDb()


def _normal(media_type: str | None) -> str:
    essence = essence_of(media_type)
    return _ALIASES.get(essence, essence)


def _is_textual(media_type: str) -> bool:
    return (
        media_type.startswith("text/")
        or media_type in _TEXTUAL
        or media_type.endswith(_TEXTUAL_SUFFIXES)
    )
