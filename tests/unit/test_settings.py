"""Settings: one definition, four places, and sentences for what is wrong."""

import threading
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from tusd_py.cli import build_parser
from tusd_py.settings import NODE_PATTERN, SECTIONS, Settings, SettingsError, mask_url
from tusd_py.settings.sources import load
from tusd_storage.partplan import MIB


def problems(
    *, environ: dict[str, str] | None = None, config: Path | None = None, **flags: object
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(flags, environ=environ or {}, config=config)
    return list(caught.value.problems)


def written(folder: Path, text: str) -> Path:
    path = folder / "tusd.toml"
    path.write_text(text)
    return path


# -- Where values come from


def test_names_of_tusd_are_taken_wherever_ours_are(tmp_path: Path) -> None:
    file = written(tmp_path, 's3_part_size = "8MiB"\nnetwork_timeout = "5s"')
    loaded = load(environ={"TUSD_S3_CONCURRENT_PART_UPLOADS": "7"}, config=file)
    settings = loaded.settings
    assert (settings.part_size, settings.s3_max_connections) == (8 * MIB, 7)
    assert settings.body_idle_timeout == timedelta(seconds=5)
    assert loaded.origins["s3_max_connections"] == "TUSD_S3_CONCURRENT_PART_UPLOADS"
    flags = vars(build_parser().parse_args(["serve", "--s3-part-size", "9MiB"]))
    assert flags["part_size"] == "9MiB"


def test_defaults() -> None:
    settings = Settings()
    assert settings.port == 8080
    assert settings.base_path == "/files/"
    assert settings.part_size == 5 * MIB
    assert settings.expires_in == timedelta(hours=24)
    assert settings.max_lifetime == timedelta(days=7)
    assert settings.body_idle_timeout == timedelta(seconds=60)
    assert settings.tail_fsync is True
    assert settings.tail_loss == "fail"
    assert settings.sqlite_synchronous == "FULL"


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, 'port = 1\nworkers = 1\nmax_parts = 1\nlog_level = "error"\n')
    loaded = load(
        {"port": "3"},
        environ={"TUSD_PORT": "2", "TUSD_WORKERS": "2"},
        config=file,
        defaults={"max_parts": 7, "demo_page": True},
    )
    settings = loaded.settings
    assert (settings.port, settings.workers, settings.max_parts) == (3, 2, 1)
    assert settings.demo_page is True
    assert settings.log_level == "error"
    assert loaded.origins == {
        "port": "--port",
        "workers": "TUSD_WORKERS",
        "max_parts": "max_parts in tusd.toml",
        "log_level": "log_level in tusd.toml",
    }


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = written(tmp_path, 's3_bucket = "from-file"')
    assert load(environ={"TUSD_CONFIG": str(file)}).settings.s3_bucket == "from-file"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(environ={"TUSD_PORT": "", "TUSD_S3_ENDPOINT": ""}).settings.port == 8080


def test_other_programs_variables_are_left_alone() -> None:
    load(environ={"AWS_REGION": "x", "PATH": "y", "MY_TUSD_PORT": "z"})


def test_constructing_directly_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUSD_PORT", "9")
    assert Settings().port == 8080


def test_folders_and_database_follow_the_data_folder() -> None:
    settings = Settings(data_dir=Path("/srv/tusd"))
    assert settings.tmp_dir == Path("/srv/tusd/tmp")
    assert settings.database_url == "sqlite:////srv/tusd/tusd.sqlite3"
    assert Settings().tmp_dir == Path("data/tmp")


def test_toml_types_and_texts_mean_the_same(tmp_path: Path) -> None:
    native = written(
        tmp_path, 'part_size = 6291456\nexpires_in = 90\ncors_origins = ["https://a.example"]'
    )
    from_file = load(environ={}, config=native).settings
    from_environment = load(
        environ={
            "TUSD_PART_SIZE": "6MiB",
            "TUSD_EXPIRES_IN": "90s",
            "TUSD_CORS_ORIGINS": "https://a.example",
        }
    ).settings
    assert from_file == from_environment


def test_lists_are_separated_by_commas() -> None:
    settings = load(
        environ={
            "TUSD_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "TUSD_INLINE_TYPES": "image/PNG,video/*",
            "TUSD_CORS_ORIGINS": "https://a.example , http://localhost:3000",
        }
    ).settings
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert settings.inline_types == ("image/png", "video/*")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("written_as", "value"), [("true", True), ("no", False), ("1", True), ("off", False)]
)
def test_switches(written_as: str, value: bool) -> None:
    assert load(environ={"TUSD_TAIL_FSYNC": written_as}).settings.tail_fsync is value


def test_a_base_path_gets_its_slash() -> None:
    assert Settings(base_path="/up/load").base_path == "/up/load/"


def test_settings_travel_to_workers_as_json() -> None:
    settings = Settings(
        database_url="postgresql://u:secret@h/d",
        expires_in=timedelta(milliseconds=90_500),
        trusted_proxies=(ip_network("10.0.0.0/8"),),
        max_size=1,
    )
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


# -- What is refused, and how it is said


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TUSD_PORT", "http", "TUSD_PORT is 'http': write a whole number"),
        ("TUSD_PORT", "70000", "TUSD_PORT is '70000': write at most 65535"),
        ("TUSD_WORKERS", "0", "TUSD_WORKERS is '0': write at least 1"),
        ("TUSD_PART_SIZE", "1MiB", "TUSD_PART_SIZE is '1MiB': write at least 5MiB"),
        ("TUSD_MAX_PARTS", "20000", "TUSD_MAX_PARTS is '20000': write at most 10000"),
        ("TUSD_EXPIRES_IN", "0", "TUSD_EXPIRES_IN is '0': write at least 1 second"),
        ("TUSD_TAIL_LOSS", "cry", "TUSD_TAIL_LOSS is 'cry': write one of fail, rewind"),
        ("TUSD_TAIL_FSYNC", "maybe", "TUSD_TAIL_FSYNC is 'maybe': write true or false"),
    ],
)
def test_nonsense_is_refused_with_what_to_write(variable: str, value: str, said: str) -> None:
    assert problems(environ={variable: value}) == [said]


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("base_path", "files", '"/files/"'),
        ("base_path", "/a/../b/", '"/files/"'),
        ("base_path", "/a b/", '"/files/"'),
        ("public_url", "uploads.example.com", '"https://s3.example.com"'),
        ("s3_endpoint", "s3://bucket", '"https://s3.example.com"'),
        ("s3_endpoint", "https://key:secret@host", '"https://s3.example.com"'),
        ("s3_endpoint", "https://host:port", '"https://s3.example.com"'),
        ("s3_bucket", "my/bucket", '"my-uploads"'),
        ("s3_prefix", "/incoming", '"incoming/"'),
        ("s3_prefix", "a/../b", '"incoming/"'),
        ("node", "Host.Name", '"upload-1"'),
        ("node", "a" * 17, '"upload-1"'),
        ("database_url", "mysql://h/d", '"sqlite:///path"'),
        ("database_url", "/var/db", '"sqlite:///path"'),
        ("trusted_proxies", "proxy", '"10.0.0.0/8, ::1"'),
        ("cors_origins", "example.com", '"https://app.example.com"'),
        ("cors_origins", "https://a.example/path", '"https://app.example.com"'),
        ("inline_types", "png", '"image/png, video/*"'),
    ],
)
def test_advice_shows_a_good_value(name: str, value: str, advice: str) -> None:
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"--{name.replace('_', '-')} is ")
    assert advice in problem


def test_all_problems_are_told_at_once() -> None:
    told = problems(environ={"TUSD_PORT": "x"}, workers="0")
    assert len(told) == 2


def test_unknown_names_are_refused_everywhere(tmp_path: Path) -> None:
    file = written(tmp_path, "prot = 1")
    assert problems(config=file) == [
        "prot in tusd.toml: there is no such setting; did you mean port?"
    ]
    assert problems(environ={"TUSD_BASEPATH": "/x/"}) == [
        "TUSD_BASEPATH: there is no such setting; did you mean TUSD_BASE_PATH?"
    ]
    assert problems(environ={"TUSD_QQQ": "1"}) == [
        "TUSD_QQQ: there is no such setting; `tusd-py settings` lists them all"
    ]


def test_a_table_in_the_file_is_an_unknown_name(tmp_path: Path) -> None:
    (problem,) = problems(config=written(tmp_path, '[s3]\nbucket = "x"'))
    assert problem.startswith("s3 in tusd.toml: there is no such setting")


def test_settings_that_do_not_go_together() -> None:
    (lifetime,) = problems(expires_in="8d")
    assert lifetime.startswith("max_lifetime is 7d, expires_in is 8d")
    assert "part_size is 6GiB" in problems(part_size="6GiB")[0]
    assert "The demo page" in problems(base_path="/", demo_page=True)[0]


def test_a_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    (missing,) = problems(config=tmp_path / "none.toml")
    assert "cannot be read" in missing and "--config" in missing
    (broken,) = problems(config=written(tmp_path, "port: 1"))
    assert "is not TOML" in broken


def test_no_bucket_says_the_three_ways_to_write_one() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().require_bucket()
    for way in ("--s3-bucket NAME", "TUSD_S3_BUCKET=NAME", 's3_bucket = "NAME"'):
        assert way in str(caught.value)


# -- Frozen, and without secrets


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://tusd:hunter2@db/tusd",
        "postgresql://tusd:a@hunter2/b@db/tusd",
        "postgresql://tusd@db/tusd?password=hunter2&x=1",
        "postgresql+psycopg://:hunter2@/tusd?host=/run",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    settings = Settings(database_url=url)
    for text in (repr(settings), str(settings), str(settings.masked()), mask_url(url)):
        assert "hunter2" not in text
    assert "***" in repr(settings)


def test_a_refused_url_does_not_show_its_password() -> None:
    assert "hunter2" not in problems(database_url="mysql://u:hunter2@db/x")[0]


def test_a_url_without_password_is_shown_as_it_is() -> None:
    assert mask_url("postgresql://db:5432/x?host=/run") == "postgresql://db:5432/x?host=/run"


# -- Who may upload

LONG = "a secret of 32 characters or more"


def test_ways_to_authenticate() -> None:
    environ = {"TUSD_AUTH": "jwt, signed", "TUSD_JWT_SECRET": LONG, "TUSD_URL_SECRETS": LONG}
    settings = load(environ=environ).settings
    assert settings.auth == ("jwt", "signed")
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"auth": "none,jwt", "jwt_secret": LONG}, "none"),
        ({"auth": ""}, "none"),
        ({"auth": "basic"}, "write one of"),
        ({"auth": "jwt"}, "exactly one of jwt_secret"),
        ({"auth": "jwt", "jwt_secret": LONG, "jwt_jwks_url": "https://i/k"}, "exactly one"),
        ({"auth": "signed"}, "set url_secrets"),
        ({"auth": "forward"}, "set forward_auth_url"),
        ({"jwt_secret": LONG}, "write jwt into auth"),
        ({"url_secrets": LONG}, "write signed into auth"),
        ({"forward_auth_url": "http://auth"}, "write forward into auth"),
        ({"auth": "jwt", "jwt_secret": "short-secret"}, "at least 32 characters"),
        ({"auth": "signed", "url_secrets": f"{LONG},short-secret"}, "at least 32 characters"),
    ],
)
def test_ways_that_lack_something_or_have_too_much(flags: dict[str, str], said: str) -> None:
    told = " ".join(problems(**flags))
    assert said in told
    assert "short-secret" not in told and LONG not in told


def test_secrets_are_never_shown() -> None:
    settings = Settings(auth=("jwt", "signed"), jwt_secret=LONG, url_secrets=(LONG, LONG))
    assert LONG not in repr(settings) and LONG not in str(settings.masked())
    assert settings.masked()["url_secrets"] == "***"
    assert Settings().masked()["jwt_secret"] is None


# -- The reference


def test_every_setting_has_a_description_and_a_section() -> None:
    assert [name for names in SECTIONS.values() for name in names] == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert field.description, name


# -- The node's name


def test_the_node_name_is_made_once_and_kept(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    name = settings.node_name()
    assert NODE_PATTERN.fullmatch(name)
    assert Settings(data_dir=tmp_path / "data").node_name() == name
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["node"]
    assert Settings(data_dir=tmp_path / "other").node_name() != name


def test_a_node_name_of_ones_own_makes_no_file(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path / "data", node="a-1").node_name() == "a-1"
    assert not (tmp_path / "data").exists()


def test_several_at_once_agree_on_the_node_name(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    names: list[str] = []

    def ask() -> None:
        barrier.wait()
        names.append(Settings(data_dir=tmp_path).node_name())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 8
    assert len(set(names)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_a_damaged_node_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("NOT A NAME\n")
    with pytest.raises(SettingsError, match="delete it"):
        Settings(data_dir=tmp_path).node_name()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="TUSD_NODE=name"):
        Settings(data_dir=tmp_path / "file" / "data").node_name()


def test_hooks_are_written_as_tusd_names_them() -> None:
    environ = {
        "TUSD_HOOKS_HTTP": "http://localhost:8000, https://u:pw@b.example/h?token=abc",
        "TUSD_HOOKS_HTTP_FORWARD_HEADERS": "Authorization,Cookie",
        "TUSD_HOOKS_HTTP_BACKOFF": "2s",
        "TUSD_HOOKS_ENABLED_EVENTS": "pre-finish,post-finish",
        "TUSD_PROGRESS_HOOKS_INTERVAL": "500ms",
        "TUSD_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    settings = load({}, environ=environ).settings
    assert settings.hooks_http[0] == "http://localhost:8000"
    assert settings.hooks_http_backoff == timedelta(seconds=2)
    assert settings.hooks_enabled_events == ("pre-finish", "post-finish")
    assert settings.progress_hooks_interval == timedelta(milliseconds=500)
    for secret in ("pw@", "abc", "MfKQ9"):
        assert secret not in repr(settings)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TUSD_HOOKS_HTTP", "localhost:8000", "https://app.example.com/hooks"),
        ("TUSD_HOOKS_HTTP", "ftp://a.example", "https://app.example.com/hooks"),
        ("TUSD_HOOKS_ENABLED_EVENTS", "post-everything", "pre-create"),
        ("TUSD_WEBHOOK_SECRET", "secret", "whsec_"),
        ("TUSD_HOOKS_HTTP_RETRY", "-1", "hooks_http_retry"),
    ],
)
def test_hooks_that_cannot_work_are_refused(variable: str, value: str, said: str) -> None:
    assert said.lower() in " ".join(problems(environ={variable: value})).lower()
