"""Content-Disposition: safe for every header, and the name survives (RFC 6266, RFC 8187)."""

import re
from email.message import EmailMessage
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tusd_py.protocol.disposition import content_disposition

GRAMMAR = re.compile(
    r'(?P<kind>attachment|inline)(; filename="(?P<plain>[^"\\%]*)")?'
    r"(; filename\*=UTF-8''(?P<extended>(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})+))?"
)

names = st.text(min_size=1, max_size=300)


@given(names, st.booleans())
@example('a"; filename="b', False)
@example("a\r\nSet-Cookie: x=y", False)
@example("a\\", True)
@example("100%25.txt", False)
@settings(deadline=None, max_examples=60)
def test_the_name_survives_and_nothing_escapes(name: str, inline: bool) -> None:
    value = content_disposition(name, inline=inline)
    assert value.isascii() and value.isprintable()
    match = GRAMMAR.fullmatch(value)
    assert match, value
    assert match["kind"] == ("inline" if inline else "attachment")
    read = match["plain"] if match["extended"] is None else unquote(match["extended"])
    assert read == name


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_plain_names_need_no_second_form(name: str) -> None:
    value = content_disposition(name)
    assert ("filename*" in value) == bool(set(name) & set('"\\%'))


@pytest.mark.parametrize("name", ["report.pdf", "a b;c=d.txt", "it's", "a,b", "(1)"])
def test_a_library_reads_the_same_name(name: str) -> None:
    message = EmailMessage()
    message["Content-Disposition"] = content_disposition(name)
    assert message.get_filename() == name
    assert message.get_content_disposition() == "attachment"


def test_a_name_as_the_rfc_writes_it() -> None:
    assert content_disposition("€ rates") == (
        "attachment; filename=\"_ rates\"; filename*=UTF-8''%E2%82%AC%20rates"
    )


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name(name: str | None) -> None:
    assert content_disposition(name) == "attachment"
    assert content_disposition(name, inline=True) == "inline"
