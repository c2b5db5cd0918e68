"""docs/auth.md is true: its settings load, its examples mint what the server accepts."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.process import ROOT
from tusd_py.auth.keys import OneKey, shared_secret
from tusd_py.auth.signatures import UrlSigner
from tusd_py.auth.tokens import Claims, TokenVerifier
from tusd_py.http.errors import TABLE
from tusd_py.settings import Settings
from tusd_py.settings.sources import load

PAGE = (ROOT / "docs" / "auth.md").read_text()
SECRET = "the newest secret of at least 32 characters"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def example(containing: str) -> dict[str, Any]:
    """What the one Python block with this text defines."""
    (code,) = [code for code in blocks("python") if containing in code]
    names: dict[str, Any] = {}
    exec(code, names)
    return names


@pytest.mark.parametrize("block", blocks("toml"))
def test_the_settings_load(block: str, tmp_path: Path) -> None:
    file = tmp_path / "tusd.toml"
    file.write_text(block)
    assert load(environ={}, config=file).settings.model_fields_set


def test_every_setting_and_code_named_exists() -> None:
    names = set(Settings.model_fields)
    prefixes = ("jwt_", "url_", "forward_", "owner_max", "idempotency_m")
    for word in set(re.findall(r"`([a-z_]+)`", PAGE)):
        if word.startswith(prefixes):
            assert word in names, word
    codes = {failure.code for failure in TABLE.values()}
    rows = re.findall(r"(?m)^\| (?:401|403|404|413|422|429|503)[^|]*\|([^|]*)\|", PAGE)
    told = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)}
    assert len(told) >= 9 and told <= codes


async def test_the_token_example() -> None:
    names = example("def upload_token")
    verifier = TokenVerifier(OneKey(shared_secret(names["SECRET"])), Claims())
    grant = await verifier.verify(names["upload_token"]("ann"))
    assert (grant.owner, grant.max_size) == ("ann", 5_000_000_000)


def test_the_framework_examples_are_python() -> None:
    for text in ("@app.get", "@login_required"):
        (code,) = [code for code in blocks("python") if text in code]
        compile(code, text, "exec")


def test_the_signing_examples() -> None:
    signer, now = UrlSigner([SECRET]), datetime.now(UTC)
    url = example("for_creation")["url"]
    grant = signer.check_creation(urlsplit(url).query, now=now)
    assert (grant.owner, grant.max_size) == ("ann", 2 * 1024**3)
    by_hand = example("def creation_url")["creation_url"]
    url = by_hand(SECRET, "https://up.example.com/files/", owner="änn & co", max_size=7, key="a b")
    grant = signer.check_creation(urlsplit(url).query, now=now)
    assert (grant.owner, grant.max_size, grant.creation_key) == ("änn & co", 7, "a b")
