"""Requests of every shape the OpenAPI document allows, and many it does not: no 500, ever.

The answers are those the document names.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from tests.support.direct import DirectMemoryStore, broker_node
from tests.support.reaping import quick_store
from tusd_py.broker.profiles import Profile
from tusd_py.http import direct
from tusd_py.http.cors import Cors
from tusd_py.http.locations import Locations
from tusd_py.http.openapi import document

DOCUMENT = document("")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
OPERATIONS = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema a reference leads to."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema, of the kinds that occur in the document."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return st.one_of(*(instances(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "null": st.none,
        "integer": lambda: st.integers(schema.get("minimum"), schema.get("maximum")),
        "string": lambda: _texts(schema),
        "array": lambda: st.lists(
            instances(schema["items"]), min_size=schema.get("minItems", 0), max_size=5
        ),
        "object": lambda: _objects(schema),
    }
    return kinds[schema["type"]]()


def _texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.just("default") | st.from_regex(schema["pattern"], fullmatch=True)
    common = st.sampled_from(["image/png", "a.png", '"etag"'])
    return common | st.text(max_size=min(schema.get("maxLength", 50), 50))


def _objects(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    required = schema.get("required", [])
    return st.fixed_dictionaries(
        {name: instances(schema["properties"][name]) for name in required},
        optional={
            name: instances(inner)
            for name, inner in schema["properties"].items()
            if name not in required
        },
    )


def bodies(operation: dict[str, Any]) -> st.SearchStrategy[bytes | None]:
    """Mostly what the document asks for; else any JSON, or none, or nonsense."""
    if "requestBody" not in operation:
        return st.none()
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    fitting = instances(schema).map(lambda value: json.dumps(value).encode())
    other = ANYTHING.map(lambda value: json.dumps(value).encode())
    return st.one_of(fitting, fitting, fitting, other, st.none(), st.binary(max_size=20))


class Api:
    """The routes on a broker in memory, with sessions of each strategy to hit."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.ids: list[str] = []
        self.keys: list[str] = []
        self.loop.run_until_complete(self._begin(folder))

    async def _begin(self, folder: Path) -> None:
        store = await self.stack.enter_async_context(quick_store(folder))
        profiles = [
            Profile(name="default", bucket="bucket"),
            Profile(name="small", bucket="bucket", max_size=5, content_types=("image/*",)),
        ]
        it = await self.stack.enter_async_context(
            broker_node(store, DirectMemoryStore(), folder / "node", profiles=profiles)
        )
        routes = direct.routes(
            it.broker,
            objects=it.node.objects,
            companion_profile="default",
            locations=Locations("/files/", public_url=None, trusted_proxies=()),
            cors=Cors(["*"]),
            authorize=None,
        )
        transport = httpx.ASGITransport(app=Starlette(routes=routes))
        self.client = await self.stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://server")
        )
        for strategy in ("presigned_put", "multipart", "resumable"):
            answer = await self.client.post("/sessions", json={"strategy": strategy})
            session_id = answer.json()["session"]["id"]
            row = await store.get(session_id)
            assert row is not None
            self.ids.append(session_id)
            self.keys.append(row.object_key)

    def send(self, method: str, url: str, body: bytes | None) -> httpx.Response:
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self.loop.run_until_complete(
            self.client.request(method.upper(), url, content=body, headers=headers)
        )

    def close(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Api(tmp_path_factory.mktemp("api"))
    yield made
    made.close()


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_answer_is_a_documented_one(api: Api, data: st.DataObject) -> None:
    method, path, operation = data.draw(st.sampled_from(OPERATIONS))
    session_id = data.draw(
        st.sampled_from(api.ids) | st.from_regex(r"[A-Za-z0-9_~-]{1,30}", fullmatch=True)
    )
    url = path.format(session_id=quote(session_id, safe=""))
    answer = api.send(method, url, data.draw(bodies(operation)))
    assert str(answer.status_code) in operation["responses"], (method, url, answer.text)
    described = operation["responses"][str(answer.status_code)]["content"]
    assert answer.headers["content-type"] in described
    if answer.status_code >= 400:
        assert set(answer.json()) == {"status", "code", "detail"}


COMPANION = [
    ("GET", "/s3/params"),
    ("POST", "/s3/complete"),
    ("GET", "/s3/sts"),
    ("POST", "/s3/multipart"),
    ("GET", "/s3/multipart/{upload_id}"),
    ("DELETE", "/s3/multipart/{upload_id}"),
    ("GET", "/s3/multipart/{upload_id}/batch"),
    ("GET", "/s3/multipart/{upload_id}/{part_number}"),
    ("POST", "/s3/multipart/{upload_id}/complete"),
]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_uppys_endpoints_never_fail(api: Api, data: st.DataObject) -> None:
    method, path = data.draw(st.sampled_from(COMPANION))
    texts = st.text(max_size=30)
    at = data.draw(st.integers(0, 2))
    url = path.format(
        upload_id=quote(data.draw(st.just(api.ids[at]) | texts.filter(bool)), safe=""),
        part_number=quote(data.draw(st.sampled_from(["1", "0", "10001"]) | texts.filter(bool))),
    )
    query = {
        "key": data.draw(st.just(api.keys[at]) | texts),
        "filename": data.draw(st.just("a.png") | texts),
        "type": data.draw(st.just("image/png") | texts),
        "partNumbers": data.draw(st.just("1,2,2") | texts),
    }
    parts = data.draw(
        st.lists(st.fixed_dictionaries({"PartNumber": st.integers(), "ETag": texts})) | ANYTHING
    )
    body = json.dumps({"parts": parts, "filename": query["filename"], "type": query["type"]})
    url = f"{url}?{httpx.QueryParams(query)}"
    answer = api.send(method, url, body.encode() if method == "POST" else None)
    assert answer.status_code < 500, (method, url, answer.text)


def test_the_document_is_what_clients_can_read() -> None:
    text = json.dumps(DOCUMENT)
    names = [part.split('"')[0] for part in text.split("#/components/schemas/")[1:]]
    assert set(names) <= set(DOCUMENT["components"]["schemas"])
    operations = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(operations) == len(set(operations)) == 8
    assert "token" not in text.lower().replace("tusd-token", "")
