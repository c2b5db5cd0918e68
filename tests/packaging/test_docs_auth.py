"""docs/auth.md is true: its settings load, its examples mint what the server accepts."""

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.engines import Engine
from tests.support.pages import page, run_python, run_tus_js
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, TusClient
from tusd_py.auth.keys import OneKey, shared_secret
from tusd_py.auth.signatures import UrlSigner
from tusd_py.auth.tokens import Claims, TokenVerifier
from tusd_py.http.errors import TABLE
from tusd_py.settings import Settings
from tusd_py.settings.sources import load

PAGE = page("auth.md")
SECRET = "the newest secret of at least 32 characters"
DATA = os.urandom(2_500_000)


def example(containing: str) -> dict[str, Any]:
    """What the one Python block with this text defines."""
    names: dict[str, Any] = {}
    exec(PAGE.block("python", containing), names)
    return names


@pytest.mark.parametrize("block", PAGE.blocks("toml"))
def test_the_settings_load(block: str, tmp_path: Path) -> None:
    file = tmp_path / "tusd.toml"
    file.write_text(block)
    assert load(environ={}, config=file).settings.model_fields_set


def test_every_setting_and_code_named_exists() -> None:
    names = set(Settings.model_fields)
    prefixes = ("jwt_", "url_", "forward_", "owner_max", "idempotency_m")
    for word in set(re.findall(r"`([a-z_]+)`", PAGE.text)):
        if word.startswith(prefixes):
            assert word in names, word
    codes = {failure.code for failure in TABLE.values()}
    rows = re.findall(r"(?m)^\| (?:401|403|404|413|422|429|503)[^|]*\|([^|]*)\|", PAGE.text)
    told = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)}
    assert len(told) >= 9 and told <= codes


async def test_the_token_example() -> None:
    names = example("def upload_token")
    verifier = TokenVerifier(OneKey(shared_secret(names["SECRET"])), Claims())
    grant = await verifier.verify(names["upload_token"]("ann"))
    assert (grant.owner, grant.max_size) == ("ann", 5_000_000_000)


# -- The frameworks that mint tokens: what is around the page's lines, and who asks for a token

FASTAPI = """
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Header
from fastapi.testclient import TestClient


@dataclass
class User:
    id: int


def current_user(x_user: Annotated[int, Header()]) -> User:
    return User(x_user)


app = FastAPI()
{example}
token = TestClient(app).get("/upload-token", headers={{"X-User": "7"}}).json()["token"]
"""

DJANGO = """
import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    LOGIN_URL="/login",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of these cookies only",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()
call_command("migrate", verbosity=0)

from django.contrib.auth.models import User
from django.test import Client
from django.urls import path

{example}
urlpatterns = [path("upload-token", token)]
client = Client()
assert client.get("/upload-token").status_code == 302
client.force_login(User.objects.create_user("ann", pk=7))
token = client.get("/upload-token").json()["token"]
"""

UPLOAD = """
from tusclient.client import TusClient

client = TusClient("{endpoint}", headers={{"Authorization": f"Bearer {{token}}"}})
uploader = client.uploader("video.mp4", chunk_size=1_000_000)
uploader.upload()
print(uploader.url)
"""


@pytest.fixture(scope="module")
def server(seaweed: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """It verifies with the secret of the page."""
    settings = {
        "TUSD_S3_PREFIX": seaweed.prefix(),
        "TUSD_AUTH": "jwt",
        "TUSD_JWT_SECRET": example("def upload_token")["SECRET"],
    }
    with ServerProcess(tmp_path_factory.mktemp("auth"), seaweed, extra_env=settings) as running:
        yield running


@pytest.mark.parametrize(
    ("around", "containing"), [(FASTAPI, "@app.get"), (DJANGO, "@login_required")]
)
def test_who_is_logged_in_uploads_with_the_frameworks_token(
    around: str, containing: str, server: ServerProcess, seaweed: Engine, tmp_path: Path
) -> None:
    (tmp_path / "video.mp4").write_bytes(DATA)
    code = PAGE.block("python", "def upload_token")
    code += around.format(example=PAGE.block("python", containing))
    url = run_python(code + UPLOAD.format(endpoint=server.uploads_url), tmp_path).strip()
    bucket = Bucket(seaweed, server.extra_env["TUSD_S3_PREFIX"])
    assert bucket.read(url) == DATA
    bucket.close()
    token = example("def upload_token")["upload_token"]
    client = TusClient(server.uploads_url)
    for user, status in (("7", 200), ("8", 404)):
        headers = {"Authorization": f"Bearer {token(user)}"}
        assert client.request("HEAD", url, headers).status == status


def test_tus_js_client_renews_its_token(
    server: ServerProcess, seaweed: Engine, tmp_path: Path
) -> None:
    (tmp_path / "video.mp4").write_bytes(DATA)
    token = example("def upload_token")["upload_token"]("ann")
    code = PAGE.block("js", "onBeforeRequest")
    code = code.replace("https://uploads.example.com/files/", server.uploads_url)
    url = run_tus_js(
        'import * as tus from "tus-js-client";\n'
        f"const freshToken = async () => {json.dumps(token)};\n"
        f"const upload = {code}"
        'upload.options.onSuccess = () => console.log("done:", upload.url);\n'
        "upload.start();\n",
        tmp_path,
    )
    bucket = Bucket(seaweed, server.extra_env["TUSD_S3_PREFIX"])
    assert bucket.read(url) == DATA
    bucket.close()


def test_the_signing_examples() -> None:
    signer, now = UrlSigner([SECRET]), datetime.now(UTC)
    url = example("for_creation")["url"]
    grant = signer.check_creation(urlsplit(url).query, now=now)
    assert (grant.owner, grant.max_size) == ("ann", 2 * 1024**3)
    by_hand = example("def creation_url")["creation_url"]
    url = by_hand(SECRET, "https://up.example.com/files/", owner="änn & co", max_size=7, key="a b")
    grant = signer.check_creation(urlsplit(url).query, now=now)
    assert (grant.owner, grant.max_size, grant.creation_key) == ("änn & co", 7, "a b")
