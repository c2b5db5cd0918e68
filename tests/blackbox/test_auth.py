"""Authentication from outside: a real issuer, a real forward-auth server, real clients."""

import base64
import io
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tusclient.client import TusClient as Tuspy

from tests.blackbox.conftest import Site, open_site
from tests.support.engines import Engine
from tests.support.issuer import Answer, Asked, Beside, beside, jwk, key_set, token
from tests.support.node import NodeProgram, require_node
from tests.support.process import run_program
from tests.support.tus import TusClient, metadata, poll
from tests.support.wire import Wire, chunk, last_chunk, request_head
from tusd_storage.partplan import MIB

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OLD, NEW = "an old secret of 32 characters or so", "a new secret of 32 characters or so"
DATA = random.Random(3).randbytes(7 * MIB + 5)
ORIGIN = "https://app.example.com"

Headers = dict[str, str | None]


def bearer(owner: str = "ann", *, lifetime_s: float = 300, **claims: object) -> Headers:
    """The header of somebody with a good token."""
    said = token(KEY, "RS256", sub=owner, aud="uploads", lifetime_s=lifetime_s, **claims)
    return {"Authorization": f"Bearer {said}"}


def code(answer: object) -> str:
    """The stable code of a refusal."""
    body: bytes = answer.body  # type: ignore[attr-defined]
    found = json.loads(body)["code"]
    assert isinstance(found, str)
    return found


@pytest.fixture(scope="module")
def issuer() -> Iterator[Beside]:
    with beside() as running:
        running.answer = lambda _: Answer(200, {}, key_set(jwk(KEY)))
        yield running


@pytest.fixture(scope="module")
def site(
    seaweed: Engine, issuer: Beside, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Tokens, and signed URLs beside them."""
    settings = {
        "TUSD_AUTH": "jwt,signed",
        "TUSD_JWT_JWKS_URL": f"{issuer.url}/keys",
        "TUSD_JWT_AUDIENCE": "uploads",
        "TUSD_JWT_LEEWAY": "0",
        "TUSD_URL_SECRETS": f"{NEW},{OLD}",
        "TUSD_LOG_LEVEL": "debug",
        "TUSD_OWNER_MAX_UPLOADS": "20",
        "TUSD_IDEMPOTENCY_METADATA": "fingerprint",
        "TUSD_PROFILES": '{"pictures": {"prefix": "pics/", "content_types": "image/*"}}',
    }
    for running in open_site(seaweed, tmp_path_factory, settings):
        yield running
        log = running.server.log()
        assert "sig=" not in log and "eyJ" not in log and NEW not in log


def bare(url: str) -> str:
    """An upload's URL without its signature."""
    return url.partition("?")[0]


# -- Tokens


def test_a_fingerprint_is_its_owners_key(site: Site) -> None:
    def made(owner: str, fingerprint: str) -> str:
        pairs = metadata({"fingerprint": fingerprint, "filename": "a"})
        headers = {"Upload-Length": "5", "Upload-Metadata": pairs} | bearer(owner)
        answer = site.tus.post(headers)
        assert answer.status == 201
        return bare(answer["Location"])

    one = made("emil", "abc")
    assert made("emil", "abc") == one
    assert len({one, made("emil", "abd"), made("fritz", "abc")}) == 3


def test_without_a_token_nothing_is_created_and_browsers_see_why(site: Site) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer x.y.z"}):
        answer = site.tus.post({"Upload-Length": "5", "Origin": ORIGIN} | headers)
        assert answer.status == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert "WWW-Authenticate" in answer["Access-Control-Expose-Headers"]
        assert code(answer) == "unauthorized"
    expired = site.tus.post({"Upload-Length": "5"} | bearer(lifetime_s=-5))
    assert expired.status == 401 and b"expired" in expired.body


def test_a_preflight_needs_none_and_allows_what_is_needed(site: Site) -> None:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Headers": "authorization,idempotency-key"}
    answer = site.tus.request("OPTIONS", "", headers)
    assert answer.status == 204
    allowed = answer["Access-Control-Allow-Headers"].lower()
    assert "authorization" in allowed and "idempotency-key" in allowed


def test_an_upload_belongs_to_who_created_it(site: Site) -> None:
    ann, ben = bearer("ann"), bearer("ben")
    url = bare(site.tus.create(5, ann))
    assert site.tus.request("HEAD", url, ann).status == 200
    for method in ("HEAD", "PATCH", "DELETE", "GET"):
        more = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        body = b"12345" if method == "PATCH" else None
        assert site.tus.request(method, url, ben | more, body).status == 404, method
        assert site.tus.request(method, url, more, body).status == 401, method
    assert site.tus.patch(url, 0, b"12345", ann).status == 204
    assert site.bucket.read(url) == b"12345"
    assert site.tus.request("GET", url, ben).status == 404


def test_other_peoples_partial_uploads_are_not_concatenated(site: Site) -> None:
    partial = {"Upload-Concat": "partial"}
    url = site.tus.create(3, bearer("ann") | partial, body=b"abc")
    stolen = site.tus.concatenate([bare(url)], bearer("ben"))
    assert (stolen.status, code(stolen)) == (400, "not_concatenable")
    made = site.tus.concatenate([url], bearer("ann"))
    assert made.status == 201
    assert site.bucket.read(bare(site.tus.location(made))) == b"abc"


def test_a_claim_limits_the_size(site: Site) -> None:
    small = bearer(max_size=10)
    assert site.tus.post({"Upload-Length": "10"} | small).status == 201
    for headers, body in (
        ({"Upload-Length": "11"}, None),
        ({"Upload-Defer-Length": "1"}, b"x" * 11),
        ({"Upload-Length": "11"}, b"x" * 11),
    ):
        answer = site.tus.post(headers | small, body)
        assert answer.status == 413, answer


def test_a_limit_stays_with_an_upload_whose_length_comes_later(site: Site) -> None:
    url = bare(site.tus.create(None, bearer(max_size=10)))
    unlimited = bearer()
    assert site.tus.patch(url, 0, b"x" * 8, unlimited).status == 204
    assert site.tus.patch(url, 8, b"x" * 3, unlimited).status == 413
    assert site.tus.patch(url, 8, b"", unlimited | {"Upload-Length": "11"}).status == 413
    chunked = site.tus.patch(url, 8, iter([b"x", b"x", b"x"]), unlimited)
    assert chunked.status == 413
    assert int(site.tus.request("HEAD", url, unlimited)["Upload-Offset"]) <= 10
    assert site.tus.request("DELETE", url, unlimited).status == 204


def test_a_claim_chooses_the_profile(site: Site) -> None:
    pictures = bearer(profile="pictures")
    kind = {"Upload-Length": "5", "Upload-Metadata": metadata({"filetype": "text/plain"})}
    refused = site.tus.post(kind | pictures)
    assert (refused.status, code(refused)) == (422, "content_type_refused")
    kind["Upload-Metadata"] = metadata({"filetype": "image/png"})
    made = site.tus.post(kind | pictures, b"12345")
    assert made.status == 201
    shown = site.tus.get(bare(site.tus.location(made)), pictures)
    assert "/pics/" in shown["Location"]
    unknown = site.tus.post(kind | bearer(profile="nowhere"))
    assert (unknown.status, code(unknown)) == (422, "unknown_profile")
    partial = site.tus.create(3, bearer() | {"Upload-Concat": "partial"}, body=b"abc")
    mixed = site.tus.concatenate([bare(partial)], pictures)
    assert (mixed.status, code(mixed)) == (400, "not_concatenable")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_refusals_do_not_wait_for_the_body(site: Site, method: str) -> None:
    url = bare(site.tus.create(MIB, bearer()))
    target = urlsplit(url).path if method == "PATCH" else site.path
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(MIB),
        "Upload-Length" if method == "POST" else "Upload-Offset": str(
            MIB if method == "POST" else 0
        ),
    }
    with Wire(site.server.port) as wire:
        wire.send(request_head(method, target, headers))  # and not a byte more
        assert wire.answer().status == 401
    with Wire(site.server.port) as wire:
        wire.send(request_head(method, target, headers | {"Expect": "100-continue"}))
        answer = wire.answer()
        assert (answer.status, answer.interim) == (401, ())
    assert site.tus.request("HEAD", url, bearer())["Upload-Offset"] == "0"


def test_a_token_that_expires_in_mid_upload_lets_the_request_end(site: Site) -> None:
    url = bare(site.tus.create(6, bearer()))
    short = bearer(lifetime_s=2)
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": "0",
        "Transfer-Encoding": "chunked",
        "Authorization": str(short["Authorization"]),
    }
    with Wire(site.server.port) as wire:
        wire.send(request_head("PATCH", urlsplit(url).path, headers), chunk(b"abc"))
        poll(lambda: site.tus.request("HEAD", url, short).status == 401)
        wire.send(chunk(b"d"), last_chunk())
        assert wire.answer().status == 204
    assert site.tus.patch(url, 4, b"ef", short).status == 401
    assert site.tus.patch(url, 4, b"ef", bearer()).status == 204
    assert site.bucket.read(url) == b"abcdef"


def test_the_key_set_is_fetched_seldom(site: Site, issuer: Beside) -> None:
    site.tus.create(5, bearer("cat"))
    before = len(issuer.asked)
    for n in range(20):
        forged = token(KEY, "RS256", kid=f"invented{n}", aud="uploads")
        answer = site.tus.post({"Upload-Length": "5", "Authorization": f"Bearer {forged}"})
        assert answer.status == 401
    assert len(issuer.asked) <= before + 1


def test_direct_sessions_belong_to_their_owner_too(site: Site) -> None:
    body = json.dumps({"profile": "default", "strategy": "presigned_put"}).encode()
    path = f"{site.server.url}/sessions"
    kind = {"Content-Type": "application/json"}
    assert TusClient(site.server.uploads_url).request("POST", path, kind, body).status == 401
    made = TusClient(site.server.uploads_url).request("POST", path, kind | bearer(), body)
    assert made.status == 201
    signed = f"{site.server.url}{made['Location']}"
    url = bare(signed)
    client = TusClient(site.server.uploads_url)
    assert client.request("GET", url, bearer()).status == 200
    assert client.request("GET", url, bearer("ben")).status == 404
    assert client.request("GET", signed).status == 200
    other = client.request("POST", path, kind | bearer(profile="pictures"), body)
    assert (other.status, code(other)) == (403, "forbidden")
    large = json.dumps({"profile": "default", "strategy": "multipart", "size": 11}).encode()
    refused = client.request("POST", path, kind | bearer(max_size=10), large)
    assert (refused.status, code(refused)) == (413, "size_refused")
    form = client.request("GET", f"{site.server.url}/s3/params?filename=a.txt", bearer(max_size=10))
    policy = json.loads(form.body)["fields"]["policy"]
    assert ["content-length-range", 0, 10] in json.loads(base64.b64decode(policy))["conditions"]


def test_an_owner_may_have_so_many_open(site: Site) -> None:
    many = bearer("many")
    urls = [bare(site.tus.create(5, many)) for _ in range(20)]
    refused = site.tus.post({"Upload-Length": "5"} | many)
    assert (refused.status, code(refused)) == (429, "owner_uploads_reached")
    assert "Retry-After" in refused
    assert site.tus.post({"Upload-Length": "5"} | bearer("few")).status == 201
    assert site.tus.patch(urls[0], 0, b"12345", many).status == 204
    assert site.tus.request("DELETE", urls[1], many).status == 204
    assert site.tus.post({"Upload-Length": "5"} | many).status == 201
    assert site.tus.post({"Upload-Length": "5"} | many).status == 201
    assert site.tus.post({"Upload-Length": "5"} | many).status == 429


# -- Signed URLs


@pytest.fixture
def sign(site: Site, tmp_path: Path) -> Callable[..., str]:
    """Runs `tusd-py sign` as an application's backend would."""

    def run(*arguments: str, secrets: str = NEW) -> str:
        environment = {
            "TUSD_AUTH": "signed",
            "TUSD_URL_SECRETS": secrets,
            "TUSD_PUBLIC_URL": site.server.url,
        }
        done = run_program("sign", *arguments, extra_env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_tuspy_uploads_with_signed_urls(site: Site, sign: Callable[..., str]) -> None:
    uploader = Tuspy(sign("--owner", "dora", "--limit", "8MiB")).uploader(
        file_stream=io.BytesIO(DATA), chunk_size=3 * MIB
    )
    uploader.upload(stop_at=3 * MIB)
    assert "sig=" in uploader.url
    again = Tuspy(site.server.uploads_url).uploader(
        file_stream=io.BytesIO(DATA), url=uploader.url, chunk_size=3 * MIB
    )
    assert again.offset == 3 * MIB
    again.upload()
    assert site.bucket.read(bare(uploader.url)) == DATA
    dora = site.tus.request("HEAD", bare(uploader.url), bearer("dora"))
    assert dora.status == 200  # one owner, whichever way they come


@pytest.mark.parametrize("options", [{}, {"chunkSize": 2 * MIB}, {"parallelUploads": 3}])
def test_tus_js_client_uploads_with_signed_urls(
    site: Site, sign: Callable[..., str], tmp_path: Path, options: dict[str, object]
) -> None:
    require_node()
    file = tmp_path / "film.bin"
    file.write_bytes(DATA)
    given = {"file": str(file), "endpoint": sign(), "retryDelays": [100]}
    with NodeProgram("upload.mjs", given | options) as program:
        url = program.wait_for("success")["url"]
        program.finish()
    assert site.bucket.read(bare(url)) == DATA


def test_a_url_opens_one_upload_and_nothing_else(site: Site, sign: Callable[..., str]) -> None:
    creation = sign()
    made = site.tus.request("POST", creation, {"Upload-Length": "5"})
    assert made.status == 201
    url = site.tus.location(made)
    other = site.tus.location(site.tus.request("POST", creation, {"Upload-Length": "5"}))
    query, others = url.partition("?")[2], other.partition("?")[2]
    assert site.tus.head(url).status == 200
    for wrong in (f"{bare(url)}?{others}", f"{url}0", bare(url) + "?" + query.lower()):
        refused = site.tus.request(
            "PATCH",
            wrong,
            {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
            b"12345",
        )
        assert (refused.status, code(refused)) == (403, "signature_refused")
    assert site.tus.request("DELETE", bare(url)).status == 401
    assert site.tus.request("POST", f"{site.server.uploads_url}?{query}").status in {400, 403}
    assert site.tus.patch(url, 0, b"12345").status == 204
    assert site.tus.delete(url).status == 204


def test_signed_urls_expire_and_are_renewed(site: Site, sign: Callable[..., str]) -> None:
    creation = sign("--lifetime", "1s")
    time.sleep(1.1)  # what is tested is that time passes
    refused = site.tus.request("POST", creation, {"Upload-Length": "5"})
    assert (refused.status, code(refused)) == (403, "signature_refused")
    url = bare(site.tus.create(5, bearer()))
    renewed = sign("--upload", url.rpartition("/")[2])
    assert site.tus.head(renewed).status == 200


def test_a_url_signed_with_an_older_secret_is_good(site: Site, sign: Callable[..., str]) -> None:
    old = sign(secrets=OLD)
    assert site.tus.request("POST", old, {"Upload-Length": "5"}).status == 201
    strange = sign(secrets="a secret that the server does not know")
    assert site.tus.request("POST", strange, {"Upload-Length": "5"}).status == 403


def test_a_url_with_limits(site: Site, sign: Callable[..., str]) -> None:
    small = sign("--limit", "10")
    assert site.tus.request("POST", small, {"Upload-Length": "11"}).status == 413
    one = sign("--key", "order 17")
    made = [site.tus.request("POST", one, {"Upload-Length": "5"}) for _ in range(3)]
    assert {answer.status for answer in made} == {201}
    assert len({answer["Location"] for answer in made}) == 1
    other = site.tus.request("POST", one, {"Upload-Length": "6"})
    assert (other.status, code(other)) == (422, "idempotency_key_reused")
    partial = {"Upload-Length": "5", "Upload-Concat": "partial"}
    assert site.tus.request("POST", one, partial).status == 403


def test_nothing_is_signed_without_a_secret(tmp_path: Path) -> None:
    done = run_program("sign", cwd=tmp_path)
    assert done.returncode == 2 and "url_secrets" in done.stderr
    environment = {"TUSD_AUTH": "signed", "TUSD_URL_SECRETS": NEW}
    for wrong in (["--lifetime", "soon"], ["--limit", "much"], ["--upload", "a/b"]):
        done = run_program("sign", *wrong, extra_env=environment, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.startswith("tusd-py: "), wrong


# -- Forward-auth


@pytest.fixture(scope="module")
def judge() -> Iterator[Beside]:
    def answer(asked: Asked) -> Answer:
        user = asked.headers.get("cookie", "").removeprefix("user=")
        if not user:
            return Answer(401, {"WWW-Authenticate": 'Cookie realm="us"'})
        if user == "banned":
            return Answer(403)
        if user == "broken":
            return Answer(500)
        return Answer(200, {"Remote-User": user, "Upload-Max-Size": "100"})

    with beside() as running:
        running.answer = answer
        yield running


@pytest.fixture(scope="module")
def forwarded(
    seaweed: Engine, judge: Beside, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    settings = {
        "TUSD_AUTH": "forward",
        "TUSD_FORWARD_AUTH_URL": f"{judge.url}/check",
        "TUSD_TRUSTED_PROXIES": "127.0.0.1",
        "TUSD_CORS_ORIGINS": ORIGIN,
    }
    yield from open_site(seaweed, tmp_path_factory, settings)


def user(name: str) -> Headers:
    return {"Cookie": f"user={name}"}


def test_forward_auth_is_asked_about_every_request(forwarded: Site, judge: Beside) -> None:
    tus = forwarded.tus
    proxied = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "up.example.com",
        "X-Forwarded-For": "10.1.2.3",
    }
    url = forwarded.server.url + urlsplit(tus.create(5, user("ann") | proxied)).path
    asked = judge.asked[-1]
    assert asked.path == "/check"
    assert asked.headers["x-forwarded-method"] == "POST"
    assert asked.headers["x-forwarded-uri"] == forwarded.path
    assert asked.headers["x-forwarded-proto"] == "https"
    assert asked.headers["x-forwarded-host"] == "up.example.com"
    assert asked.headers["x-forwarded-for"] == "10.1.2.3, 127.0.0.1"
    overridden = user("ann") | {"X-HTTP-Method-Override": "HEAD"}
    assert tus.request("POST", url, overridden).status == 200
    assert judge.asked[-1].headers["x-forwarded-method"] == "HEAD"
    assert tus.patch(url, 0, b"12345", user("ann")).status == 204
    assert judge.asked[-1].headers["x-forwarded-uri"] == urlsplit(url).path
    assert tus.request("HEAD", url, user("ben")).status == 404


def test_its_refusals_reach_the_client(forwarded: Site) -> None:
    answer = forwarded.tus.post({"Upload-Length": "5", "Origin": ORIGIN})
    assert answer.status == 401
    assert answer["WWW-Authenticate"] == 'Cookie realm="us"'
    assert answer["Access-Control-Allow-Origin"] == ORIGIN
    assert forwarded.tus.post({"Upload-Length": "5"} | user("banned")).status == 403
    assert forwarded.tus.post({"Upload-Length": "101"} | user("ann")).status == 413


def test_when_it_fails_clients_are_told_to_come_back(forwarded: Site) -> None:
    client = TusClient(forwarded.server.uploads_url)
    url = client.create(5, user("ann"))
    answer = client.post({"Upload-Length": "5"} | user("broken"))
    assert (answer.status, code(answer)) == (503, "auth_unavailable")
    assert "Retry-After" in answer
    # 5xx on HEAD makes tus-js-client forget the upload.
    assert client.request("HEAD", url, user("broken")).status == 423
    assert client.request("HEAD", url, user("ann")).status == 200


# -- None


def test_a_server_open_to_everybody_says_so(
    seaweed: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for host, said in (("0.0.0.0", True), ("127.0.0.1", False)):
        for running in open_site(seaweed, tmp_path_factory, {"TUSD_HOST": host}):
            assert ("no_authentication" in running.server.log()) is said
