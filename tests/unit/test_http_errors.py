"""The table from exception to status is exhaustive, and tells nothing it should not."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support.state import a_session
from tusd_py.broker import errors as broker
from tusd_py.hooks import errors as hooks
from tusd_py.hooks.events import HttpResponse
from tusd_py.http import auth, download, errors, json_errors
from tusd_py.http.errors import INTERNAL, TABLE, failure_of, headers_of, problem
from tusd_py.operator import errors as operator
from tusd_py.protocol import errors as protocol
from tusd_py.uploads.body import ClientGone, Interrupted, Stop
from tusd_storage import errors as storage
from tusd_storage.s3.faults import Throttled

ABSTRACT = {
    storage.Unavailable,
    storage.Rejected,
    storage.QuotaExceeded,
    hooks.HookRefusal,
}


def concrete(root: type[Exception]) -> Iterator[type[Exception]]:
    """The kinds of the taxonomies. More exact ones of an adapter are answered as what they are."""
    for kind in root.__subclasses__():
        if kind not in ABSTRACT and kind.__module__ == root.__module__:
            yield kind
        yield from concrete(kind)


KINDS = [
    *concrete(protocol.ProtocolError),
    *concrete(storage.StorageError),
    *concrete(broker.BrokerError),
    *concrete(hooks.HookError),
    *concrete(operator.OperatorError),
    auth.Unauthorized,
    auth.Forbidden,
    auth.SignatureRefused,
    auth.AuthUnavailable,
    download.Unfinished,
    download.AssetQuarantined,
    json_errors.NotJson,
    json_errors.InvalidBody,
    json_errors.InvalidQuery,
    json_errors.BodyTooLarge,
    json_errors.NoSuchPath,
    json_errors.Overloaded,
]

SPECIAL = {
    hooks.UploadRejected: lambda: hooks.UploadRejected(HttpResponse()),
    hooks.TerminationRejected: lambda: hooks.TerminationRejected(HttpResponse()),
    hooks.UploadStopped: lambda: hooks.UploadStopped(HttpResponse()),
    protocol.InvalidHeader: lambda: protocol.InvalidHeader("Upload-Length", "must be given"),
    protocol.OffsetMismatch: lambda: protocol.OffsetMismatch(7),
    storage.StoreRefused: lambda: storage.StoreRefused("SecretCode", "arn:secret"),
    storage.TailMissing: lambda: storage.TailMissing("node~secret", "other_node"),
    storage.LeaseHeld: lambda: storage.LeaseHeld(
        "id", holder="node/secret", epoch=1, until=datetime.now(UTC)
    ),
    storage.LeaseLost: lambda: storage.LeaseLost("id"),
    storage.StaleLease: lambda: storage.StaleLease("id"),
    storage.CreationRepeated: lambda: storage.CreationRepeated(a_session()),
    storage.SessionUnknown: lambda: storage.SessionUnknown("secret"),
    storage.InvalidTransition: lambda: storage.InvalidTransition("s", source="a", target="b"),
    broker.InvalidTransition: lambda: broker.InvalidTransition("s", source="a", target="b"),
    broker.ObjectMismatch: lambda: broker.ObjectMismatch("s", "size_mismatch"),
}


def example_of(kind: type[Exception]) -> Exception:
    return SPECIAL[kind]() if kind in SPECIAL else kind("message of /a/secret/path")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_exception_has_an_answer(kind: type[Exception]) -> None:
    failure = TABLE[kind]
    assert failure_of(example_of(kind)) is failure
    assert 400 <= failure.status < 600
    assert re.fullmatch(r"[a-z0-9_]+", failure.code)


def test_the_table_has_nothing_else() -> None:
    assert set(TABLE) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (protocol.UnsupportedVersion, 412),
        (protocol.InvalidHeader, 400),
        (protocol.UnsupportedMediaType, 415),
        (protocol.UnknownChecksumAlgorithm, 400),
        (protocol.ChecksumMismatch, 460),
        (protocol.OffsetMismatch, 409),
        (protocol.SizeExceeded, 413),
        (protocol.UploadNotFound, 404),
        (protocol.UploadGone, 410),
        (protocol.FinalNotWritable, 403),
        (protocol.MethodNotAllowed, 405),
        (storage.LeaseHeld, 423),
        (storage.TailMissing, 503),
        (storage.StoreUnavailable, 503),
        (storage.StateUnavailable, 503),
    ],
)
def test_statuses_the_protocol_fixes(kind: type[Exception], status: int) -> None:
    assert TABLE[kind].status == status


@pytest.mark.parametrize("kind", list(concrete(protocol.ProtocolError)), ids=lambda k: k.__name__)
def test_codes_of_the_protocol_are_the_exceptions_own(kind: type[protocol.ProtocolError]) -> None:
    assert TABLE[kind].code == kind.code


@pytest.mark.parametrize("kind", list(concrete(storage.StorageError)), ids=lambda k: k.__name__)
def test_storage_says_nothing_of_what_is_behind(kind: type[Exception]) -> None:
    error = example_of(kind)
    failure = TABLE[kind]
    told = problem(error, failure).decode() + str(headers_of(error, failure))
    assert "secret" not in told.lower() and "arn:" not in told
    if failure.detail is None:
        assert kind in {
            storage.CreationRepeated,
            storage.LeaseHeld,
            storage.LeaseLost,
            storage.StaleLease,
            storage.InvalidTransition,
        }


@pytest.mark.parametrize("stop", Stop)
def test_every_way_to_stop_has_an_answer_or_no_reader(stop: Stop) -> None:
    failure = failure_of(Interrupted(stop))
    if stop is Stop.DISCONNECTED:
        assert failure is None
        return
    assert failure is not None
    assert failure.retry and failure.status in {423, 500, 503}


def test_nobody_is_told_when_nobody_is_there() -> None:
    assert failure_of(ClientGone()) is None


def test_what_nobody_expected_is_internal_and_says_nothing() -> None:
    error = KeyError("/a/secret/path")
    assert failure_of(error) is INTERNAL
    assert b"secret" not in problem(error, INTERNAL)


def test_headers_of_answers() -> None:
    version = protocol.UnsupportedVersion("x")
    assert headers_of(version, TABLE[type(version)])["Tus-Version"] == "1.0.0"
    conflict = protocol.OffsetMismatch(7)
    assert headers_of(conflict, TABLE[type(conflict)]) == {"Upload-Offset": "7"}
    gone = storage.TailMissing("a", "absent")
    assert headers_of(gone, TABLE[type(gone)]) == {"Retry-After": str(errors.RETRY_AFTER_S)}


def test_a_problem_has_status_code_and_detail() -> None:
    error = protocol.SizeExceeded("too much")
    body = json.loads(problem(error, TABLE[type(error)]))
    assert body == {"status": 413, "code": "size_exceeded", "detail": "too much"}


def test_a_more_exact_kind_is_answered_as_its_root() -> None:
    """A store that stayed too busy until the deadline is no fault of this server."""
    failure = failure_of(Throttled("PutObject: the store answered 503 SlowDown"))
    assert failure is TABLE[storage.StoreUnavailable]
