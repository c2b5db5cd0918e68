"""docs/broker.md is true where an application judges what arrived: its validators are run."""

import json
from pathlib import Path

import httpx

from tests.support.engines import Engine
from tests.support.hook_server import HookServer
from tests.support.pages import application, page
from tests.support.process import ServerProcess
from tests.support.tus import TusClient, metadata, poll

PAGE = page("broker.md")
PROGRAM = b"MZ" + bytes(500)


def settled(url: str, data: bytes) -> tuple[str, str | None]:
    """State and reason of an asset that was sent straight to the store."""
    with httpx.Client(base_url=url, trust_env=False) as client:
        wish = {"strategy": "presigned_put", "filename": "setup.bin", "size": len(data)}
        made = client.post("/sessions", json=wish).raise_for_status().json()
        session = f"/sessions/{made['session']['id']}"
        put = client.post(f"{session}/sign").raise_for_status().json()["presigned"]
        httpx.put(put["url"], content=data, headers=put["headers"]).raise_for_status()
        client.post(f"{session}/complete").raise_for_status()

        def judged() -> dict[str, str | None] | None:
            asset: dict[str, str | None] = client.get(session).json()["asset"]
            return None if asset["state"] == "validating" else asset

        asset = poll(judged, timeout_s=30)
        assert asset is not None
        return str(asset["state"]), asset["reason"]


def test_the_validator_in_python(seaweed: Engine, tmp_path: Path) -> None:
    with application(tmp_path, seaweed, PAGE.block("python", "validator=")) as server:
        assert settled(server.url, PROGRAM) == ("quarantined", "a program")
        assert settled(server.url, b"hello world") == ("available", None)


def test_the_validator_behind_an_address(seaweed: Engine, tmp_path: Path) -> None:
    (shown,) = PAGE.blocks("json")
    good, bad = (json.loads(text) for text in PAGE.inline('{"verdict"'))
    with HookServer() as asked:
        settings = {"TUSD_S3_PREFIX": seaweed.prefix(), "TUSD_VALIDATOR_URL": asked.url}
        with ServerProcess(tmp_path, seaweed, extra_env=settings) as server:
            asked.answers[""] = bad
            assert settled(server.url, PROGRAM) == ("quarantined", "a program")
            asked.answers[""] = good
            assert settled(server.url, PROGRAM) == ("available", None)
            client = TusClient(server.uploads_url)
            client.create(5, body=b"hello", metadata=metadata({"filename": "hello.txt"}))
            first, _, tus = asked.wait_for("", 3)
    for call in (first, tus):
        assert call.body["asset"].keys() == json.loads(shown)["asset"].keys()
        assert call.id.startswith("val_")
    assert first.body["asset"]["crc32"] is None
    assert tus.body["asset"]["crc32"] == 0x3610A686  # of "hello"
