"""GET on a finished upload: a redirect to the store, or the bytes through this server.

Takes no lease. What a browser is allowed to show instead of saving is decided here.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal

from starlette.types import Send

from tusd_py.http.answers import send_answer
from tusd_py.protocol.disposition import content_disposition
from tusd_py.protocol.errors import FileRefused, MethodNotAllowed, UploadGone, UploadNotFound
from tusd_py.protocol.responses import file_checksum
from tusd_storage import lifecycle
from tusd_storage.ports import ObjectStore
from tusd_storage.records import Asset, AssetState, Kind, SessionState, UploadSession

LINK_LIFETIME_S = 300
"""A redirect is followed at once; the link need not live longer."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_DEFAULT_TYPE = "application/octet-stream"


class Unfinished(Exception):
    """The upload has no object yet. Answered with 409."""


class AssetQuarantined(Exception):
    """What arrived was checked and is not what it was said to be. Answered with 403."""


FindAsset = Callable[[str], Awaitable[Asset | None]]
"""The asset with this id. Raises: StateUnavailable."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `first + size - 1`."""

    first: int
    size: int


class Downloads:
    """Serves finished uploads in the configured way."""

    def __init__(
        self,
        objects: ObjectStore,
        *,
        find_asset: FindAsset,
        mode: Literal["redirect", "stream", "off"],
        inline_types: Collection[str],
        now: Callable[[], datetime],
    ) -> None:
        self._objects = objects
        self._find_asset = find_asset
        self._mode = mode
        self._inline_types = tuple(inline_types)
        self._now = now

    async def serve(
        self, session: UploadSession, headers: Mapping[str, str], extra: dict[str, str], send: Send
    ) -> None:
        """Answers a GET. Raises: MethodNotAllowed, UploadGone (as HEAD does), UploadNotFound,
        Unfinished, AssetQuarantined, ….

        An asset that is still `validating` is served: it waits for a job, which may be late.

        After the first byte was sent, a failing store ends the connection.
        """
        if self._mode == "off":
            raise MethodNotAllowed("this server takes uploads and gives none back")
        if session.deleted_at is not None:
            raise UploadGone("the upload was terminated")
        if session.kind is Kind.PARTIAL:
            raise UploadNotFound("a partial upload cannot be downloaded")
        if session.state is not SessionState.COMPLETED:
            raise self._refusal(session)
        asset = None if session.asset_id is None else await self._find_asset(session.asset_id)
        if asset is not None and asset.state is AssetState.QUARANTINED:
            raise AssetQuarantined("what arrived was checked and is kept back")
        extra = extra | file_checksum(session.crc32)
        if self._mode == "redirect":
            await self._redirect(session, extra, send)
        else:
            await self._stream(session, headers, extra, send)

    def _refusal(self, session: UploadSession) -> UploadGone | Unfinished:
        """Why there is no object: not yet, or never any more."""
        if session.failure == FileRefused.code:
            return FileRefused("the file was not the one declared at creation")
        expired = session.expires_at is not None and session.expires_at <= self._now()
        if session.state in lifecycle.TERMINAL or expired:
            return UploadGone("the upload was terminated, has failed or has expired")
        return Unfinished("the upload is not finished")

    def disposition(self, session: UploadSession) -> str:
        """`attachment`, unless the operator trusts browsers with this type."""
        kind = (session.content_type or _DEFAULT_TYPE).partition(";")[0].strip().lower()
        inline = any(fnmatchcase(kind, pattern) for pattern in self._inline_types)
        return content_disposition(session.filename, inline=inline)

    async def _redirect(self, session: UploadSession, extra: dict[str, str], send: Send) -> None:
        url = await self._objects.presign_get(
            session.bucket,
            session.object_key,
            expires_in_s=LINK_LIFETIME_S,
            content_disposition=self.disposition(session),
        )
        headers = {"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        await send_answer(send, 302, headers | extra)

    async def _stream(
        self,
        session: UploadSession,
        request: Mapping[str, str],
        extra: dict[str, str],
        send: Send,
    ) -> None:
        length = session.length or 0
        headers = extra | {
            "Accept-Ranges": "bytes",
            "Content-Type": session.content_type or _DEFAULT_TYPE,
            "Content-Disposition": self.disposition(session),
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-cache",
        }
        if session.etag:
            headers["ETag"] = session.etag
        if session.etag and request.get("if-none-match") == session.etag:
            return await send_answer(send, 304, headers)
        asked = request.get("range")
        if "if-range" in request and request["if-range"] != session.etag:
            asked = None
        if asked is None:
            return await self._send(session, ByteRange(0, length), 200, headers, send)
        found = parse_range(asked, length)
        if found is None:
            headers["Content-Range"] = f"bytes */{length}"
            return await send_answer(send, 416, headers)
        last = found.first + found.size - 1
        headers["Content-Range"] = f"bytes {found.first}-{last}/{length}"
        return await self._send(session, found, 206, headers, send)

    async def _send(
        self,
        session: UploadSession,
        part: ByteRange,
        status: int,
        headers: dict[str, str],
        send: Send,
    ) -> None:
        chunks = self._objects.read(
            session.bucket, session.object_key, offset=part.first, size=part.size
        )
        try:
            first = await anext(chunks, b"")
            raw = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
            raw.append((b"content-length", str(part.size).encode()))
            await send({"type": "http.response.start", "status": status, "headers": raw})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()


def parse_range(text: str, length: int) -> ByteRange | None:
    """One byte range (RFC 9110, section 14.1.2); None when it cannot be satisfied.

    Several ranges, other units and broken grammar give the whole, as the RFC allows.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or (not match[1] and not match[2]):
        return ByteRange(0, length)
    if not match[1]:
        size = min(int(match[2]), length)
        return ByteRange(length - size, size) if size else None
    first = int(match[1])
    last = min(int(match[2]), length - 1) if match[2] else length - 1
    if first >= length:
        return None
    if last < first:
        return ByteRange(0, length)
    return ByteRange(first, last - first + 1)
