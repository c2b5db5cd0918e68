"""The OpenAPI document against the real server: whatever is sent, the answer is one it describes.

Schemathesis writes the requests: those the document allows, and those it does not. Longer by hand:
`make fuzz-api`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.conftest import Site, open_site
from tests.support.engines import Engine
from tests.support.wire import exchange, request_head

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "15")
"""For each operation and kind of request."""
SEED = os.environ.get("FUZZ_SEED", "1")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "unsupported_method",
    "missing_required_header",
    "negative_data_rejection",
    "ensure_resource_availability",
)


@pytest.fixture(scope="module")
def api(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own."""
    yield from open_site(seaweed, tmp_path_factory, {"TUSD_LOG_LEVEL": "warning"})


def created(site: Site, strategy: str) -> str:
    """The id of a new session."""
    body = b'{"strategy": "%s", "filename": "a.bin", "size": 5}' % strategy.encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    answer = exchange(site.server.port, request_head("POST", "/sessions", headers), body)
    assert answer.status == 201, answer
    return answer["Location"].rpartition("/")[2]


def schemathesis(site: Site, folder: Path, *options: str, config: str = "") -> None:
    """One run against the site. Raises: AssertionError with what it found."""
    file = folder / "schemathesis.toml"
    file.write_text(config)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", file, "run"]
    command += [f"{site.server.url}/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--seed", SEED, "--max-examples", EXAMPLES]
    command += ["--no-color", "--request-timeout", "20", "--continue-on-failure", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=3600
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"\b[1-9]\d* generated", done.stdout), done.stdout


def test_anything_about_sessions(api: Site, tmp_path: Path) -> None:
    """One request after another, also on what the ones before have made."""
    schemathesis(api, tmp_path, "--phases", "coverage,fuzzing,stateful")


@pytest.mark.parametrize("strategy", ["presigned_put", "multipart", "resumable"])
def test_anything_about_a_session_that_is_there(api: Site, tmp_path: Path, strategy: str) -> None:
    known = f'[parameters]\nsession_id = "{created(api, strategy)}"\n'
    one = ("--include-path-regex", "/sessions/", "--exclude-method", "DELETE")
    schemathesis(api, tmp_path, *one, "--phases", "coverage,fuzzing", config=known)
