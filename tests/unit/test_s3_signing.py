"""Signed requests go where botocore's would, and are signed as it signs."""

import base64
import functools
import hashlib
import zlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from tests.support.aws import session_with
from tusd_storage.records import Body
from tusd_storage.s3 import sigv4
from tusd_storage.s3.client import make_client
from tusd_storage.s3.config import S3Config
from tusd_storage.s3.signing import Signer
from tusd_storage.s3.wire import Origin, Request

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DATA = b"content"
BODY = Body(segments=(DATA,), size=len(DATA), crc32=zlib.crc32(DATA))


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from the environment."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_USE_DUALSTACK_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@functools.cache
def session_of(token: str | None = None) -> Session:
    return session_with("AKIDEXAMPLE", "secret", token, region="eu-central-1")


def signed(config: S3Config, bucket: str = "bucket", **options: Any) -> Request:
    session = session_of(options.pop("token", None))
    client = make_client(config, session, endpoint=config.endpoint, connections=1)
    try:
        now = options.pop("now", NOW)
        signer = Signer(client, session.get_credentials, config.checksum, now=lambda: now)
        return signer.put(bucket, options.pop("key", "a b/ü"), BODY, **options)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("config", "bucket", "origin", "target"),
    [
        (
            S3Config(),
            "bucket",
            Origin("https", "bucket.s3.eu-central-1.amazonaws.com", 443),
            "/a%20b/%C3%BC",
        ),
        (
            S3Config(),
            "with.dots",
            Origin("https", "s3.eu-central-1.amazonaws.com", 443),
            "/with.dots/a%20b/%C3%BC",
        ),
        (
            S3Config(addressing_style="path"),
            "bucket",
            Origin("https", "s3.eu-central-1.amazonaws.com", 443),
            "/bucket/a%20b/%C3%BC",
        ),
        (
            S3Config(region="us-east-1"),
            "bucket",
            Origin("https", "bucket.s3.amazonaws.com", 443),
            "/a%20b/%C3%BC",
        ),
        (
            S3Config(endpoint="http://127.0.0.1:9000"),
            "bucket",
            Origin("http", "127.0.0.1", 9000),
            "/bucket/a%20b/%C3%BC",
        ),
        (
            S3Config(endpoint="https://s3.example/base/"),
            "bucket",
            Origin("https", "s3.example", 443),
            "/base/bucket/a%20b/%C3%BC",
        ),
        (
            S3Config(endpoint="https://s3.example:8443", addressing_style="virtual"),
            "bucket",
            Origin("https", "bucket.s3.example", 8443),
            "/a%20b/%C3%BC",
        ),
    ],
)
def test_addresses(config: S3Config, bucket: str, origin: Origin, target: str) -> None:
    request = signed(config, bucket)
    assert (request.origin, request.target) == (origin, target)
    assert dict(request.headers)["Host"] == origin.authority


def test_dual_stack_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    request = signed(S3Config())
    assert request.origin.host == "bucket.s3.dualstack.eu-central-1.amazonaws.com"


def test_an_endpoint_from_the_environment_is_addressed_by_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:9000")
    assert signed(S3Config()).target == "/bucket/a%20b/%C3%BC"


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9000", "https://s3.example:8443"])
@pytest.mark.parametrize("token", [None, "session/token+="])
def test_the_signature_is_botocores(endpoint: str | None, token: str | None) -> None:
    theirs = sent_by_botocore(endpoint, token)
    then = datetime.strptime(theirs["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    query = {"partNumber": "7", "uploadId": "a/b+c=="}
    config = S3Config(endpoint=endpoint, checksum="none")
    request = signed(config, token=token, query=query, now=then)
    ours = {name.lower(): value for name, value in request.headers}
    assert ours["authorization"] == theirs["authorization"]
    assert ours.get("x-amz-security-token") == theirs.get("x-amz-security-token") == token


@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=20),
    query=st.dictionaries(st.from_regex(r"\A[a-zA-Z-]{1,8}\Z"), st.text(max_size=10), max_size=3),
    headers=st.dictionaries(
        st.from_regex(r"\Ax-amz-meta-[a-z]{1,6}\Z"),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
        max_size=4,
    ),
    token=st.none() | st.from_regex(r"\A[A-Za-z0-9+/=]{1,20}\Z"),
)
def test_any_request_is_signed_as_botocore_signs_it(
    key: str, query: dict[str, str], headers: dict[str, str], token: str | None
) -> None:
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "secret", token)
    path = "/bucket/" + quote(key, safe="/~")
    encoded = {name: quote(value, safe="-_.~") for name, value in query.items()}
    request = AWSRequest(
        method="PUT",
        url="https://s3.example:8443" + path + "?" + "&".join(map("=".join, encoded.items())),
        headers={"Host": "s3.example:8443", **headers},
    )
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda *_: NOW)
        S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    ours = sigv4.sign(
        "PUT",
        path,
        encoded,
        {"Host": "s3.example:8443", **headers},
        credentials=credentials,
        region="eu-central-1",
        service="s3",
        now=NOW,
    )
    assert ours["Authorization"] == request.headers["Authorization"]


def sent_by_botocore(endpoint: str | None, token: str | None) -> dict[str, str]:
    """The headers of the same UploadPart as botocore prepares it, without a payload hash."""
    sent: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), Empty())

    plain = boto3.Session("AKIDEXAMPLE", "secret", token, region_name="eu-central-1")
    client = plain.client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            s3={
                "payload_signing_enabled": False,
                "addressing_style": "path" if endpoint else "virtual",
            },
        ),
    )
    client.meta.events.register_first("before-send.s3.UploadPart", keep)  # type: ignore[arg-type]
    client.upload_part(Bucket="bucket", Key="a b/ü", PartNumber=7, UploadId="a/b+c==", Body=b"")
    client.close()
    return {
        name.lower(): value.decode() if isinstance(value, bytes) else value
        for name, value in sent[0].headers.items()
    }


class Empty:
    def stream(self) -> list[bytes]:
        return []


def test_checksums() -> None:
    assert (
        dict(signed(S3Config()).headers)["x-amz-checksum-crc32"]
        == base64.b64encode(BODY.crc32.to_bytes(4, "big")).decode()
    )
    headers = dict(signed(S3Config(checksum="md5")).headers)
    assert headers["Content-MD5"] == base64.b64encode(hashlib.md5(DATA).digest()).decode()


def test_bodies_are_not_hashed_and_their_checksum_is_signed() -> None:
    headers = dict(signed(S3Config(), headers={"Content-Type": "text/plain"}).headers)
    assert headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    names = headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"host", "content-type", "x-amz-checksum-crc32", "x-amz-date"} <= set(names)
    assert headers["Content-Length"] == str(len(DATA))


def test_queries_are_encoded() -> None:
    request = signed(S3Config(), query={"partNumber": "1", "uploadId": "a b/c?d=e&f+%41~"})
    assert request.target.endswith("?partNumber=1&uploadId=a%20b%2Fc%3Fd%3De%26f%2B%2541~")


def test_credentials_are_asked_for_each_time() -> None:
    asked = []
    session = session_of()
    client = make_client(S3Config(), session, endpoint=None, connections=1)

    def credentials() -> Any:
        asked.append(1)
        return session.get_credentials() if len(asked) < 3 else None

    signer = Signer(client, credentials, "none")
    signer.put("bucket", "k", BODY)
    signer.put("bucket", "k", BODY)
    with pytest.raises(NoCredentialsError):
        signer.put("bucket", "k", BODY)
    client.close()
