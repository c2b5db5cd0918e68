"""The application's own word on an asset before it is available: a Python callable or a webhook.

Knows what is asked and answered; not when, and not what follows.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tusd_py.hooks.signing import Signer
from tusd_storage.ports import ObjectStore
from tusd_storage.records import Asset

if TYPE_CHECKING:
    import httpx

MAX_ANSWER_SIZE = 64 * 1024
DEFAULT_REASON = "refused_by_validator"


class ValidatorUnavailable(Exception):
    """The webhook could not be asked, or did not answer as agreed: the job is tried again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An asset that is about to become available."""

    asset: Asset
    sniffed_type: str
    """What its first bytes look like."""
    objects: ObjectStore
    crc32: int | None = None
    """CRC-32 of all bytes, where they passed through this server."""
    etag: str | None = None
    """Of the object that was proven, for `If-Match`; None where its session is gone."""

    def read(self, *, offset: int = 0, size: int | None = None) -> AsyncGenerator[bytes, None]:
        """The object's bytes, in chunks. Close it early with `aclose`."""
        return self.objects.read(self.asset.bucket, self.asset.object_key, offset=offset, size=size)

    async def head(self, size: int) -> bytes:
        """The first bytes, at most `size`."""
        size = min(size, self.asset.size or 0)
        async with aclosing(self.read(size=size)) as chunks:
            return b"".join([chunk async for chunk in chunks])


Validator = Callable[[Candidate], Awaitable[str | None]]
"""Returns why the asset must be quarantined, in a short text, or None. May be called again for the
same asset. What it raises is tried again later."""


class WebhookValidator:
    """Asks a URL: POST with the asset as JSON.

    204, or 200 with `{"verdict": "available"}`: it is good. 200 with
    `{"verdict": "quarantined", "reason": "…"}`: it is not. Anything else: asked again later. The
    asset is named by id; to read it, the application uses credentials of its own. The request
    carries the headers of Standard Webhooks; `webhook-id` is the same each time it is asked.
    """

    def __init__(
        self,
        url: str,
        client: "httpx.AsyncClient",
        signer: Signer,
        now: Callable[[], datetime],
    ) -> None:
        self._url = url
        self._client = client
        self._signer = signer
        self._now = now

    async def __call__(self, candidate: Candidate) -> str | None:
        """Raises: ValidatorUnavailable."""
        import httpx

        try:
            body = json.dumps(_told(candidate), ensure_ascii=False).encode()
            headers = {
                "Content-Type": "application/json",
                **self._signer.headers(f"val_{candidate.asset.id}", self._now(), body),
            }
            answer = await self._client.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise ValidatorUnavailable(f"validator: {type(error).__name__}") from error
        if answer.status_code == 204:
            return None
        if answer.status_code != 200 or len(answer.content) > MAX_ANSWER_SIZE:
            raise ValidatorUnavailable(f"validator: answered {answer.status_code}")
        return _verdict(answer)


def _told(candidate: Candidate) -> dict[str, object]:
    asset = candidate.asset
    return {
        "asset": {
            "id": asset.id,
            "profile": asset.profile,
            "owner": asset.owner,
            "bucket": asset.bucket,
            "key": asset.object_key,
            "filename": asset.filename,
            "size": asset.size,
            "content_type": asset.content_type,
            "sniffed_type": candidate.sniffed_type,
            "crc32": candidate.crc32,
            "etag": candidate.etag,
        }
    }


def _verdict(answer: "httpx.Response") -> str | None:
    try:
        body = answer.json()
    except ValueError as error:
        raise ValidatorUnavailable("validator: the answer is not JSON") from error
    verdict = body.get("verdict") if isinstance(body, dict) else None
    if verdict == "available":
        return None
    if verdict == "quarantined":
        return str(body.get("reason") or DEFAULT_REASON)
    raise ValidatorUnavailable("validator: the answer has no verdict")
