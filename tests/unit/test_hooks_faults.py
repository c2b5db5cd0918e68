"""What once lost an event, broke a connection or believed a hook too much: each stays mended."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tusd_py.hooks import origin, wire
from tusd_py.hooks.answers import checked
from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.events import (
    HookEvent,
    HookRequest,
    HookType,
    HttpRequest,
    HttpResponse,
    UploadInfo,
)
from tusd_py.hooks.facts import event_id
from tusd_py.hooks.sinks import HttpOptions, HttpSink
from tusd_py.hooks.uploads import _with_metadata
from tusd_py.protocol.requests import parse_create

UPLOAD = UploadInfo(id="", size=5, size_is_deferred=False, offset=0, metadata={})
REQUEST = parse_create(
    {"tus-resumable": "1.0.0", "upload-length": "5", "content-length": "0"},
    base_path="/files/",
    max_size=None,
)


def test_uploads_taken_over_have_events_of_their_own() -> None:
    a, b = (SimpleNamespace(token="", id=name) for name in ("x+1", "y+2"))
    for kind in HookType:
        assert event_id(kind, a) != event_id(kind, b)  # type: ignore[arg-type]


def test_an_event_opens_nothing() -> None:
    scope: dict[str, Any] = {
        "method": "POST",
        "path": "/f/",
        "raw_path": b"/f/",
        "query_string": b"exp=1&sig=SECRET&%73ig=SECRET&o=1",
        "headers": [],
    }
    assert origin.described(scope).uri == "/f/?exp=1&sig=***&%73ig=***&o=1"


@pytest.mark.parametrize("status", [205, 304])
def test_a_status_without_content_is_refused(status: int) -> None:
    with pytest.raises(HookFailed):
        checked(HttpResponse(status_code=status, body="x"))


def test_a_checksum_that_a_hook_declares_counts() -> None:
    assert _with_metadata(REQUEST, {"upload-checksum": "crc32 DUoRhQ=="}).crc32 == 0x0D4A1185
    with pytest.raises(HookFailed):
        _with_metadata(REQUEST, {"upload-checksum": "nonsense"})


def test_an_answer_nested_too_deep_is_a_failure_of_the_hook() -> None:
    with pytest.raises(HookFailed):
        wire.response_from(b"[" * 5000)


async def test_each_try_says_which_it_is() -> None:
    seen: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["webhook-attempt"])
        return httpx.Response(503)

    async with httpx.AsyncClient(transport=httpx.MockTransport(serve)) as client:
        sink = HttpSink(
            "http",
            "http://hook.example/",
            frozenset({HookType.PRE_CREATE}),
            client=client,
            signer=SimpleNamespace(headers=lambda *_: {}),  # type: ignore[arg-type]
            options=HttpOptions(retry=2, backoff_s=0),
        )
        request = HookRequest(
            id="evt_1",
            type=HookType.PRE_CREATE,
            event=HookEvent(upload=UPLOAD, http_request=HttpRequest()),
            attempt=1,
            timestamp=datetime.now(UTC),
        )
        with pytest.raises(HookFailed):
            await sink.call(request, retrying=True)
    assert seen == ["1", "2", "3"]
