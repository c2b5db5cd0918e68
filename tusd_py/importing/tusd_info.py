"""What tusd keeps beside an upload on S3, as values. Pure.

Source: tusd v2, pkg/s3store/s3store.go and `FileInfo` in pkg/handler/datastore.go. For an id
`<object>+<multipart>` there are `<object>.info` (JSON), a multipart upload of the key `<object>`,
and perhaps `<object>.part` with the bytes behind its parts.
"""

import base64
import json
from dataclasses import dataclass

from tusd_py.importing.refusals import NotTaken
from tusd_py.protocol import metadata as metadatas
from tusd_py.protocol.errors import InvalidHeader
from tusd_py.protocol.headers import UPLOAD_ID

INFO, REST = ".info", ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class TusdUpload:
    """One `.info` object."""

    id: str
    """The last segment of the upload's URL."""
    key: str
    """Key of the object that the upload is to become."""
    multipart_id: str
    length: int | None
    """None while deferred."""
    metadata: str
    """As an `Upload-Metadata` header."""


def parse(text: bytes, info_key: str) -> TusdUpload:
    """The upload that the object `info_key` describes. Raises: NotTaken."""
    try:
        info = json.loads(text)
        upload_id, storage = str(info["ID"]), info.get("Storage") or {}
        deferred, size = bool(info.get("SizeIsDeferred")), info.get("Size", 0)
        pairs = dict(info.get("MetaData") or {})
        of_concatenation = bool(info.get("IsPartial") or info.get("IsFinal"))
        header = _header(pairs)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotTaken("not_tusd", "the .info object is not what tusd writes") from error
    multipart_id = upload_id.rpartition("+")[2]
    key = info_key.removesuffix(INFO)
    if not _is_s3(storage, key) or "+" not in upload_id or not multipart_id:
        raise NotTaken("not_tusd", "the .info object is not one of tusd's S3 store")
    if not isinstance(size, int) or size < 0:
        raise NotTaken("not_tusd", "the .info object holds no size")
    if of_concatenation:
        raise NotTaken("concatenation", "it is part of a concatenation: its client begins again")
    if not UPLOAD_ID.fullmatch(upload_id):
        raise NotTaken("id_shape", "its id holds what no URL of this server may hold")
    return TusdUpload(
        id=upload_id,
        key=key,
        multipart_id=multipart_id,
        length=None if deferred else size,
        metadata=_checked(header),
    )


def _is_s3(storage: object, key: str) -> bool:
    """Older versions write no storage at all."""
    if not isinstance(storage, dict):
        return False
    return bool(storage.get("Type", "s3store") == "s3store" and storage.get("Key", key) == key)


def _checked(header: str) -> str:
    try:
        metadatas.parse(header)
    except InvalidHeader as error:
        raise NotTaken("metadata", str(error)) from error
    return header


def _header(pairs: dict[str, object]) -> str:
    texts = ((key, base64.b64encode(str(value).encode()).decode()) for key, value in pairs.items())
    return ",".join(f"{key} {value}".rstrip() for key, value in texts)
