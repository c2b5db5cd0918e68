"""tusd's JSON, name by name: requests out, answers in. Pure.

Names in answers are matched without regard to case, as Go does; unknown ones are passed over.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.events import (
    AssetInfo,
    FileInfoChanges,
    HookEvent,
    HookRequest,
    HookResponse,
    HookType,
    HttpRequest,
    HttpResponse,
    UploadInfo,
)

Json = dict[str, object]


def request_json(request: HookRequest) -> Json:
    """What an HTTP hook gets as its body."""
    return {"Type": str(request.type), "Event": event_json(request.event)}


def event_json(event: HookEvent) -> Json:
    """The event alone."""
    upload, sent = event.upload, event.http_request
    told: Json = {
        "Upload": {
            "ID": upload.id,
            "Size": upload.size,
            "SizeIsDeferred": upload.size_is_deferred,
            "Offset": upload.offset,
            "MetaData": dict(upload.metadata),
            "IsPartial": upload.is_partial,
            "IsFinal": upload.is_final,
            "PartialUploads": list(upload.partial_uploads) or None,
            "Storage": None if upload.storage is None else dict(upload.storage),
            "Profile": upload.profile,
            "Owner": upload.owner,
        },
        "HTTPRequest": {
            "Method": sent.method,
            "URI": sent.uri,
            "RemoteAddr": sent.remote_addr,
            "Header": {name: list(values) for name, values in sent.header.items()},
        },
    }
    if event.asset is not None:
        asset = event.asset
        told["Asset"] = {
            "ID": asset.id,
            "State": asset.state,
            "Reason": asset.reason,
            "Filename": asset.filename,
            "ContentType": asset.content_type,
            "Size": asset.size,
            "ETag": asset.etag,
        }
    return told


def stored_request(payload: Json, *, attempt: int, timestamp: datetime) -> HookRequest:
    """The request of a job, which was stored as `{"ID", "Type", "Event"}`.

    Raises: HookFailed for a payload that is none.
    """
    try:
        return HookRequest(
            type=HookType(str(payload["Type"])),
            event=_event(_object(payload["Event"])),
            id=str(payload["ID"]),
            attempt=attempt,
            timestamp=timestamp,
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise HookFailed(f"the job holds no event: {type(error).__name__}") from error


def response_from(body: bytes) -> HookResponse:
    """The answer of an HTTP hook; none at all is one without wishes. Raises: HookFailed."""
    if not body.strip():
        return HookResponse()
    try:
        return _response(_object(json.loads(body)))
    except (TypeError, ValueError, RecursionError) as error:
        raise HookFailed(f"the answer cannot be read: {error}") from error


def answer_json(answer: HttpResponse) -> Json:
    """A final answer, as it is stored."""
    return {
        "StatusCode": answer.status_code,
        "Body": answer.body,
        "Header": dict(answer.header),
    }


def answer_from(stored: Json) -> HttpResponse:
    """A final answer that was stored."""
    return _http_response(stored)


def _response(told: Mapping[str, object]) -> HookResponse:
    fields = _folded(told)
    changes = _folded(_object(fields.get("changefileinfo")))
    return HookResponse(
        http_response=_http_response(_object(fields.get("httpresponse"))),
        reject_upload=_flag(fields, "rejectupload"),
        reject_termination=_flag(fields, "rejecttermination"),
        change_file_info=FileInfoChanges(
            id=_text(changes, "id"),
            metadata=_texts(changes.get("metadata")),
            storage=_texts(changes.get("storage")),
            profile=_text(changes, "profile"),
        ),
        stop_upload=_flag(fields, "stopupload"),
    )


def _http_response(told: Mapping[str, object]) -> HttpResponse:
    fields = _folded(told)
    status = fields.get("statuscode") or 0
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError("StatusCode is no number")
    # tusd's own example writes `Headers`, which tusd passes over.
    header = _texts(fields.get("headers")) or {}
    return HttpResponse(
        status_code=status,
        body=_text(fields, "body"),
        header={**header, **(_texts(fields.get("header")) or {})},
    )


def _event(told: Mapping[str, object]) -> HookEvent:
    upload, sent = _object(told["Upload"]), _object(told["HTTPRequest"])
    header = _object(sent["Header"])
    return HookEvent(
        upload=UploadInfo(
            id=str(upload["ID"]),
            size=_number(upload["Size"]),
            size_is_deferred=bool(upload["SizeIsDeferred"]),
            offset=_number(upload["Offset"]),
            metadata=_texts(upload["MetaData"]) or {},
            is_partial=bool(upload["IsPartial"]),
            is_final=bool(upload["IsFinal"]),
            partial_uploads=tuple(_list(upload["PartialUploads"])),
            storage=_texts(upload["Storage"]),
            profile=str(upload["Profile"]),
            owner=_maybe_text(upload["Owner"]),
        ),
        http_request=HttpRequest(
            method=str(sent["Method"]),
            uri=str(sent["URI"]),
            remote_addr=str(sent["RemoteAddr"]),
            header={name: tuple(_list(values)) for name, values in header.items()},
        ),
        asset=_asset(_object(told["Asset"])) if "Asset" in told else None,
    )


def _asset(told: Mapping[str, object]) -> AssetInfo:
    size = told["Size"]
    return AssetInfo(
        id=str(told["ID"]),
        state=str(told["State"]),
        reason=_maybe_text(told["Reason"]),
        filename=_maybe_text(told["Filename"]),
        content_type=_maybe_text(told["ContentType"]),
        size=None if size is None else _number(size),
        etag=_maybe_text(told.get("ETag")),
    )


def _folded(told: Mapping[str, object]) -> dict[str, object]:
    return {name.lower(): value for name, value in told.items()}


def _object(value: object) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError("an object was expected")
    return value


def _texts(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    texts = _object(value)
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("values must be strings")
    return {_encodable(name): _encodable(str(text)) for name, text in texts.items()}


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is no string")
    return _encodable(value)


def _encodable(text: str) -> str:
    """JSON can say half a surrogate pair, and nobody can send it. Raises: ValueError."""
    text.encode()
    return text


def _maybe_text(value: object) -> str | None:
    return None if value is None else str(value)


def _flag(fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise TypeError(f"{name} is neither true nor false")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a number was expected")
    return value


def _list(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return [str(item) for item in value]
