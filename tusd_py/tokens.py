"""Random text for ids, keys and tokens, from the system's random source.

A creation takes five of them. Each question to the system gives up the interpreter's lock, which
the thread of the database then mostly takes; so a page is asked for at a time. No byte is handed
out twice, and a forked process begins without any.
"""

import base64
import io
import os

_PAGE_SIZE = 4096

_page = io.BytesIO()
"""Bytes that nobody has got yet, behind its position. One call reads it: threads cannot share."""


def token_bytes(size: int) -> bytes:
    """`size` random bytes."""
    global _page
    found = _page.read(size)
    while len(found) < size:
        _page = io.BytesIO(os.urandom(_PAGE_SIZE))
        found += _page.read(size - len(found))
    return found


def token_urlsafe(size: int) -> str:
    """`size` random bytes as URL-safe base64, unpadded."""
    return base64.urlsafe_b64encode(token_bytes(size)).rstrip(b"=").decode("ascii")


def token_hex(size: int) -> str:
    """`size` random bytes, in hexadecimal."""
    return token_bytes(size).hex()


def _forget() -> None:
    global _page
    _page = io.BytesIO()


os.register_at_fork(after_in_child=_forget)
