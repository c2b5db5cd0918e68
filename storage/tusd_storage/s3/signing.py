"""Signed PUT requests, as botocore would have sent them, without their bodies.

Owns the address and the signature of PutObject and UploadPart. The address is botocore's: that
of a bucket is learnt from a request that botocore prepares and that is never sent, so regions, path
and virtual-host style, dual stack and access points come out as for every other call. Knows no
sockets.
"""

import base64
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import NoCredentialsError

from tusd_storage.records import Body, FileRange
from tusd_storage.s3 import sigv4
from tusd_storage.s3.config import Checksum
from tusd_storage.s3.fields import crc32_text
from tusd_storage.s3.transmit import read_file
from tusd_storage.s3.wire import Origin, Request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PROBE_KEY = "k"
_EVENT = "before-send.s3.UploadPart"
"""What a handler of it returns is taken for the store's answer, and nothing is sent."""


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a bucket's objects are, and what their signatures are for."""

    origin: Origin
    path: str
    """Everything before the key."""
    region: str
    service: str


class Signer:
    """Makes requests. Thread-safe."""

    def __init__(
        self,
        client: "S3Client",
        credentials: Callable[[], Credentials | None],
        checksum: Checksum,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._checksum = checksum
        self._now = now
        self._addresses: dict[str, _Address] = {}
        self._lock = threading.Lock()
        client.meta.events.register_first(_EVENT, _keep_back)  # type: ignore[arg-type]

    def ready(self, bucket: str) -> bool:
        """Whether `put` would not block: the bucket's address is known, credentials are fresh."""
        if bucket not in self._addresses:
            return False
        credentials = self._credentials()
        stale = isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed()
        return credentials is not None and not stale

    def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Request:
        """A PUT of `body` to `key`. Blocks where credentials must be refreshed.

        Raises: what botocore raises, e.g. NoCredentialsError; transmit.BodyTooShort.
        """
        address = self._address(bucket)
        path = address.path + quote(key, safe="/~")
        encoded = {name: quote(value, safe="-_.~") for name, value in (query or {}).items()}
        # Hashing the body with SHA-256 would cost more than sending it; its CRC-32 is signed.
        signed = sigv4.sign(
            "PUT",
            path,
            encoded,
            {
                "Host": address.origin.authority,
                **(headers or {}),
                **_checksum_headers(self._checksum, body),
            },
            credentials=self._frozen(),
            region=address.region,
            service=address.service,
            now=self._now(),
        )
        signed["Content-Length"] = str(body.size)
        target = f"{path}?{'&'.join(map('='.join, encoded.items()))}" if encoded else path
        return Request(address.origin, "PUT", target, list(signed.items()))

    def _frozen(self) -> ReadOnlyCredentials:
        credentials = self._credentials()
        if credentials is None:
            raise NoCredentialsError
        return credentials.get_frozen_credentials()

    def _address(self, bucket: str) -> _Address:
        with self._lock:
            address = self._addresses.get(bucket)
        if address is None:
            address = self._learn(bucket)
            with self._lock:
                self._addresses[bucket] = address
        return address

    def _learn(self, bucket: str) -> _Address:
        answer = self._client.upload_part(
            Bucket=bucket, Key=_PROBE_KEY, UploadId="u", PartNumber=1, Body=b""
        )
        seen = answer["ResponseMetadata"]["HTTPHeaders"]
        url = seen["url"]
        # Credential=<access key>/<date>/<region>/<service>/aws4_request
        scope = seen["authorization"].split("Credential=")[1].split(",")[0].split("/")
        path = urlsplit(url).path
        return _Address(Origin.of(url), path.removesuffix(_PROBE_KEY), scope[-3], scope[-2])


def _keep_back(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
    """Answers in the store's place with what would have been sent."""
    seen = HTTPHeaders()
    seen["url"] = request.url
    authorization = request.headers["Authorization"]
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    seen["authorization"] = authorization
    return AWSResponse(request.url, 200, seen, _Nothing())


class _Nothing:
    """An empty body, as botocore reads it."""

    def stream(self, *_: object, **__: object) -> list[bytes]:
        return []


def _checksum_headers(checksum: Checksum, body: Body) -> dict[str, str]:
    if checksum == "crc32":
        return {"x-amz-checksum-crc32": crc32_text(body.crc32)}
    if checksum == "md5":
        return {"Content-MD5": base64.b64encode(_md5(body)).decode()}
    return {}


def _md5(body: Body) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for segment in body.segments:
        if isinstance(segment, FileRange):
            for piece in read_file(segment):
                digest.update(piece)
        else:
            digest.update(segment)
    return digest.digest()
