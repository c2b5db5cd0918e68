"""Upload-Metadata: strict grammar, and safe names and types out of it."""

import base64
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tusd_py.protocol import metadata
from tusd_py.protocol.errors import InvalidHeader

VISIBLE = "".join(c for c in string.printable if "!" <= c <= "~" and c != ",")

keys = st.text(VISIBLE, min_size=1, max_size=20)
pairs = st.dictionaries(keys, st.binary(max_size=60), max_size=8)


def encoded(values: dict[str, bytes]) -> str:
    return ",".join(f"{k} {base64.b64encode(v).decode()}" for k, v in values.items())


@given(pairs)
@settings(deadline=None, max_examples=60)
def test_every_pair_survives_in_order(values: dict[str, bytes]) -> None:
    parsed = metadata.parse(encoded(values))
    assert list(parsed.items()) == list(values.items())


@given(pairs)
@settings(deadline=None, max_examples=60)
def test_an_absent_value_needs_no_space(values: dict[str, bytes]) -> None:
    text = ",".join(element.rstrip(" ") for element in encoded(values).split(","))
    assert metadata.parse(text) == values


def test_no_metadata_is_no_pairs() -> None:
    assert metadata.parse("") == {}


def test_a_space_after_the_comma_is_let_through() -> None:
    """Two header lines are joined with one (RFC 9110, section 5.3)."""
    assert metadata.parse("a YQ==, b Yg==") == {"a": b"a", "b": b"b"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (",", "keys"),
        ("a YQ==,", "keys"),
        (",a YQ==", "keys"),
        ("a YQ==,,b Yg==", "keys"),
        (" ", "keys"),
        ("ä YQ==", "keys"),
        ("a\tb YQ==", "keys"),
        ("a\x00 YQ==", "keys"),
        ("a\r\nX-Evil: 1 YQ==", "keys"),
        ("a\x7f YQ==", "keys"),
        ("a YQ==,a Yg==", "unique"),
        ("a,a", "unique"),
        ("a YQ", "Base64"),
        ("a YQ=", "Base64"),
        ("a YQ===", "Base64"),
        ("a Y=Q=", "Base64"),
        ("a YQ==YQ==", "Base64"),
        ("a YQ\r\n==", "Base64"),
        ("a b c", "Base64"),
        ("a -_-_", "Base64"),
        ("a ÿÿÿÿ", "Base64"),
        ("a YQ== x", "Base64"),
        ("a " + "A" * 16_384, "longer"),
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidHeader, match=says):
        metadata.parse(text)


@given(st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
@settings(deadline=None, max_examples=60)
def test_whatever_is_accepted_is_visible_ascii_and_can_be_echoed(text: str) -> None:
    try:
        metadata.parse(text)
    except InvalidHeader:
        return
    assert all(c == " " or c == "\t" or "!" <= c <= "~" for c in text), text


def name_of(text: str | bytes, key: str = "filename") -> str | None:
    return metadata.filename({key: text.encode() if isinstance(text, str) else text})


@pytest.mark.parametrize(
    ("given_name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("Menü – 日本.pdf", "Menü – 日本.pdf"),
        ("🦄.png", "🦄.png"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("a/b\\c/d.txt", "d.txt"),
        ("evil\r\nSet-Cookie: a=b", "evilSet-Cookie: a=b"),
        ("nul\x00byte", "nulbyte"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("zero\u200bwidth", "zerowidth"),
        ("  padded  ", "padded"),
        ("line\u2028sep\u2029", "linesep"),
        ('qu"ote', 'qu"ote'),
    ],
)
def test_names_are_made_safe(given_name: str, safe: str) -> None:
    assert name_of(given_name) == safe


@pytest.mark.parametrize("text", ["", "/", "a/", "\\", "\r\n", " ", "\u202e", ".", "..", "x/.."])
def test_names_of_nothing_are_no_names(text: str) -> None:
    assert name_of(text) is None


def test_bytes_that_are_no_text_still_give_a_name() -> None:
    assert name_of(b"\xff\xfea.txt") == "\ufffd\ufffda.txt"


def test_the_key_filename_comes_before_name() -> None:
    assert metadata.filename({"name": b"b", "filename": b"a"}) == "a"
    assert metadata.filename({"name": b"b"}) == "b"
    assert metadata.filename({"name": b"b", "filename": b""}) == "b"
    assert metadata.filename({}) is None


@given(st.binary(max_size=600))
@example("é".encode() * 300)
@settings(deadline=None, max_examples=60)
def test_a_name_is_always_one_short_printable_segment(raw: bytes) -> None:
    name = name_of(raw)
    if name is None:
        return
    assert 0 < len(name) <= metadata.MAX_FILENAME_LENGTH
    assert name.isprintable() and name == name.strip()
    assert not set(name) & set("/\\\r\n\x00") and name not in {".", ".."}


def type_of(text: str, key: str = "filetype") -> str | None:
    return metadata.content_type({key: text.encode()})


@pytest.mark.parametrize(
    "text",
    [
        *("image/png", "text/plain; charset=utf-8", "application/vnd.api+json", "x/y"),
        "Text/HTML",
        "application/x.a-b_c",
    ],
)
def test_media_types_are_taken(text: str) -> None:
    assert type_of(text) == text
    assert type_of(text, "contentType") == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "png", "image/", "/png", "image/png/x", "image /png", "im age/png", "ima\u0131/png"),
        "image/png\r\nSet-Cookie: a=b",
        "image/png; a=\x00",
        "ímage/png",
        "image/png; name=é",
        "text/" + "a" * 251,
        "text/html, text/plain/x",
        "<script>/x",
    ],
)
def test_other_things_are_no_media_types(text: str) -> None:
    assert type_of(text) is None


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_a_type_can_always_be_sent_as_a_header(raw: bytes) -> None:
    text = metadata.content_type({"filetype": raw})
    if text is not None:
        assert all(" " <= c <= "~" for c in text) and len(text) <= 255
        kind, slash, subtype = text.partition(";")[0].strip().partition("/")
        assert kind and slash and subtype
