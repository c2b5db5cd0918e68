"""Idempotency keys: where they come from, whose they are, and what makes two requests equal."""

import pytest

from tests.support.tus import metadata
from tusd_py.protocol.errors import InvalidHeader, KeyReused
from tusd_py.protocol.idempotency import CreationKey, creation_key
from tusd_py.protocol.requests import parse_create


def key_of(
    owner: str | None = "ann",
    *,
    fixed: str | None = None,
    metadata_key: str | None = None,
    **headers: str,
) -> CreationKey | None:
    given = {"tus-resumable": "1.0.0", "upload-length": "5"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    if given.get("upload-concat", "").startswith("final"):
        del given["upload-length"]
    request = parse_create(given, base_path="/files/", max_size=None)
    return creation_key(given, request, owner=owner, fixed=fixed, metadata_key=metadata_key)


def known(key: CreationKey | None) -> CreationKey:
    assert key is not None
    return key


def test_without_a_key_there_is_none() -> None:
    assert key_of() is None
    assert key_of(upload_metadata=metadata({"print": "x"})) is None
    assert key_of(metadata_key="print") is None
    assert key_of(metadata_key="print", upload_metadata=metadata({"print": ""})) is None


def test_the_same_key_of_the_same_owner_is_the_same() -> None:
    one = known(key_of(idempotency_key="k"))
    assert key_of(idempotency_key="k") == one
    others = [
        key_of(idempotency_key="K"),
        key_of("ben", idempotency_key="k"),
        key_of("", idempotency_key="k"),
        key_of("annheader", idempotency_key="k"),
        key_of(fixed="k"),
        key_of(metadata_key="print", upload_metadata=metadata({"print": "k"})),
    ]
    keys = [known(other).key for other in others]
    assert len({one.key, *keys}) == len(keys) + 1
    assert all("ann" not in key and len(key) == 64 for key in keys)


def test_without_owners_a_key_is_long_and_metadata_is_none() -> None:
    for short in ("k", "x" * 15):
        with pytest.raises(InvalidHeader, match="16"):
            key_of(None, idempotency_key=short)
        assert key_of(None, idempotency_key=short, upload_concat="partial") is None
        assert key_of(None, fixed="f", idempotency_key=short) == key_of(None, fixed="f")
    key = known(key_of(None, idempotency_key="x" * 16))
    assert key.key not in {known(key_of(o, idempotency_key="x" * 16)).key for o in ("", "ann")}
    print_ = metadata({"print": "x" * 16})
    assert key_of(None, metadata_key="print", upload_metadata=print_) is None


def test_the_grants_key_wins_then_the_headers() -> None:
    both = {"upload_metadata": metadata({"print": "m"}), "metadata_key": "print"}
    assert known(key_of(idempotency_key="h", **both)).key == known(key_of(idempotency_key="h")).key
    assert known(key_of(fixed="f", idempotency_key="h")).key == known(key_of(fixed="f")).key


def test_what_is_asked_for_makes_the_digest() -> None:
    one = known(key_of(idempotency_key="k", upload_metadata=metadata({"a": "1", "b": "2"})))
    one.check(one.digest)
    same = key_of(idempotency_key="k", upload_metadata=metadata({"b": "2", "a": "1"}))
    one.check(known(same).digest)
    one.check(  # a body that came along is no part of it
        known(
            key_of(
                idempotency_key="k",
                upload_metadata=metadata({"a": "1", "b": "2"}),
                content_length="3",
                content_type="application/offset+octet-stream",
            )
        ).digest
    )
    for wrong in (
        key_of(idempotency_key="k", upload_metadata=metadata({"a": "1", "b": "3"})),
        key_of(idempotency_key="k", upload_metadata=metadata({"a": "12", "b": ""})),
        key_of(idempotency_key="k", upload_metadata=metadata({"a": "1"})),
        key_of(
            idempotency_key="k",
            upload_length="6",
            upload_metadata=metadata({"a": "1", "b": "2"}),
        ),
        key_of(idempotency_key="k", upload_concat="final;/files/x"),
    ):
        with pytest.raises(KeyReused):
            one.check(known(wrong).digest)
    with pytest.raises(KeyReused):
        one.check(None)
    finals = [
        known(key_of(idempotency_key="k", upload_concat=f"final;{urls}")).digest
        for urls in ("/files/a /files/b", "/files/b /files/a", "/files/a", "/files/ab")
    ]
    assert len(set(finals)) == 4


def test_partial_uploads_have_no_key() -> None:
    """tus-js-client sends one set of headers with all parts of a file, equally long ones too."""
    assert key_of(idempotency_key="k", upload_concat="partial") is None
    assert key_of(fixed="k", upload_concat="partial") is None


@pytest.mark.parametrize("text", ["", "a b", "k, k", "ä", "a\x7f", "k" * 256, "\t"])
def test_keys_are_bounded(text: str) -> None:
    with pytest.raises(InvalidHeader):
        key_of(idempotency_key=text)


def test_fingerprints_are_bounded() -> None:
    long = metadata({"print": "x" * 1025})
    with pytest.raises(InvalidHeader):
        key_of(metadata_key="print", upload_metadata=long)
    assert key_of(upload_metadata=long) is None
