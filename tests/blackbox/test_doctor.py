"""`tusd-py doctor` against a real store, real servers, and a balancer that has no affinity."""

import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.process import ServerProcess, run_program
from tests.support.tus import Bucket
from tusd_py.doctor import routing
from tusd_py.doctor.findings import Status
from tusd_py.doctor.web import WebAnswer, ask


def doctor(
    server: ServerProcess, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    environment = server.environment | settings
    return run_program("doctor", *arguments, extra_env=environment, cwd=server.folder)


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.stdout, done.stderr
    return {check["id"]: check["status"] for check in json.loads(done.stdout)["checks"]}


@pytest.fixture(scope="module")
def prefix(seaweed: Engine) -> str:
    return seaweed.prefix()


@pytest.fixture(scope="module")
def pair(
    seaweed: Engine, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    folder = tmp_path_factory.mktemp("doctor")
    common = {"TUSD_S3_PREFIX": prefix}
    with (
        ServerProcess(folder / "a", seaweed, extra_env=common | {"TUSD_NODE": "a"}) as a,
        ServerProcess(
            folder / "b",
            seaweed,
            database_url=a.database_url,
            extra_env=common | {"TUSD_NODE": "b"},
        ) as b,
    ):
        yield a, b


def test_a_good_installation(
    pair: tuple[ServerProcess, ServerProcess], seaweed: Engine, prefix: str
) -> None:
    server, _ = pair
    done = doctor(server, "--json", TUSD_PUBLIC_URL=server.url)
    found = checks(done)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["broken"] is False
    assert {name for name, status in found.items() if status != "ok"} <= {
        "store.lifecycle",
        "tmp.room",
        "tmp.durable",
    }
    assert found["public.affinity"] == "ok"
    bucket = Bucket(seaweed, prefix)
    assert bucket.keys() == [] and bucket.multiparts() == []
    bucket.close()


def test_it_can_be_read(pair: tuple[ServerProcess, ServerProcess]) -> None:
    done = doctor(pair[0])
    assert done.returncode == 0
    assert "ok      store.put            Objects can be stored" in done.stdout
    assert "public.affinity" in done.stdout


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, {"store.bucket": "broken", "store.put": "skipped"}),
        ({"TUSD_S3_BUCKET": "missing"}, {"store.bucket": "broken"}),
        ({"TUSD_S3_ENDPOINT": "http://127.0.0.1:1"}, {"store.bucket": "broken"}),
        ({"TUSD_S3_PUBLIC_ENDPOINT": "http://127.0.0.1:1"}, {"store.presigned": "broken"}),
        ({"TUSD_DATABASE_URL": "postgresql://a@127.0.0.1:1/b"}, {"database.reachable": "broken"}),
        ({"TUSD_TMP_DIR": "/dev/null/tmp"}, {"tmp.writable": "broken"}),
        ({"TUSD_TMP_DIR": "/dev/shm/tusd-doctor-test"}, {"tmp.durable": "broken"}),
        ({"TUSD_PUBLIC_URL": "http://127.0.0.1:1"}, {"public.affinity": "broken"}),
    ],
)
def test_what_is_broken_is_named(
    pair: tuple[ServerProcess, ServerProcess],
    settings: dict[str, str],
    expected: dict[str, str],
) -> None:
    done = doctor(pair[0], "--json", **settings)
    assert done.returncode == 1, done.stdout
    assert checks(done).items() >= expected.items()
    assert "Traceback" not in done.stderr
    assert "wrong" not in done.stdout + done.stderr
    if "shm" in settings.get("TUSD_TMP_DIR", ""):
        Path(settings["TUSD_TMP_DIR"]).rmdir()


def test_a_balancer_without_affinity_is_told(pair: tuple[ServerProcess, ServerProcess]) -> None:
    turns = itertools.cycle(pair)

    def round_robin(
        method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> WebAnswer:
        server = next(turns)
        return ask(method, url.replace("http://balancer", server.url), headers, body)

    finding = routing.examine("http://balancer", "/files/", ask=round_robin)
    assert finding.status is Status.BROKEN
    assert "Byte 1" in finding.what or "Byte 2" in finding.what
