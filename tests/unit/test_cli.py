"""The command line: flags from the settings, exit codes, sentences instead of tracebacks."""

import errno
import os
import re
import socket
import sys
import tomllib
from pathlib import Path

import pytest

from tusd_py import __version__, cli, server
from tusd_py.demo import dev
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import load


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TUSD_CONFIG", "TUSD_PORT", "TUSD_S3_BUCKET"):
        monkeypatch.delenv(name, raising=False)


def exit_of(*arguments: str) -> int:
    """The exit code, however the command ends."""
    try:
        return cli.main(arguments)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("--version") == 0
    assert capsys.readouterr().out == f"tusd-py {__version__}\n"


def test_every_setting_is_a_flag_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("serve", "--help") == 0
    text = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
        assert f"TUSD_{name.upper()}" in text


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("jobs", "{list,show,retry} [ID ...]"),
        ("uploads", "{ls,show,cancel} [REF ...]"),
        ("sign", "[--lifetime LIFETIME]"),
        ("reap", "[--apply]"),
    ],
)
def test_commands_for_operators_show_their_own_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, usage: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert exit_of(command, "--help") == 0
    text = capsys.readouterr().out
    assert usage in text.partition("\n\n")[0]
    assert "tusd-py serve --help" in text and "--config FILE" in text
    assert "--shutdown-timeout" not in text


def test_they_take_every_setting_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("jobs", "list", "--port", "eighty") == 2
    assert "--port is 'eighty'" in capsys.readouterr().err
    assert exit_of("jobs", "list", "--prot", "1") == 2
    assert "did you mean --port?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["jobs", "uploads"])
def test_only_the_action_is_missing(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert exit_of(command) == 2
    told = capsys.readouterr().err
    assert "required: {" in told
    assert "ID" not in told and "REF" not in told


def test_settings_prints_a_file_that_gives_the_same_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ("--part-size", "6MiB", "--expires-in", "36h", "--no-tail-fsync")
    flags += ("--cors-origins", "https://a.example,https://b.example", "--s3-bucket", "b")
    assert exit_of("settings", *flags) == 0
    text = capsys.readouterr().out
    file = tmp_path / "out.toml"
    file.write_text(text)
    expected = load(
        {
            "part_size": "6MiB",
            "expires_in": "36h",
            "tail_fsync": False,
            "cors_origins": "https://a.example,https://b.example",
            "s3_bucket": "b",
        },
        environ={},
    )
    assert load(environ={}, config=file).settings == expected.settings
    assert tomllib.loads(text)["part_size"] == "6MiB"
    assert re.search(r'part_size = "6MiB" +# --part-size', text)


def test_settings_hides_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("settings", "--database-url", "postgresql://u:hunter2@h/d") == 0
    text = capsys.readouterr().out
    assert "hunter2" not in text
    assert "postgresql://u:***@h/d" in text


def test_a_wrong_setting_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUSD_PORT", "eighty")
    assert exit_of("serve") == 2
    assert capsys.readouterr().err == ("tusd-py: TUSD_PORT is 'eighty': write a whole number\n")


def test_an_unknown_flag_gets_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("serve", "--prot", "1") == 2
    assert "did you mean --port?" in capsys.readouterr().err
    assert exit_of("serve", "--s3-buck", "x") == 2  # no abbreviations: they would break later
    assert exit_of("surf") == 2
    assert exit_of() == 2


def test_an_id_may_begin_with_a_dash() -> None:
    parsed = cli.build_parser().parse_args(["jobs", "show", "-o1Bay_M5FSe4OyU00cPRQ", "--json"])
    assert (parsed.job, parsed.json) == (["-o1Bay_M5FSe4OyU00cPRQ"], True)
    assert exit_of("jobs", "-h") == 0
    assert exit_of("serve", "-p", "9000") == 2


@pytest.mark.parametrize("command", ["settings", "migrate"])
def test_a_reader_that_has_enough_ends_it_quietly(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert exit_of(command) == 141
    assert "Traceback" not in capsys.readouterr().err


def test_serving_without_a_bucket_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("serve") == 2
    error = capsys.readouterr().err
    assert error.startswith("tusd-py: No bucket is set")
    assert error.count("\n") == 1


def test_an_unreachable_database_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        url = f"postgresql://u:hunter2@127.0.0.1:{taken.getsockname()[1]}/d"
        code = exit_of("serve", "--s3-bucket", "b", "--database-url", url)
    assert code == 2
    error = capsys.readouterr().err
    assert "The database postgresql://u:***@127.0.0.1" in error
    assert "TUSD_DATABASE_URL" in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert exit_of("serve", "--s3-bucket", "b", "--data-dir", "file/data") == 2
    assert "TUSD_DATA_DIR" in capsys.readouterr().err


def test_migrate_makes_the_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert exit_of("migrate", "--data-dir", "data") == 0
    assert (tmp_path / "data" / "tusd.sqlite3").exists()
    assert "is up to date" in capsys.readouterr().out
    assert exit_of("migrate", "--data-dir", "data") == 0


# -- dev


def test_dev_refuses_a_store_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("dev", "--s3-endpoint", "http://127.0.0.1:1") == 2
    assert "tusd-py serve" in capsys.readouterr().err


def test_dev_takes_the_next_port_unless_one_was_asked_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert dev.first_free_port("127.0.0.1", port) > port
        asked = load({"port": port, "s3_bucket": "b"}, environ={})
        with pytest.raises(SettingsError, match=f"Port {port} .* write --port"):
            dev.settle(asked)


def test_the_block_says_where_to_go_and_how_to_stop() -> None:
    settings = Settings(port=9999, demo_page=True, s3_endpoint="http://127.0.0.1:1", s3_bucket="b")
    text = dev.block(settings)
    assert "http://localhost:9999/\n" in text
    assert "http://localhost:9999/files/" in text
    assert " uploads ls\n" in text
    assert "Ctrl-C" in text


# -- the server process


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="cannot be listened on"):
            server.port_is_free("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["203.0.113.1", "2001:db8::1", "nowhere.invalid"])
def test_a_host_that_is_not_ours_is_told(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        server.port_is_free(host, 8080, flag="--metrics-")
    told = str(refused.value)
    assert f"Port 8080 on {host} " in told
    assert "no address of this machine; write --metrics-host 127.0.0.1" in told
    assert "stop what uses it" not in told
    with pytest.raises(SettingsError, match="Port 8080 "):
        dev.first_free_port(host, 8080)  # other ports would be no better


@pytest.mark.parametrize(
    ("number", "port", "told"),
    [
        (errno.EACCES, 80, "write --port 8080, or give the program the capability CAP_NET_BIND"),
        (errno.EACCES, 9000, "the system forbids it; write another --port"),
        (errno.EADDRINUSE, 65535, "stop what uses it, or write --port 8080"),
        (errno.ENOBUFS, 80, "write another --host or --port"),
    ],
)
def test_each_reason_against_a_port_has_its_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, port: int, told: str
) -> None:
    class Refusing(socket.socket):
        def bind(self, _: object) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(SettingsError) as refused:
        server.port_is_free("127.0.0.1", port)
    assert told in str(refused.value)
    assert os.strerror(number).lower() in str(refused.value)
