"""Log lines: both styles, everybody's loggers, the upload id, and no secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tusd_py.telemetry import logs

SIGNED = "https://s3.example.com/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=abc123"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_time_level_logger_event_and_values(stream: io.StringIO) -> None:
    logs.configure(style="json", stream=stream)
    structlog.get_logger("tusd_py.uploads").info("part stored", part=3, size=5)
    (line,) = lines(stream)
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "logger": "tusd_py.uploads",
        "event": "part stored",
        "part": 3,
        "size": 5,
    }


def test_what_is_bound_is_in_every_line_inside(stream: io.StringIO) -> None:
    logs.configure(style="json", stream=stream)
    with structlog.contextvars.bound_contextvars(trace_id="t1"):
        structlog.get_logger().info("ours")
        logging.getLogger("uvicorn.error").warning("%s of theirs", 1)
    structlog.get_logger().info("after")
    ours, theirs, after = lines(stream)
    assert ours["trace_id"] == theirs["trace_id"] == "t1"
    assert theirs["event"] == "1 of theirs"
    assert "trace_id" not in after


def test_uvicorn_has_no_handler_of_its_own_and_no_access_log(stream: io.StringIO) -> None:
    logs.configure(style="json", stream=stream)
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("uvicorn").info("up")
    assert [line["event"] for line in lines(stream)] == ["up"]


def test_a_debug_level_does_not_open_the_libraries_that_log_signatures(
    stream: io.StringIO,
) -> None:
    logs.configure(style="json", level="debug", stream=stream)
    logging.getLogger("botocore.auth").debug("Signature: abc")
    structlog.get_logger().debug("ours")
    assert [line["event"] for line in lines(stream)] == ["ours"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_secret_reaches_a_line(stream: io.StringIO, style: str) -> None:
    logs.configure(style=style, stream=stream)
    log = structlog.get_logger()
    log.info(
        f"redirect to {SIGNED}",
        database_url="postgresql://tusd:hunter2@db/x",
        headers={"Authorization": "Bearer hunter2", "Cookie": "id=hunter2", "X": "kept"},
        aws_secret_access_key="hunter2",
        urls=[SIGNED],
        key_id="AKIAIOSFODNN7EXAMPLE",
    )
    log.info("Authorization: AWS4-HMAC-SHA256 Credential=hunter2/x, Signature=abc123")
    try:
        raise ValueError(f"could not connect to postgresql://u:hunter2@db and {SIGNED}")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "abc123" not in text
    assert "AKIA" not in text
    assert "kept" in text
    assert "tusd:***@db" in text
    assert "https://s3.example.com/b/k?***" in text
    assert "Traceback" in text


def test_a_line_for_people_steers_no_terminal(stream: io.StringIO) -> None:
    logs.configure(style="console", level="info", stream=stream)
    nasty = "\x1b]0;owned\x07\x9b2J\u202egnp\rfake\n"
    structlog.get_logger("x").warning(nasty, error=nasty, listed=[nasty], by={"name": nasty})
    logging.getLogger("foreign").warning("said %s", nasty)
    try:
        raise RuntimeError(nasty)
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
    told = stream.getvalue()
    assert all(char.isprintable() or char == "\n" for char in told), ascii(told)
    assert told.count("owned") == 6
    begun = [line for line in told.splitlines() if "[warning" in line or "[error" in line]
    assert len(begun) == 3
    assert "Traceback (most recent call last):\n" in told


def test_configuring_again_replaces_the_first(stream: io.StringIO) -> None:
    logs.configure(style="json", stream=io.StringIO())
    logs.configure(style="json", stream=stream)
    structlog.get_logger().info("once")
    assert len(lines(stream)) == 1


def test_a_logger_that_lasts_writes_what_others_write(stream: io.StringIO) -> None:
    logs.configure(style="json", stream=stream, level="warning", lasting=True)
    lasting = structlog.get_logger("tusd_py.lasting")
    for number in range(2):
        with structlog.contextvars.bound_contextvars(request_id=f"r{number}"):
            lasting.info("not told")
            lasting.warning("told")
    assert [line["request_id"] for line in lines(stream)] == ["r0", "r1"]
    assert {line["logger"] for line in lines(stream)} == {"tusd_py.lasting"}
