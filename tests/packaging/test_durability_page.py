"""docs/durability.md: each claim names a test, and each test it names is there."""

import re
from pathlib import Path

from tusd_py.protocol.checksum import declared_crc32
from tusd_py.protocol.metadata import parse

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "durability.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 30
    for path, name in named:
        source = (ROOT / path).read_text()
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE) or not name, name


def test_every_claim_names_a_test() -> None:
    notes = set(re.findall(r"^(\d+)\. `tests/", PAGE, re.MULTILINE))
    table = PAGE.partition("| failure |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    assert rows
    for row in rows:
        marks = set(re.findall(r"\[(\d+)\]", row))
        assert marks, row
        assert marks <= notes, row


def test_the_example_of_a_declared_checksum() -> None:
    (header,) = re.findall(r"^    Upload-Metadata: (.+)$", PAGE, re.MULTILINE)
    assert declared_crc32(parse(header)) == 0x0D4A1185  # of "hello world"
