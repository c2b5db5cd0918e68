"""docs/limits.md says what the code does: settings, defaults, fixed values and codes."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tusd_py.http import connection, connections, drain, errors, json_bodies, resource
from tusd_py.protocol import concat, metadata
from tusd_py.settings import Settings
from tusd_py.units import parse_duration, parse_size
from tusd_py.uploads.config import UploadConfig
from tusd_storage.partplan import MIB
from tusd_storage.sql import calls

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text()
RAW_CODES = {"invalid_request", "too_many_connections", "head_timeout", "headers_too_large"}
LIMITING = re.compile(
    r"timeout$|^max_|^owner_max|_rate$|_budget$|_connections$|pool_size$|^expires_in$"
)
OTHERS = re.compile(r"max_part_size|max_parts|max_object_size|(forward_auth|hooks|jwt|s3)_.*")
"""What the store takes, from which `max_size` follows; and how long we wait for other servers."""


def table(title: str) -> list[list[str]]:
    """Cells of the table under a heading, without its head."""
    text = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", table("Settings"), ids=lambda row: row[1].strip("`"))
def test_defaults_are_those_of_the_settings(row: list[str]) -> None:
    default = getattr(Settings(), row[1].strip("`"))
    told = row[2].strip("`")
    if default is None:
        assert row[2] == told
    elif isinstance(default, timedelta):
        assert parse_duration(told) == default
    else:
        assert parse_size(told) == default


def test_every_setting_that_limits_a_client_is_told() -> None:
    told = {row[1].strip("`") for row in table("Settings")}
    names = {name for name in Settings.model_fields if LIMITING.search(name)}
    assert {name for name in names if not OTHERS.fullmatch(name)} <= told
    assert told <= set(Settings.model_fields)


def test_fixed_values_are_those_of_the_code() -> None:
    values = [row[1] for row in table("Fixed")]
    assert values == [
        f"{connection.MAX_HEAD_SIZE // 1024} KiB",
        str(connection.MAX_FIELDS),
        "exactly 1",
        str(connection.MAX_PIPELINED),
        str(concat.MAX_PARTIALS),
        f"{metadata.MAX_METADATA_LENGTH // 1024} KiB",
        f"{resource.MAX_BODY_SIZE // MIB} MiB",
        f"{json_bodies.MEMORY // MIB} MiB",
        str(calls.MOST_WAITING),
        str(UploadConfig(bucket="b", node="n").parts_in_flight),
        f"{drain.DRAIN_SIZE // MIB} MiB, {drain.DRAIN_S:.0f} s, {drain.MAX_DRAINS} at a time",
        f"{connections.MAX_FAREWELLS} at a time",
        "1",
    ]
    assert f"{connections.FILES_FOR_OTHERS} for the rest" in PAGE


def test_codes_and_statuses_are_those_of_the_answers() -> None:
    known = {(failure.status, failure.code) for failure in errors.TABLE.values()}
    known |= {(failure.status, failure.code) for failure in errors._INTERRUPTED.values()}
    told = {(int(s), code) for s, code in re.findall(r"\b([45]\d\d) `([a-z_]+)`", PAGE)}
    assert {pair for pair in told if pair[1] not in RAW_CODES} <= known
    assert {code for _, code in told} >= RAW_CODES | {"body_timeout", "disk_full", "overloaded"}
