"""Upload-Concat: what it names, and what it may not name."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.protocol import concat
from tusd_py.protocol.concat import MAX_PARTIALS, Concat
from tusd_py.protocol.errors import InvalidHeader, NotConcatenable

ID = st.text("abcXYZ019-_", min_size=1, max_size=24).map(lambda text: f"node-1~{text}")
BASE = "/files/"


def test_absent_and_partial() -> None:
    assert concat.parse(None, base_path=BASE) == Concat()
    assert concat.parse("partial", base_path=BASE) == Concat(partial=True)


@given(
    st.lists(ID, min_size=1, max_size=20),
    st.sampled_from(["/files/", "/", "/a/b/c/", "/app/files/"]),
    st.data(),
)
@settings(deadline=None, max_examples=60)
def test_every_form_of_url_names_the_same_id(
    ids: list[str], base: str, draw: st.DataObject
) -> None:
    forms = [
        base,
        "https://uploads.example.com" + base,
        "http://127.0.0.1:8080" + base,
        "//other.example" + base,
        "",
        "./",
    ]
    urls = []
    for upload_id in ids:
        text = draw.draw(
            st.sampled_from([upload_id, quote(upload_id, safe=""), upload_id + "?a=b"])
        )
        urls.append(draw.draw(st.sampled_from(forms)) + text)
    parsed = concat.parse("final;" + " ".join(urls), base_path=base)
    assert parsed == Concat(final=True, ids=tuple(ids))


def test_order_and_repetition_are_kept() -> None:
    parsed = concat.parse("final;/files/b /files/a /files/b", base_path=BASE)
    assert parsed.ids == ("b", "a", "b")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Partial",
            "partial;",
            "partial;/files/a",
            "final",
            "final:/files/a",
            "Final;/files/a",
        ),
        *("final;", "final; ", "final ;/files/a", " final;/files/a", "partial, partial"),
        "final;http://[/files/a",
        "final;" + " ".join(["/files/a"] * (MAX_PARTIALS + 1)),
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidHeader, match="Upload-Concat"):
        concat.parse(text, base_path=BASE)


@pytest.mark.parametrize(
    "url",
    [
        *("/", "/files/", "/files", "/other/a", "/files/a/b", "/files//a", "/filesa", "/a"),
        *("/files/a/", "https://host", "https://host/a", "https://host/x/files/a", "a/"),
        *("/files/..%2fa", "/files/%00", "/files/a%20b", "/files/%ff", "/files/a\x00", "/files/.."),
        *("..", ".", "/files/a,b", "/files/\xe9", "/files/" + "a" * 200, "?a", "#a"),
    ],
)
def test_urls_that_are_no_uploads_of_this_server(url: str) -> None:
    with pytest.raises(NotConcatenable, match="Upload-Concat"):
        concat.parse(f"final;{url}", base_path=BASE)


def test_a_mounted_server_knows_only_its_own_path() -> None:
    assert concat.parse("final;/app/files/a", base_path="/app/files/").ids == ("a",)
    with pytest.raises(NotConcatenable):
        concat.parse("final;/files/a", base_path="/app/files/")


def test_the_most_partials() -> None:
    parsed = concat.parse("final;" + " ".join(["/files/a"] * MAX_PARTIALS), base_path=BASE)
    assert len(parsed.ids) == MAX_PARTIALS


@given(st.binary(max_size=80).map(lambda raw: raw.decode("latin-1")))
@settings(deadline=None, max_examples=60)
def test_ids_are_always_harmless(text: str) -> None:
    try:
        parsed = concat.parse("final;" + text, base_path=BASE)
    except (InvalidHeader, NotConcatenable):
        return
    for upload_id in parsed.ids:
        assert upload_id.isascii() and upload_id.isprintable()
        assert not set(upload_id) & set("/\\ %") and upload_id not in {".", ".."}
