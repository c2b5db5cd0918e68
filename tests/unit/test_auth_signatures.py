"""Signed URLs: what they allow, until when, and that nothing in them can be changed."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.auth.grants import Grant, SignatureRefused
from tusd_py.auth.signatures import MAX_QUERY_LENGTH, UrlSigner, is_signed
from tusd_py.configs import upload_urls
from tusd_py.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
OLD, NEW = "old secret, 32 characters or more", "new secret, 32 characters or more"
SIGNER = UrlSigner([NEW])


def refused(query: str, *, signer: UrlSigner = SIGNER, now: datetime = NOW) -> str:
    with pytest.raises(SignatureRefused) as caught:
        signer.check_creation(query, now=now)
    return str(caught.value)


def test_a_creation_url_says_what_is_allowed() -> None:
    query = SIGNER.for_creation(
        expires_at=LATER, owner="änn & co=1", max_size=5, profile="p", key="order 17"
    )
    assert is_signed(query)
    assert SIGNER.check_creation(query, now=NOW) == Grant(
        owner="änn & co=1", max_size=5, profile="p", creation_key="order 17"
    )


def test_without_an_owner_uploads_belong_to_the_url() -> None:
    one, two = (SIGNER.for_creation(expires_at=LATER + timedelta(seconds=more)) for more in (0, 1))
    owners = [SIGNER.check_creation(query, now=NOW).owner for query in (one, one, two)]
    assert owners[0] == owners[1] != owners[2]
    assert owners[0] is not None
    assert owners[0].removeprefix("url:") not in one


def test_it_expires() -> None:
    query = SIGNER.for_creation(expires_at=LATER)
    assert SIGNER.check_creation(query, now=LATER - timedelta(seconds=1))
    assert refused(query, now=LATER) == "the signed URL has expired"


def test_an_uploads_url_is_for_that_upload() -> None:
    query = SIGNER.for_upload("n~one", expires_at=LATER)
    SIGNER.check_upload(query, "n~one", now=NOW)
    for wrong in ("n~two", "", "n~on"):
        with pytest.raises(SignatureRefused):
            SIGNER.check_upload(query, wrong, now=NOW)
    with pytest.raises(SignatureRefused):
        SIGNER.check_upload(query, "n~one", now=LATER)


def test_creating_and_uploading_are_not_confused() -> None:
    refused(SIGNER.for_upload("", expires_at=LATER))
    query = SIGNER.for_creation(expires_at=LATER)
    with pytest.raises(SignatureRefused):
        SIGNER.check_upload(query, "", now=NOW)


def test_secrets_are_rotated() -> None:
    old = UrlSigner([OLD]).for_creation(expires_at=LATER)
    assert UrlSigner([NEW, OLD]).check_creation(old, now=NOW)
    refused(old)
    new = UrlSigner([NEW, OLD]).for_creation(expires_at=LATER)
    assert SIGNER.check_creation(new, now=NOW)


def test_parameters_of_other_names_mean_nothing() -> None:
    query = SIGNER.for_creation(expires_at=LATER, owner="ann")
    assert SIGNER.check_creation(f"utm=x&{query}&utm=y&", now=NOW).owner == "ann"


@pytest.mark.parametrize("name", ["exp", "owner", "max_size", "profile", "key", "sig"])
def test_nothing_is_changed_added_removed_or_given_twice(name: str) -> None:
    full = SIGNER.for_creation(expires_at=LATER, owner="o", max_size=1, profile="p", key="k")
    pairs = dict(parse_qsl(full))
    refused(urlencode(pairs | {name: pairs[name] + "0"}))
    refused(urlencode({other: value for other, value in pairs.items() if other != name}))
    refused(f"{full}&{name}={pairs[name]}")
    refused(f"{name}=&{full}")
    bare = SIGNER.for_creation(expires_at=LATER)
    if name not in bare:
        refused(f"{bare}&{name}=1")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "sig=",
        "sig",
        "sig=x",
        "exp=9999999999&sig=ä",
        "exp=-1&sig=x",
        "exp=٣&sig=x",
        f"exp={'9' * 5000}&sig=x",
        "exp=1e9&sig=x",
        "sig=x&" * 500,
        "a=" + "x" * MAX_QUERY_LENGTH + "&sig=x",
        "%",
        "sig=%ff%00&exp=1",
    ],
)
def test_what_is_no_signed_url(query: str) -> None:
    refused(query)


@given(st.text(max_size=200))
def test_no_text_is_a_signed_url_by_chance(text: str) -> None:
    refused(text)
    refused(f"sig={text}&exp=9999999999")


def test_secrets_must_be_long() -> None:
    for wrong in ([], ["short"], [NEW, "short"], [NEW] * 9):
        with pytest.raises(ValueError, match="secret"):
            UrlSigner(wrong)


def test_what_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="owner"):
        SIGNER.for_creation(expires_at=LATER, owner="")
    with pytest.raises(ValueError, match="key"):
        SIGNER.for_creation(expires_at=LATER, key="k" * 256)
    with pytest.raises(ValueError, match="max_size"):
        SIGNER.for_creation(expires_at=LATER, max_size=-1)


def test_a_creation_repeated_late_is_told_a_url_that_is_good() -> None:
    """The one it was told first has ended, or will soon."""
    settings = Settings.model_validate(
        {"auth": "signed", "url_secrets": [NEW], "url_lifetime": "1h", "s3_bucket": "b"}
    )
    signer = UrlSigner([NEW])
    sign = upload_urls(settings, signer)
    now = datetime.now(UTC)
    recent = now - timedelta(minutes=29)
    assert sign("n~a", recent) == sign("n~a", recent)
    for age in (timedelta(minutes=31), timedelta(hours=1), timedelta(days=9)):
        query = sign("n~a", now - age)
        signer.check_upload(query, "n~a", now=now + timedelta(minutes=59))
        with pytest.raises(SignatureRefused):
            signer.check_upload(query, "n~a", now=now + timedelta(minutes=62))
