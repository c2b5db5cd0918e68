"""Bearer tokens: what is accepted, and every hostile shape that is not."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.issuer import jwk, key_set, token
from tusd_py.auth.grants import AuthUnavailable, Grant, Unauthorized
from tusd_py.auth.keys import (
    FAILED_RETRY_S,
    RETRY_S,
    STALE_S,
    OneKey,
    RemoteKeys,
    public_key,
    shared_secret,
)
from tusd_py.auth.tokens import MAX_TOKEN_LENGTH, Claims, TokenVerifier

SECRET = "a secret of more than 32 characters, really" * 2
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


class Issuer:
    """A key set that changes and fails when told."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self.text: bytes | None = key_set(*entries)
        self.fetched = 0
        self.now = 1000.0

    async def fetch(self) -> bytes:
        self.fetched += 1
        if self.text is None:
            raise AuthUnavailable("down")
        return self.text

    def keys(self) -> RemoteKeys:
        return RemoteKeys(self.fetch, lifetime_s=600, monotonic=lambda: self.now)


def by_secret(**claims: Any) -> TokenVerifier:
    return TokenVerifier(OneKey(shared_secret(SECRET)), Claims(**claims))


def by_pem() -> TokenVerifier:
    return TokenVerifier(OneKey(public_key(PEM)), Claims())


async def refused(verifier: TokenVerifier, text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await verifier.verify(text)
    assert caught.value.challenge.startswith('Bearer error="invalid_token"')
    assert len(text) < 10 or text not in f"{caught.value}{caught.value.challenge}"
    return str(caught.value)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def by_hand(header: object, claims: object, secret: bytes | None = None) -> str:
    """A token as no library would make it."""
    text = f"{encoded(header)}.{encoded(claims)}"
    signature = b"" if secret is None else hmac.digest(secret, text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


GOOD = {"sub": "ann", "exp": int(time.time()) + 3600}


# -- What is accepted


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_shared_secret(algorithm: str) -> None:
    assert await by_secret().verify(token(SECRET, algorithm)) == Grant(owner="ann")


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256"])
async def test_a_public_key(algorithm: str) -> None:
    assert (await by_pem().verify(token(RSA_KEY, algorithm))).owner == "ann"


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")]
)
async def test_a_key_set(key: Any, algorithm: str) -> None:
    issuer = Issuer(jwk(OTHER_RSA, "other"), jwk(key, "one"))
    verifier = TokenVerifier(issuer.keys(), Claims())
    for _ in range(3):
        assert (await verifier.verify(token(key, algorithm))).owner == "ann"
    assert issuer.fetched == 1


async def test_claims_limit_what_is_allowed() -> None:
    said = token(SECRET, "HS256", max_size=7, profile="pictures")
    assert await by_secret().verify(said) == Grant(owner="ann", max_size=7, profile="pictures")
    named = by_secret(owner="uid", max_size="https://example.com/size", profile="p")
    said = token(
        SECRET, "HS256", uid="ben", **{"https://example.com/size": 0, "p": "x", "max_size": 9}
    )
    assert await named.verify(said) == Grant(owner="ben", max_size=0, profile="x")


async def test_audience_and_issuer() -> None:
    verifier = by_secret(audience=("uploads", "other"), issuer="https://id.example.com")
    good = {"aud": ["x", "uploads"], "iss": "https://id.example.com"}
    assert (await verifier.verify(token(SECRET, "HS256", **good))).owner == "ann"
    for wrong in ({"aud": "x"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None}):
        await refused(verifier, token(SECRET, "HS256", **(good | wrong)))


async def test_a_token_for_an_audience_is_not_for_a_server_without_one() -> None:
    said = await refused(by_secret(), token(SECRET, "HS256", aud="billing"))
    assert said == "the token is for another audience"


async def test_clocks_may_differ_a_little() -> None:
    assert await by_secret(leeway_s=30.0).verify(token(SECRET, "HS256", lifetime_s=-5))
    said = await refused(by_secret(leeway_s=1.0), token(SECRET, "HS256", lifetime_s=-5))
    assert said == "the token has expired"
    early = token(SECRET, "HS256", nbf=int(time.time()) + 100)
    assert await refused(by_secret(), early) == "the token is not valid yet"


# -- What is not


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 7, ["HS256"], {"a": 1}])
async def test_a_token_without_a_signature(alg: object) -> None:
    for secret in (None, SECRET.encode()):
        await refused(by_secret(), by_hand({"alg": alg, "typ": "JWT"}, GOOD, secret))
    await refused(by_pem(), by_hand({"alg": alg}, GOOD))


async def test_a_public_key_is_no_shared_secret() -> None:
    """Algorithm confusion: an HMAC made with the public key everybody knows."""
    for secret in (
        PEM,
        PEM.strip(),
        RSA_KEY.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    ):
        forged = by_hand({"alg": "HS256", "kid": "one"}, GOOD, secret)
        assert "algorithm" in await refused(by_pem(), forged)
        await refused(TokenVerifier(Issuer(jwk(RSA_KEY)).keys(), Claims()), forged)


async def test_a_key_is_used_for_its_own_algorithm_only() -> None:
    issuer = Issuer(jwk(RSA_KEY, "one", alg="RS256"), jwk(EC_KEY, "two"))
    verifier = TokenVerifier(issuer.keys(), Claims())
    assert await verifier.verify(token(RSA_KEY, "RS256"))
    await refused(verifier, token(RSA_KEY, "PS256"))
    await refused(verifier, token(RSA_KEY, "RS256", kid="two"))
    await refused(verifier, token(OTHER_RSA, "RS256"))
    await refused(by_secret(), token(RSA_KEY, "RS256"))


async def test_keys_inside_a_token_are_not_looked_at() -> None:
    """`jwk`, `jku` and `x5u` are the attacker's."""
    header = {"alg": "HS256", "jwk": {"kty": "oct", "k": "YQ"}, "jku": "http://evil.example/"}
    await refused(by_secret(), by_hand(header, GOOD, b"a"))


async def test_extensions_that_must_be_understood_are_refused() -> None:
    header = {"alg": "HS256", "crit": ["b64"], "b64": False}
    await refused(by_secret(), by_hand(header, GOOD, SECRET.encode()))
    header = {"alg": "HS256", "crit": ["unheard-of"], "unheard-of": 1}
    await refused(by_secret(), by_hand(header, GOOD, SECRET.encode()))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "soon"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["ann"]},
        {"sub": "a" * 256},
        {"sub": "ann\nben"},
        {"max_size": "7"},
        {"max_size": -1},
        {"max_size": True},
        {"max_size": 1.5},
        {"profile": 7},
        {"nbf": "x"},
        {"iat": int(time.time()) + 10_000},
    ],
)
async def test_claims_that_make_no_sense(claims: dict[str, object]) -> None:
    said = {name: value for name, value in (GOOD | claims).items() if value is not None}
    await refused(by_secret(), by_hand({"alg": "HS256"}, said, SECRET.encode()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "ä.ö.ü",
        "e30.e30.",
        "e30." * 3000,
        encoded([]) + ".e30.e30",
        encoded("HS256") + ".e30.e30",
        by_hand({"alg": "HS256", "kid": 7}, GOOD, SECRET.encode()),
        by_hand({"alg": "HS256", "kid": "k" * 300}, GOOD, SECRET.encode()),
        by_hand({"alg": "HS256"}, [1], SECRET.encode()),
        by_hand({"alg": "HS256"}, "sub", SECRET.encode()),
        "\x00" * 100,
    ],
)
async def test_what_is_no_token(text: str) -> None:
    await refused(by_secret(), text)


async def test_a_huge_token() -> None:
    huge = token(SECRET, "HS256", more="x" * MAX_TOKEN_LENGTH)
    assert await refused(by_secret(), huge) == "the token is too long"
    deep = base64.urlsafe_b64encode(b"[" * 6000).decode()
    await refused(by_secret(), f"{deep}.{deep[:100]}.x")


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_any_changed_character(at: int) -> None:
    parts = token(SECRET, "HS256").split(".")
    middle = len(parts[at]) // 2
    changed = "A" if parts[at][middle] != "A" else "B"
    parts[at] = parts[at][:middle] + changed + parts[at][middle + 1 :]
    await refused(by_secret(), ".".join(parts))


# -- Keys


def test_weak_and_wrong_keys_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="32"):
        shared_secret("short")
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    private = RSA_KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = weak.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for wrong in (pem, private, b"", b"no key"):
        with pytest.raises(ValueError, match="PEM"):
            public_key(wrong)


async def test_a_key_set_is_read_with_suspicion() -> None:
    secret = {"kty": "oct", "kid": "one", "k": base64.urlsafe_b64encode(b"s" * 40).decode()}
    odd: list[Any] = [{}, 7, None, {"kty": "RSA", "kid": "one", "n": "AQ", "e": "AQ"}]
    issuer = Issuer(secret, jwk(RSA_KEY, "one", use="enc"), *odd, jwk(EC_KEY, "two"))
    verifier = TokenVerifier(issuer.keys(), Claims())
    await refused(verifier, token("s" * 40, "HS256"))
    await refused(verifier, token(RSA_KEY, "RS256"))
    assert await verifier.verify(token(EC_KEY, "ES256", kid="two"))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"keys": 7}', b"[" * 10_000, b"\xff"])
async def test_what_is_no_key_set(text: bytes) -> None:
    issuer = Issuer()
    issuer.text = text
    with pytest.raises(AuthUnavailable):
        await issuer.keys().find("one")


async def test_a_new_key_is_fetched_and_invented_ids_are_not() -> None:
    issuer = Issuer(jwk(RSA_KEY, "one"))
    keys = issuer.keys()
    await keys.find("one")
    for _ in range(50):
        with pytest.raises(Unauthorized):
            await keys.find("invented")
    assert issuer.fetched == 1
    issuer.text = key_set(jwk(RSA_KEY, "one"), jwk(EC_KEY, "two"))
    issuer.now += RETRY_S
    assert await keys.find("two")
    assert issuer.fetched == 2


async def test_keys_are_renewed_and_a_removed_one_is_no_longer_good() -> None:
    issuer = Issuer(jwk(RSA_KEY, "one"), jwk(EC_KEY, "two"))
    keys = issuer.keys()
    await keys.find("one")
    issuer.text = key_set(jwk(EC_KEY, "two"))
    issuer.now += 601
    with pytest.raises(Unauthorized):
        await keys.find("one")
    assert await keys.find("two")


async def test_an_issuer_that_is_down_for_a_while_stops_nobody() -> None:
    issuer = Issuer(jwk(RSA_KEY, "one"))
    keys = issuer.keys()
    await keys.find("one")
    issuer.text = None
    for _ in range(5):
        issuer.now += 700
        assert await keys.find("one")
    with pytest.raises(AuthUnavailable):  # it may well be good: "not now", not "no"
        await keys.find("two")
    issuer.now += STALE_S
    with pytest.raises(AuthUnavailable):
        await keys.find("one")


async def test_without_keys_it_is_tried_again_soon_and_not_too_often() -> None:
    issuer = Issuer(jwk(RSA_KEY, "one"))
    good, issuer.text = issuer.text, None
    keys = issuer.keys()
    for _ in range(10):
        with pytest.raises(AuthUnavailable):
            await keys.find("one")
    assert issuer.fetched == 1
    issuer.text = good
    issuer.now += FAILED_RETRY_S
    assert await keys.find("one")


async def test_a_token_without_key_id_needs_a_set_of_one() -> None:
    one = TokenVerifier(Issuer(jwk(RSA_KEY, None)).keys(), Claims())
    assert await one.verify(token(RSA_KEY, "RS256", kid=None))
    two = TokenVerifier(Issuer(jwk(RSA_KEY, "a"), jwk(OTHER_RSA, "b")).keys(), Claims())
    await refused(two, token(RSA_KEY, "RS256", kid=None))
