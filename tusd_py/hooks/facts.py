"""Rows and requests as hooks are told of them, and the ids of events. Pure."""

import base64
import hashlib
from collections.abc import Mapping

from tusd_py.hooks.events import AssetInfo, HookType, UploadInfo
from tusd_py.protocol import metadata
from tusd_py.protocol.errors import InvalidHeader
from tusd_py.protocol.requests import CreateRequest
from tusd_storage.records import Asset, Kind, UploadSession

STORE = "s3store"
"""`Storage.Type`, as tusd names its S3 store."""

_ID_BYTES = 18


def event_id(kind: HookType, session: UploadSession) -> str:
    """The id of what happens to this session once: the same whoever asks, and however often.

    Made of the session's token, so it says nothing about the upload's URL.
    """
    own = session.token or session.id  # those taken over from tusd have no token
    digest = hashlib.sha256(f"{own}:{kind}".encode()).digest()
    return "evt_" + base64.urlsafe_b64encode(digest[:_ID_BYTES]).decode("ascii")


def upload_info(session: UploadSession, *, offset: int | None = None) -> UploadInfo:
    """A session; `offset` where more is known than what is in the row."""
    return UploadInfo(
        id=session.id,
        size=_size(session),
        size_is_deferred=session.length is None and session.size_promised is None,
        offset=session.offset if offset is None else offset,
        metadata=_metadata(session),
        is_partial=session.kind is Kind.PARTIAL,
        is_final=session.kind is Kind.FINAL,
        partial_uploads=session.concat,
        storage={"Type": STORE, "Bucket": session.bucket, "Key": session.object_key},
        profile=session.profile,
        owner=session.owner,
    )


def wanted_info(
    request: CreateRequest, *, length: int | None, owner: str | None, profile: str
) -> UploadInfo:
    """An upload that a client would like to create."""
    return UploadInfo(
        id="",
        size=length or 0,
        size_is_deferred=length is None,
        offset=0,
        metadata=texts(request.pairs),
        is_partial=request.concat.partial,
        is_final=request.concat.final,
        partial_uploads=request.concat.ids,
        profile=profile,
        owner=owner,
    )


def asset_info(asset: Asset, session: UploadSession) -> AssetInfo:
    """An asset, and what its session proved."""
    return AssetInfo(
        id=asset.id,
        state=str(asset.state),
        reason=asset.reason,
        filename=asset.filename,
        content_type=asset.content_type,
        size=asset.size,
        etag=session.etag,
    )


def texts(pairs: Mapping[str, bytes]) -> dict[str, str]:
    """Metadata as text; bytes that are none are replaced, as Go's JSON does."""
    return {key: value.decode("utf-8", "replace") for key, value in pairs.items()}


def _size(session: UploadSession) -> int:
    length = session.size_promised if session.length is None else session.length
    return length or 0


def _metadata(session: UploadSession) -> dict[str, str]:
    """What the client sent; of a session that has no such header, what is known of its file."""
    if session.metadata:
        try:
            return texts(metadata.parse(session.metadata))
        except InvalidHeader:
            return {}
    known = {"filename": session.filename, "filetype": session.content_type}
    return {key: text for key, text in known.items() if text is not None}
