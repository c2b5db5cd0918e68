"""What tus leaves open, in stories: the address of an upload, and CORS."""

import pytest

from tests.blackbox.conformance import DATA, GIVEN, LOCATION, UNKNOWN, Stories, Story
from tests.blackbox.conftest import Site
from tests.support.wire import Answer

story = Stories()


@story("Creation, Location", "location-ignores-untrusted-proxies")
def _(site: Site) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    answer = site.tus.post({"Upload-Length": "1", "Host": "other.example"} | forwarded)
    assert LOCATION.fullmatch(answer["Location"]), answer


@story("Creation, Location", "location-from-trusted-proxies", "streaming")
def _(site: Site) -> None:
    def location(**forwarded: str) -> str:
        headers = {name.replace("_", "-"): text for name, text in forwarded.items()}
        path = site.tus.post({"Upload-Length": "1"} | headers)["Location"]
        return path.rpartition("/")[0]

    proto, host = "https", "up.example.com"
    assert location(X_Forwarded_Proto=proto, X_Forwarded_Host=host) == f"https://{host}/files"
    assert location(X_Forwarded_Proto=proto, Host=host) == f"https://{host}/files"
    assert location(X_Forwarded_Proto="https, http", X_Forwarded_Host=f"{host}, b") == (
        f"https://{host}/files"
    )
    assert location() == "/files"
    assert location(X_Forwarded_Proto="javascript", X_Forwarded_Host=host) == "/files"
    assert location(X_Forwarded_Proto=proto, X_Forwarded_Host="a/b?c") == "/files"


@story("Creation, Location", "location-from-the-public-url", "hasty")
def _(site: Site) -> None:
    answer = site.tus.post({"Upload-Length": "1", "X-Forwarded-Host": "evil.example"})
    assert answer["Location"].startswith("https://uploads.example.com/a/b/")


EXPOSED = {
    *("location", "upload-offset", "upload-length", "upload-defer-length", "upload-metadata"),
    *("upload-expires", "upload-concat", "tus-version", "tus-resumable", "tus-max-size"),
    *("tus-extension", "tus-checksum-algorithm"),
}
ASKED = {
    *("tus-resumable", "upload-length", "upload-offset", "upload-metadata", "content-type"),
    *("upload-defer-length", "upload-concat", "upload-checksum", "x-http-method-override"),
}


def _names(answer: Answer, header: str) -> set[str]:
    return {name.strip().lower() for name in answer[header].split(",")}


@story("CORS", "cors-preflight")
def _(site: Site) -> None:
    headers = {
        "Origin": "https://anywhere.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "upload-offset, x-own-header",
    }
    for target in ("/files/", "/files/nobody~x"):
        answer = site.tus.request("OPTIONS", target, headers, version=None)
        assert answer.status == 204 and answer["Access-Control-Allow-Origin"] == "*"
        assert _names(answer, "Access-Control-Allow-Methods") >= {"post", "head", "patch", "delete"}
        assert _names(answer, "Access-Control-Allow-Headers") >= ASKED | {"x-own-header"}
        assert "Access-Control-Allow-Credentials" not in answer


@story("CORS", "cors-exposes-every-header")
def _(site: Site) -> None:
    origin = {"Origin": "https://anywhere.example"}
    url = GIVEN["half"](site)
    for answer in (
        site.tus.post({"Upload-Length": "1"} | origin),
        site.tus.request("HEAD", url, origin),
        site.tus.patch(url, 9, b"x", origin),
        site.tus.patch(url, 4, b"x", origin),
        site.tus.request("HEAD", UNKNOWN, origin),
        site.tus.request("DELETE", url, origin),
        site.tus.get(site.tus.upload(DATA), origin),
    ):
        assert answer["Access-Control-Allow-Origin"] == "*", answer
        assert _names(answer, "Access-Control-Expose-Headers") >= EXPOSED, answer


@story("CORS", "cors-no-origin-no-headers")
def _(site: Site) -> None:
    assert "Access-Control-Allow-Origin" not in site.tus.post({"Upload-Length": "1"})


@story("CORS", "cors-one-origin", "hasty")
def _(site: Site) -> None:
    for method, headers in (("OPTIONS", {}), ("POST", {"Upload-Length": "1"})):
        mine = site.tus.request(method, "", headers | {"Origin": "https://app.example.com"})
        assert mine["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert mine["Access-Control-Allow-Credentials"] == "true" and mine["Vary"] == "Origin"
        other = site.tus.request(method, "", headers | {"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other and other["Vary"] == "Origin"


@pytest.mark.parametrize("told", story, ids=lambda told: told.name)
def test_story(told: Story, request: pytest.FixtureRequest) -> None:
    told.check(request)
