"""tusd's JSON in both directions, name by name."""

import json
from datetime import UTC, datetime

import pytest

from tests.support.state import a_session
from tusd_py.hooks import (
    AssetInfo,
    HookEvent,
    HookRequest,
    HookResponse,
    HookType,
    HttpRequest,
    HttpResponse,
)
from tusd_py.hooks.answers import checked
from tusd_py.hooks.errors import HookFailed
from tusd_py.hooks.events import FileInfoChanges
from tusd_py.hooks.facts import event_id, upload_info, wanted_info
from tusd_py.hooks.origin import canonical, described
from tusd_py.hooks.wire import answer_from, answer_json, request_json, response_from, stored_request
from tusd_py.protocol.requests import parse_create
from tusd_storage.records import Kind

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCOPE = {
    "method": "PATCH",
    "path": "/files/x",
    "raw_path": b"/files/x",
    "query_string": b"a=b",
    "client": ("127.0.0.1", 59395),
    "headers": [(b"host", b"localhost:8080"), (b"x-two", b"1"), (b"x-two", b"2")],
}


def test_a_request_is_tusds() -> None:
    request = HookRequest(
        type=HookType.POST_FINISH,
        event=HookEvent(upload=upload_info(a_session()), http_request=described(SCOPE)),
        id="evt",
        timestamp=NOW,
    )
    assert request_json(request) == {
        "Type": "post-finish",
        "Event": {
            "Upload": {
                "ID": "node~one",
                "Size": 100 * 1024 * 1024,
                "SizeIsDeferred": False,
                "Offset": 0,
                "MetaData": {"filename": "Menü.pdf"},
                "IsPartial": False,
                "IsFinal": False,
                "PartialUploads": None,
                "Storage": {"Type": "s3store", "Bucket": "bucket", "Key": "uploads/node~one"},
                "Profile": "default",
                "Owner": "alice",
            },
            "HTTPRequest": {
                "Method": "PATCH",
                "URI": "/files/x?a=b",
                "RemoteAddr": "127.0.0.1:59395",
                "Header": {"Host": ["localhost:8080"], "X-Two": ["1", "2"]},
            },
        },
    }


def test_an_upload_to_be_has_no_id_and_no_storage() -> None:
    headers = {"tus-resumable": "1.0.0", "upload-defer-length": "1", "upload-concat": "partial"}
    request = parse_create(headers, base_path="/files/", max_size=None)
    info = wanted_info(request, length=None, owner=None, profile="default")
    assert (info.id, info.size, info.size_is_deferred) == ("", 0, True)
    assert (info.is_partial, info.storage, dict(info.metadata)) == (True, None, {})


def test_a_final_upload_names_its_partials() -> None:
    info = upload_info(a_session(kind=Kind.FINAL, concat=("a~1", "a~2")))
    assert (info.is_final, info.partial_uploads) == (True, ("a~1", "a~2"))


def test_metadata_that_is_no_text_is_told_with_replacements() -> None:
    assert dict(upload_info(a_session(metadata="raw /w==")).metadata) == {"raw": "\ufffd"}


def test_a_session_without_metadata_tells_what_is_known() -> None:
    info = upload_info(a_session(metadata=""))
    assert dict(info.metadata) == {"filename": "Menü.pdf", "filetype": "application/pdf"}


def test_an_event_survives_being_stored() -> None:
    event = HookEvent(
        upload=upload_info(a_session(kind=Kind.FINAL, concat=("a~1",))),
        http_request=described(SCOPE),
        asset=AssetInfo(
            id="a",
            state="available",
            reason=None,
            filename="x",
            content_type=None,
            size=3,
            etag='"e"',
        ),
    )
    whole = HookRequest(
        type=HookType.ASSET_AVAILABLE, event=event, id="evt", attempt=4, timestamp=NOW
    )
    stored = json.loads(json.dumps({"ID": "evt", **request_json(whole)}))
    assert stored_request(stored, attempt=4, timestamp=NOW) == whole
    del stored["Event"]["Asset"]["ETag"]  # as an earlier version wrote it
    old = stored_request(stored, attempt=4, timestamp=NOW).event.asset
    assert old is not None and (old.id, old.etag) == ("a", None)


def test_a_job_without_event_is_a_failure() -> None:
    with pytest.raises(HookFailed):
        stored_request({"ID": "x", "Type": "post-finish"}, attempt=1, timestamp=NOW)
    with pytest.raises(HookFailed):
        stored_request({"ID": "x", "Type": "nonsense", "Event": {}}, attempt=1, timestamp=NOW)


def test_every_wish_is_understood() -> None:
    said = {
        "HTTPResponse": {"StatusCode": 400, "Body": "no", "Header": {"X-A": "b"}},
        "RejectUpload": True,
        "RejectTermination": True,
        "ChangeFileInfo": {
            "ID": "mine",
            "MetaData": {"a": "b"},
            "Storage": {"Path": "x/y"},
            "Profile": "pictures",
        },
        "StopUpload": True,
        "SomethingNew": [1],
    }
    assert response_from(json.dumps(said).encode()) == HookResponse(
        http_response=HttpResponse(status_code=400, body="no", header={"X-A": "b"}),
        reject_upload=True,
        reject_termination=True,
        change_file_info=FileInfoChanges(
            id="mine", metadata={"a": "b"}, storage={"Path": "x/y"}, profile="pictures"
        ),
        stop_upload=True,
    )


@pytest.mark.parametrize(
    "body",
    [b"", b" \n", b"{}", b"null", b'{"HTTPResponse": null, "ChangeFileInfo": null}'],
)
def test_no_wish(body: bytes) -> None:
    assert response_from(body) == HookResponse()


def test_case_does_not_count_as_in_go() -> None:
    said = b'{"rejectUpload": true, "httpResponse": {"statusCode": 401, "header": {"X-A": "b"}}}'
    answer = response_from(said)
    assert answer.reject_upload
    assert answer.http_response == HttpResponse(status_code=401, header={"X-A": "b"})


def test_the_headers_of_tusds_example_count() -> None:
    assert response_from(b'{"HTTPResponse": {"Headers": {"X-A": "b"}}}').http_response.header == {
        "X-A": "b"
    }


def test_empty_metadata_is_not_none() -> None:
    assert response_from(b'{"ChangeFileInfo": {"MetaData": {}}}').change_file_info.metadata == {}
    assert response_from(b'{"ChangeFileInfo": {}}').change_file_info.metadata is None


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b"1",
        b'{"RejectUpload": "yes"}',
        b'{"HTTPResponse": {"StatusCode": "400"}}',
        b'{"HTTPResponse": {"StatusCode": true}}',
        b'{"HTTPResponse": {"Header": {"X-A": ["b"]}}}',
        b'{"HTTPResponse": []}',
        b'{"ChangeFileInfo": {"MetaData": {"a": 1}}}',
        b"\xff",
    ],
)
def test_what_is_no_answer_is_a_failure(body: bytes) -> None:
    with pytest.raises(HookFailed):
        response_from(body)


def test_a_final_answer_survives_being_stored() -> None:
    answer = HttpResponse(status_code=200, body="ü", header={"X-A": "b"})
    assert answer_from(json.loads(json.dumps(answer_json(answer)))) == answer


def test_later_answers_win_field_by_field() -> None:
    first = HookResponse(
        http_response=HttpResponse(status_code=201, body="one", header={"X-A": "1", "X-B": "1"}),
        change_file_info=FileInfoChanges(id="one", metadata={"a": "1"}),
    )
    second = HookResponse(
        http_response=HttpResponse(body="two", header={"X-B": "2"}),
        change_file_info=FileInfoChanges(metadata={}, profile="p"),
        reject_upload=True,
    )
    both = first.merged_with(second)
    assert both.http_response == HttpResponse(
        status_code=201, body="two", header={"X-A": "1", "X-B": "2"}
    )
    assert both.change_file_info == FileInfoChanges(id="one", metadata={}, profile="p")
    assert both.refuses and not first.refuses


@pytest.mark.parametrize("status", [1, 100, 199, 600, -1])
def test_a_status_that_ends_no_request_is_a_failure(status: int) -> None:
    with pytest.raises(HookFailed):
        checked(HttpResponse(status_code=status))


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", "b\r\nSet-Cookie: x"), ("X A", "b"), ("", "b"), ("X-A", "\u4e2d"), ("X-A", "\0")],
)
def test_a_header_that_is_none_is_a_failure(name: str, value: str) -> None:
    with pytest.raises(HookFailed):
        checked(HttpResponse(header={name: value}))


def test_the_protocols_own_headers_stay() -> None:
    given = {
        "Upload-Offset": "0",
        "tus-resumable": "2",
        "Location": "/x",
        "Content-Length": "9",
        "Access-Control-Allow-Origin": "*",
        "Link": "<https://example.com>",
    }
    assert checked(HttpResponse(header=given)).header == {"Link": "<https://example.com>"}


def test_names_of_headers_are_gos() -> None:
    assert canonical("x-request-ID") == "X-Request-Id"


def test_a_request_nobody_made_is_empty() -> None:
    assert described(None) == HttpRequest()
    assert described(SCOPE | {"client": ("::1", 5)}).remote_addr == "[::1]:5"


def test_event_ids_are_stable_apart_and_tell_nothing() -> None:
    one, other = a_session("a", token="first-token"), a_session("a", token="t2")
    ids = {event_id(kind, session) for kind in HookType for session in (one, other)}
    assert len(ids) == 2 * len(HookType)
    assert event_id(HookType.POST_FINISH, one) == event_id(HookType.POST_FINISH, one)
    assert all("first" not in each and each.startswith("evt_") for each in ids)


@pytest.mark.parametrize(
    "said",
    [
        b'{"HTTPResponse": {"Body": "\\ud83d"}}',
        b'{"HTTPResponse": {"Header": {"X-A": "\\udd00"}}}',
        b'{"ChangeFileInfo": {"MetaData": {"\\udd00": "b"}}}',
    ],
)
def test_half_a_surrogate_pair_is_no_answer(said: bytes) -> None:
    with pytest.raises(HookFailed):
        response_from(said)
