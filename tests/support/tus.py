"""A small synchronous tus client, and a look into the bucket behind the server.

Does what it is told, right or wrong: it checks no status by itself but in `upload`. Built on
`http.client`; for requests no client would send there is `tests.support.wire`.
"""

import base64
import http.client
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import boto3
from botocore.config import Config

from tests.support.wire import Answer

VERSION = "1.0.0"
OFFSET_MEDIA_TYPE = "application/offset+octet-stream"
POLL_S = 0.02

T = TypeVar("T")

Data = bytes | Iterator[bytes]
"""An iterator is sent with chunked transfer coding."""


def metadata(pairs: Mapping[str, str | bytes]) -> str:
    """An `Upload-Metadata` value."""
    texts = []
    for key, value in pairs.items():
        raw = value.encode() if isinstance(value, str) else value
        texts.append(f"{key} {base64.b64encode(raw).decode()}".rstrip(" "))
    return ",".join(texts)


def poll(look: Callable[[], T], *, timeout_s: float = 10.0) -> T:
    """The first true value of `look`. Raises: AssertionError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout_s} s"
        time.sleep(POLL_S)
    return value


class TusClient:
    """Speaks to the server whose uploads are created at `endpoint`."""

    def __init__(self, endpoint: str, *, timeout_s: float = 60.0) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s

    def request(
        self,
        method: str,
        target: str = "",
        headers: Mapping[str, str | None] | None = None,
        body: Data | None = None,
        *,
        version: str | None = VERSION,
    ) -> Answer:
        """One request on a connection of its own.

        `target`: relative to the endpoint, a path, or a URL. A header that is None is not sent.
        """
        parts = urlsplit(urljoin(self.endpoint, target))
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        wanted = {"Tus-Resumable": version} | dict(headers or {})
        connection = http.client.HTTPConnection(parts.netloc, timeout=self._timeout_s)
        try:
            connection.request(
                method,
                quote(path, safe="/%?&=~!$'()*+,;:@"),
                body=body,
                headers={name: value for name, value in wanted.items() if value is not None},
                encode_chunked=body is not None and not isinstance(body, bytes),
            )
            response = connection.getresponse()
            pairs = tuple((name.lower(), value) for name, value in response.getheaders())
            return Answer(status=response.status, headers=pairs, body=response.read())
        finally:
            connection.close()

    def post(
        self, headers: Mapping[str, str | None] | None = None, body: Data | None = None
    ) -> Answer:
        """POST to the endpoint; a body gets its content type."""
        kind = {"Content-Type": OFFSET_MEDIA_TYPE} if body is not None else {}
        return self.request("POST", "", kind | dict(headers or {}), body)

    def create(
        self,
        length: int | None,
        headers: Mapping[str, str | None] | None = None,
        *,
        body: Data | None = None,
        metadata: str | None = None,
    ) -> str:
        """The URL of a new upload; its length is deferred when None. Raises: AssertionError."""
        size = (
            {"Upload-Length": str(length)} if length is not None else {"Upload-Defer-Length": "1"}
        )
        answer = self.post(size | {"Upload-Metadata": metadata} | dict(headers or {}), body)
        assert answer.status == 201, answer
        return self.location(answer)

    def location(self, answer: Answer) -> str:
        """The absolute URL a 201 names."""
        return urljoin(self.endpoint, answer["Location"])

    def patch(
        self,
        url: str,
        offset: int | None,
        body: Data = b"",
        headers: Mapping[str, str | None] | None = None,
    ) -> Answer:
        """PATCH."""
        wanted = {
            "Content-Type": OFFSET_MEDIA_TYPE,
            "Upload-Offset": None if offset is None else str(offset),
        }
        return self.request("PATCH", url, wanted | dict(headers or {}), body)

    def head(self, url: str) -> Answer:
        """HEAD."""
        return self.request("HEAD", url)

    def offset(self, url: str) -> int:
        """Upload-Offset as HEAD tells it. Raises: AssertionError."""
        answer = self.head(url)
        assert answer.status == 200, answer
        return int(answer["Upload-Offset"])

    def delete(self, url: str) -> Answer:
        """DELETE."""
        return self.request("DELETE", url)

    def get(self, url: str, headers: Mapping[str, str | None] | None = None) -> Answer:
        """GET, as a browser sends it: without Tus-Resumable."""
        return self.request("GET", url, headers, version=None)

    def upload(
        self,
        data: bytes,
        *,
        chunk: int | None = None,
        headers: Mapping[str, str | None] | None = None,
        metadata: str | None = None,
    ) -> str:
        """A whole upload in PATCHes of `chunk` bytes; its URL. Raises: AssertionError."""
        url = self.create(len(data), headers, metadata=metadata)
        step = chunk or max(1, len(data))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            answer = self.patch(url, start, piece)
            assert answer.status == 204, answer
            assert int(answer["Upload-Offset"]) == start + len(piece), answer
        return url

    def concatenate(
        self, urls: list[str], headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """POST of a final upload from these partial ones."""
        paths = " ".join(urlsplit(url).path for url in urls)
        return self.post({"Upload-Concat": f"final;{paths}"} | dict(headers or {}))


class StoreAddress(Protocol):
    """What `Bucket` has to know of an engine; `tests.support.engines.Engine` is one."""

    @property
    def endpoint(self) -> str:
        """URL of the S3 API."""
        ...

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        ...

    def session(self) -> boto3.Session:
        """With credentials."""
        ...


class Bucket:
    """The objects of one server: those whose keys begin with `prefix`."""

    def __init__(self, store: StoreAddress, prefix: str = "") -> None:
        self.prefix = prefix
        self._name = store.bucket
        self._client = store.session().client(
            "s3",
            endpoint_url=store.endpoint,
            config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
        )

    def close(self) -> None:
        """Closes pooled connections."""
        self._client.close()

    def key(self, url: str) -> str:
        """The key of an upload's object."""
        return self.prefix + urlsplit(url).path.rpartition("/")[2].replace("~", "-")

    def read(self, url: str) -> bytes | None:
        """The content of an upload's object; None if there is none."""
        try:
            answer = self._client.get_object(Bucket=self._name, Key=self.key(url))
        except self._client.exceptions.NoSuchKey:
            return None
        with answer["Body"] as body:
            return body.read()

    def info(self, url: str) -> dict[str, Any]:
        """HeadObject of an upload's object."""
        return dict(self._client.head_object(Bucket=self._name, Key=self.key(url)))

    def put(self, key: str, data: bytes) -> None:
        """An object that is no upload's; `key` without the prefix."""
        self._client.put_object(Bucket=self._name, Key=self.prefix + key, Body=data)

    def keys(self) -> list[str]:
        """All keys under the prefix, without it."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name, Prefix=self.prefix
        )
        return [
            item["Key"].removeprefix(self.prefix)
            for page in pages
            for item in page.get("Contents", [])
        ]

    def multiparts(self) -> list[str]:
        """Keys of open multipart uploads under the prefix, without it."""
        answer = self._client.list_multipart_uploads(Bucket=self._name)
        return [
            item["Key"].removeprefix(self.prefix)
            for item in answer.get("Uploads", [])
            if item["Key"].startswith(self.prefix)
        ]
