"""Signatures as Standard Webhooks computes them."""

from datetime import UTC, datetime

import pytest

from tusd_py.hooks.signing import Signer, key_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = datetime.fromtimestamp(1614265330, UTC)
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""The test vector of the reference libraries."""


def test_the_test_vector() -> None:
    assert Signer([SECRET]).headers(ID, AT, BODY) == {
        "webhook-id": ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


def test_several_secrets_sign_side_by_side() -> None:
    other = "whsec_" + "QUJD" * 8
    signatures = Signer([other, SECRET]).headers(ID, AT, BODY)["webhook-signature"].split(" ")
    assert len(signatures) == 2
    assert signatures[1] == SIGNATURE != signatures[0]


@pytest.mark.parametrize(
    "change",
    [
        {"message_id": "msg_other"},
        {"at": datetime.fromtimestamp(1614265331, UTC)},
        {"body": BODY + b" "},
    ],
)
def test_everything_is_signed(change: dict[str, object]) -> None:
    given: dict[str, object] = {"message_id": ID, "at": AT, "body": BODY} | change
    assert Signer([SECRET]).headers(**given)["webhook-signature"] != SIGNATURE  # type: ignore[arg-type]


def test_without_a_secret_there_is_no_signature() -> None:
    assert set(Signer([]).headers(ID, AT, BODY)) == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!!!",
        "whsec_QUJD",
        SECRET.removeprefix("whsec_"),
        "whsec_" + "QUJD" * 40,
    ],
)
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        key_of(secret)
