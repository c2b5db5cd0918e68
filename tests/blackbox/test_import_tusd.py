"""`tusd-py import-tusd` on a bucket as tusd leaves it; then real clients go on."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tusclient.client import TusClient as Tuspy

from tests.support.engines import Engine
from tests.support.hook_server import HookServer
from tests.support.pages import page
from tests.support.pages import run as shown
from tests.support.process import ServerProcess, program
from tests.support.tus import TusClient
from tests.support.tusd import TusdBucket
from tusd_storage.partplan import MIB

DATA = os.urandom(23 * MIB + 12_345)
PARTS = [DATA[: 7 * MIB], DATA[7 * MIB : 12 * MIB]]
REST = DATA[12 * MIB : 12 * MIB + 77_777]
OFFSET = 12 * MIB + 77_777


@pytest.fixture
def tusd(seaweed: Engine) -> Iterator[TusdBucket]:
    bucket = TusdBucket(seaweed, seaweed.prefix())
    yield bucket
    bucket.close()


@pytest.fixture
def server(seaweed: Engine, tusd: TusdBucket, tmp_path: Path) -> Iterator[ServerProcess]:
    """Not started yet: the import comes first."""
    process = ServerProcess(tmp_path / "server", seaweed, extra_env={"TUSD_S3_PREFIX": tusd.prefix})
    process.folder.mkdir(parents=True)
    yield process
    if process.alive():
        process.terminate()


def command(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        program("import-tusd", *arguments),
        env=server.environment,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(server: ServerProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = command(server, "--json", *arguments)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_dry_run_changes_nothing_and_apply_takes_each_once(
    server: ServerProcess, tusd: TusdBucket
) -> None:
    unfinished = tusd.upload(PARTS, length=len(DATA), rest=REST, metadata={"filename": "Menü.pdf"})
    finished = tusd.upload([DATA], length=len(DATA))
    tusd.finish(finished)
    before = tusd.names()

    code, report = run(server)
    assert (code, report["applied"]) == (0, False)
    assert report["counts"] == {"taken": 1}
    (one,) = report["uploads"]
    assert (one["id"], one["offset"], one["length"]) == (unfinished, OFFSET, len(DATA))
    assert run(server)[1]["counts"] == {"taken": 1}

    assert run(server, "--apply")[1]["counts"] == {"taken": 1}
    assert run(server, "--apply")[1]["counts"] == {"already": 1}
    assert tusd.names() == before


def test_tuspy_goes_on_with_its_old_url(server: ServerProcess, tusd: TusdBucket) -> None:
    upload_id = tusd.upload(PARTS, length=len(DATA), rest=REST, metadata={"filename": "Menü.pdf"})
    assert run(server, "--apply")[0] == 0
    server.start()
    url = server.uploads_url + upload_id
    with io.BytesIO(DATA) as file:
        uploader = Tuspy(server.uploads_url).uploader(file_stream=file, url=url, chunk_size=4 * MIB)
        assert uploader.offset == OFFSET
        uploader.upload()
    assert tusd.read(upload_id) == DATA
    client = TusClient(server.uploads_url)
    answer = client.head(url)
    assert answer["Upload-Offset"] == str(len(DATA))
    assert answer["Upload-Metadata"] == "filename TWVuw7wucGRm"
    assert client.get(url).status == 302
    assert client.delete(url).status == 204
    assert not [key for key in tusd.names() if "." not in key]


def test_no_hook_is_told_again_what_tusd_told(server: ServerProcess, tusd: TusdBucket) -> None:
    upload_id = tusd.upload(PARTS, length=len(DATA), rest=REST)
    with HookServer() as hooks:
        server.extra_env["TUSD_HOOKS_HTTP"] = hooks.url
        assert run(server, "--apply")[1]["counts"] == {"taken": 1}
        server.start()
        url = server.uploads_url + upload_id
        assert TusClient(server.uploads_url).patch(url, OFFSET, DATA[OFFSET:]).status == 204
        [finished] = hooks.wait_for("post-finish")
        server.terminate()
    assert finished.upload["ID"] == upload_id
    assert hooks.of("post-create") == []


@pytest.mark.parametrize(
    ("parts", "rest"),
    [([], DATA[:1234]), ([], b""), (PARTS, b""), ([DATA[: 12 * MIB], DATA[12 * MIB :]], b"")],
    ids=["only-rest", "nothing", "no-rest", "all-but-complete"],
)
def test_wherever_tusd_stopped_the_upload_goes_on(
    server: ServerProcess, tusd: TusdBucket, parts: list[bytes], rest: bytes
) -> None:
    upload_id = tusd.upload(parts, length=len(DATA), rest=rest)
    assert run(server, "--apply")[1]["counts"] == {"taken": 1}
    server.start()
    client = TusClient(server.uploads_url)
    url = server.uploads_url + upload_id
    offset = client.offset(url)
    assert offset == sum(map(len, parts)) + len(rest)
    if offset < len(DATA):
        assert client.patch(url, offset, DATA[offset:]).status == 204
    assert tusd.read(upload_id) == DATA


def test_a_length_that_is_still_open(server: ServerProcess, tusd: TusdBucket) -> None:
    upload_id = tusd.upload(PARTS, length=None, rest=REST)
    assert run(server, "--apply")[1]["counts"] == {"taken": 1}
    server.start()
    client, url = TusClient(server.uploads_url), server.uploads_url + upload_id
    length = {"Upload-Length": str(len(DATA))}
    assert client.head(url)["Upload-Defer-Length"] == "1"
    assert client.patch(url, OFFSET, DATA[OFFSET:], length).status == 204
    assert tusd.read(upload_id) == DATA


def test_behind_a_missing_part_nothing_is_taken_unless_offsets_may_step_back(
    server: ServerProcess, tusd: TusdBucket
) -> None:
    upload_id = tusd.upload({1: PARTS[0], 3: PARTS[1]}, length=len(DATA), rest=REST)
    code, report = run(server, "--apply")
    assert (code, report["counts"]) == (1, {"gap": 1})
    assert "part 2 is missing" in report["uploads"][0]["reason"]

    code, report = run(server, "--apply", "--tail-loss", "rewind")
    assert (code, report["counts"]) == (0, {"taken": 1})
    assert report["uploads"][0]["lost"] == 5 * MIB + len(REST)
    server.start()
    client, url = TusClient(server.uploads_url), server.uploads_url + upload_id
    assert client.offset(url) == 7 * MIB
    assert client.patch(url, 7 * MIB, DATA[7 * MIB :]).status == 204
    assert tusd.read(upload_id) == DATA


def test_what_cannot_be_taken_is_told_with_its_reason(
    server: ServerProcess, tusd: TusdBucket
) -> None:
    tusd.upload(PARTS, length=len(DATA), IsPartial=True)
    tusd.upload(PARTS, length=7 * MIB)
    tusd.upload(PARTS, length=len(DATA), Storage={"Type": "filestore", "Path": "x"})
    tusd.put("broken.info", b"{")
    code, report = run(server, "--apply", "--max-size", "1TiB")
    assert code == 1
    assert report["counts"] == {"concatenation": 1, "too_long": 1, "not_tusd": 2}
    assert all(one["reason"] for one in report["uploads"])


def test_the_owner_comes_from_the_metadata_that_is_named(
    server: ServerProcess, tusd: TusdBucket
) -> None:
    secret = "s" * 32
    upload_id = tusd.upload(PARTS, length=len(DATA), metadata={"user": "ann"})
    assert run(server, "--apply", "--owner-key", "user")[0] == 0
    server.extra_env |= {"TUSD_AUTH": "jwt", "TUSD_JWT_SECRET": secret}
    server.start()
    import jwt

    client, url = TusClient(server.uploads_url), server.uploads_url + upload_id
    for user, status in (("ann", 200), ("bob", 404)):
        token = jwt.encode({"sub": user, "exp": 2**33}, secret, algorithm="HS256")
        answer = client.request("HEAD", url, {"Authorization": f"Bearer {token}"})
        assert answer.status == status


def test_the_steps_of_the_page(server: ServerProcess, tusd: TusdBucket) -> None:
    upload_id = tusd.upload(PARTS, length=len(DATA), rest=REST)
    block = page("migrating-from-tusd.md").block("sh", "import-tusd")
    steps, _, last = block.rstrip().rpartition("\n")
    assert last == "tusd-py serve"
    steps = steps.replace("my-uploads", server.environment["TUSD_S3_BUCKET"])
    steps = steps.replace("--object-prefix uploads", f"--object-prefix {tusd.prefix}")
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = shown(["sh", "-es"], server.folder, steps, server.environment | path)
    for taken in ("would take", "taken"):
        assert f"\n{taken}  {upload_id}  at {OFFSET} of {len(DATA)}\n" in said
    server.extra_env |= {"TUSD_REAP": "false"}
    server.start()
    assert TusClient(server.uploads_url).offset(server.uploads_url + upload_id) == OFFSET


def test_the_text_for_people(server: ServerProcess, tusd: TusdBucket) -> None:
    upload_id = tusd.upload(PARTS, length=len(DATA), rest=REST)
    done = command(server)
    first, summary = done.stdout.splitlines()
    assert first == f"would take  {upload_id}  at {OFFSET} of {len(DATA)}"
    assert summary.startswith("1 would be taken over (write --apply to do it), 0 not")
