"""Commands beside `tusd-py dev` find its settings and keys, and never in place of others."""

import json
import os
import shlex
import stat
import sys
from pathlib import Path

import pytest

from tusd_py.demo import dev, recorded
from tusd_py.demo.engine_identity import Identity
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import Loaded, load

RUNNING = {"s3_endpoint": "http://127.0.0.1:9", "s3_region": "us-east-1", "port": 9999}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def a_dev(**given: object) -> Settings:
    """What `dev` records on its data folder, with the engine's keys beside it."""
    settings = load(given, environ={}, defaults=dev.DEFAULTS).settings
    running = Settings.model_validate(settings.model_dump(exclude_unset=True) | RUNNING)
    keys = running.data_dir / recorded.STORE
    keys.mkdir(parents=True)
    Identity(access_key="AK", secret_key="SK", ports={"s3": 9}).store(keys / "engine.json")
    recorded.record(running)
    return running


def asked(**given: object) -> Loaded:
    return load(given, environ={})


def test_what_dev_ran_with_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    running = a_dev(
        expires_in="36h",
        trusted_proxies="10.0.0.0/8",
        url_secrets="0123456789abcdef0123456789abcdef",
        auth="signed",
        profiles={"pictures": {"prefix": "pictures/", "max_size": "20MB"}},
    )
    with recorded.used(asked()) as settings:
        assert settings == running
        assert os.environ["AWS_SECRET_ACCESS_KEY"] == "SK"
        assert "AWS_PROFILE" not in os.environ
    assert os.environ["AWS_PROFILE"] == "mine"
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ


def test_it_is_for_this_user_only() -> None:
    kept = a_dev().data_dir / recorded.FILE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_it_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_dev(data_dir="a/data", tmp_dir="b", database_url="sqlite:///c/state.sqlite3")
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path / "d")
    with recorded.used(asked(data_dir="../a/data", log_level="error")) as settings:
        assert settings.tmp_dir == tmp_path / "b"
        assert settings.database_url == f"sqlite:///{tmp_path}/c/state.sqlite3"
        assert settings.log_level == "error"
    told = capsys.readouterr().err
    assert "../a/data" in told and "it is not running" in told
    assert "SK" not in told


@pytest.mark.parametrize(
    "given",
    [
        {"s3_bucket": "mine"},
        {"s3_endpoint": "https://s3.example.com"},
        {"s3_endpoint": "https://s3.example.com", "s3_bucket": "uploads"},
        {"data_dir": "another"},
    ],
)
def test_another_store_or_folder_is_left_as_it_is(given: dict[str, object]) -> None:
    a_dev()
    loaded = asked(**given)
    with recorded.used(loaded) as settings:
        assert settings is loaded.settings


def test_the_same_bucket_on_the_same_folder_is_that_of_dev() -> None:
    a_dev(s3_bucket="mine")
    with recorded.used(asked(s3_bucket="mine")) as settings:
        assert settings.s3_endpoint == RUNNING["s3_endpoint"]


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"s3_bucket": "b", "no_such": 1})])
def test_a_damaged_record_is_a_sentence(content: str) -> None:
    (a_dev().data_dir / recorded.FILE).write_text(content)
    with (
        pytest.raises(SettingsError, match="start `tusd-py dev` once more"),
        recorded.used(asked()),
    ):
        pass


def test_the_command_works_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "my venv" / "bin" / "tusd-py"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "dev"])
    monkeypatch.setenv("PATH", os.devnull)
    settings = Settings()
    assert shlex.split(recorded.listing_command(settings)) == [
        *("my venv/bin/tusd-py", "uploads", "ls")
    ]
    monkeypatch.setenv("PATH", str(program.parent))
    assert recorded.listing_command(settings) == "tusd-py uploads ls"
    other = Settings(data_dir=Path("/var/other"))
    assert recorded.listing_command(other) == "tusd-py uploads ls --data-dir /var/other"
    assert recorded.listing_command_without_paths(other) == "tusd-py uploads ls"
    near = Settings(data_dir=Path("other"))
    assert recorded.listing_command_without_paths(near) == "tusd-py uploads ls --data-dir other"
