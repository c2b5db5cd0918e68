"""`tusd-py reap` and `tusd-py jobs` as an operator runs them, and the reaper inside the server."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.process import ServerProcess, run_program
from tests.support.tus import Bucket, TusClient, poll
from tusd_storage.partplan import MIB

SOON = {
    "TUSD_EXPIRES_IN": "1s",
    "TUSD_MAX_LIFETIME": "1s",
    "TUSD_REAP_GRACE": "0",
    "TUSD_RETENTION": "0",
    "TUSD_NODE": "a",
}


@dataclass
class Shop:
    """A server, its part of the bucket, and its commands."""

    server: ServerProcess
    bucket: Bucket

    @property
    def tus(self) -> TusClient:
        return TusClient(self.server.uploads_url)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_program(*arguments, extra_env=self.server.environment, cwd=self.server.folder)

    def reap(self, *arguments: str) -> dict[str, dict[str, int]]:
        """The counters of a run as JSON, by sweep, without zeros."""
        done = self.run("reap", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        return {
            sweep["sweep"]: {name: n for name, n in sweep["counters"].items() if n}
            for sweep in report["sweeps"]
        }

    def tails(self) -> list[Path]:
        return list((self.server.tmp_dir / "tus").glob("*.tail"))

    def abandon(self) -> str:
        """An upload with a part and a tail, past its time."""
        url = self.tus.create(12 * MIB)
        assert self.tus.patch(url, 0, bytes(6 * MIB)).status == 204
        assert self.bucket.multiparts() and self.tails()
        poll(lambda: self.tus.head(url).status == 410)
        poll(lambda: not self.leases())
        return url

    def leases(self) -> int:
        """How many uploads a process may write now."""
        with closing(sqlite3.connect(self.server.data_dir / "tusd.sqlite3")) as state:
            query = "SELECT count(*) FROM upload_sessions WHERE lease_holder IS NOT NULL"
            return int(state.execute(query).fetchone()[0])


def open_shop(engine: Engine, folder: Path, **settings: str) -> Iterator[Shop]:
    prefix = engine.prefix()
    environment = SOON | {"TUSD_S3_PREFIX": prefix} | settings
    with ServerProcess(folder, engine, extra_env=environment) as server:
        bucket = Bucket(engine, prefix)
        try:
            yield Shop(server, bucket)
        finally:
            bucket.close()


@pytest.fixture
def shop(seaweed: Engine, tmp_path: Path) -> Iterator[Shop]:
    yield from open_shop(seaweed, tmp_path, TUSD_REAP="false", TUSD_WORK="false")


def test_a_dry_run_first_and_then_it_is_gone(shop: Shop) -> None:
    shop.abandon()
    shown = shop.run("reap")
    assert shown.returncode == 0
    assert "expire      1 expire" in shown.stdout
    assert "dry run" in shown.stdout
    assert shop.bucket.multiparts() and shop.tails(), "nothing was changed"

    only = shop.reap("--apply", "--only", "tails", "--only", "rows")
    assert only == {"tails": {}, "rows": {}}
    assert shop.tails()

    assert shop.reap("--apply", "--only", "expire") == {"expire": {"due": 1, "expired": 1}}
    assert not shop.bucket.multiparts() and not shop.tails()
    again = shop.reap("--apply")
    assert again["objects"] == {"due": 1, "clear": 1}
    assert again["rows"] == {"due": 1, "forgotten": 1}
    assert not any(shop.reap("--apply").values()), "nothing is left to do"


def test_a_living_upload_and_a_finished_one_are_left(seaweed: Engine, tmp_path: Path) -> None:
    settings = {"TUSD_EXPIRES_IN": "1h", "TUSD_MAX_LIFETIME": "1h"}
    for shop in open_shop(seaweed, tmp_path, TUSD_REAP="false", TUSD_WORK="false", **settings):
        done = shop.tus.upload(b"done")
        live = shop.tus.create(12 * MIB)
        assert shop.tus.patch(live, 0, bytes(6 * MIB)).status == 204
        assert not any(shop.reap("--apply").values())
        assert shop.tus.patch(live, 6 * MIB, bytes(6 * MIB)).status == 204
        assert shop.bucket.read(live) == bytes(12 * MIB)
        assert shop.bucket.read(done) == b"done"


def test_a_failure_shows_in_the_exit_code(shop: Shop) -> None:
    shop.abandon()
    environment = shop.server.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    done = run_program("reap", "--apply", extra_env=environment, cwd=shop.server.folder)
    assert done.returncode == 1
    assert "failed: " in done.stdout
    assert shop.reap("--apply")["expire"] == {"due": 1, "cleaned": 1}
    assert not shop.bucket.multiparts()


def test_without_a_database_nothing_is_swept(shop: Shop) -> None:
    shop.abandon()
    url = {"TUSD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    environment = shop.server.environment | url
    done = run_program("reap", "--apply", extra_env=environment, cwd=shop.server.folder)
    assert done.returncode not in {0, 1}
    assert "database" in done.stderr
    assert shop.tails()


def test_an_unknown_sweep_is_refused(shop: Shop) -> None:
    assert shop.run("reap", "--only", "everything").returncode == 2


def test_the_server_sweeps_by_itself(seaweed: Engine, tmp_path: Path) -> None:
    for shop in open_shop(seaweed, tmp_path, TUSD_REAP_INTERVAL="1s"):
        url = shop.tus.create(12 * MIB)
        assert shop.tus.patch(url, 0, bytes(6 * MIB)).status == 204
        poll(lambda shop=shop: not shop.bucket.multiparts() and not shop.tails(), timeout_s=20)
        poll(lambda shop=shop, url=url: shop.tus.head(url).status == 404, timeout_s=20)
        shop.server.wait_for_log('"sweep"', timeout_s=20)


def test_jobs_are_listed_shown_and_tried_again(shop: Shop) -> None:
    shop.tus.upload(b"done")
    [job] = json.loads(shop.run("jobs", "list", "--json").stdout)
    assert (job["kind"], job["state"], job["attempts"]) == ("promote_asset", "queued", 0)
    assert job["id"] in shop.run("jobs", "list").stdout
    assert shop.run("jobs", "list", "--state", "dead").stdout == ""
    shown = shop.run("jobs", "show", job["id"])
    assert json.loads(shown.stdout) == job
    assert shop.run("jobs", "retry", job["id"]).returncode == 0
    unknown = shop.run("jobs", "show", "unknown")
    assert unknown.returncode == 1 and "unknown" in unknown.stderr
    assert shop.run("jobs", "retry", "unknown").returncode == 1
    assert shop.run("jobs", "show").returncode == 1
