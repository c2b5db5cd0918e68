"""Forward-auth: what is asked, and what each answer means; with a real server that is asked."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.support.issuer import Answer, Beside, beside
from tests.support.process import free_port
from tusd_py.auth.client import KEY_SET_SIZE, fetch_keys, make_client
from tusd_py.auth.forward import ForwardAuth, Question
from tusd_py.auth.grants import AuthUnavailable, Forbidden, Grant, Unauthorized

QUESTION = Question(
    method="PATCH",
    uri="/files/a~b?x=1",
    proto="https",
    host="up.example.com",
    client="10.1.2.3, 10.0.0.1",
    headers={"authorization": "Bearer abc", "cookie": "s=1", "x-other": "no"},
)


@pytest.fixture
def server() -> Iterator[Beside]:
    with beside() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(5.0) as made:
        yield made


def asking(url: str, client: httpx.AsyncClient, **options: Any) -> ForwardAuth:
    given: dict[str, Any] = {
        "passed": ("Authorization", "Cookie"),
        "owner_header": "Remote-User",
        "timeout_s": 5.0,
    }
    return ForwardAuth(url, client, **(given | options))


async def test_it_is_asked_as_proxies_ask(server: Beside, client: httpx.AsyncClient) -> None:
    server.answer = lambda _: Answer(200, {"Remote-User": "ann"})
    assert await asking(f"{server.url}/check", client).ask(QUESTION) == Grant(owner="ann")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("GET", "/check")
    expected = {
        "x-forwarded-method": "PATCH",
        "x-forwarded-uri": "/files/a~b?x=1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "up.example.com",
        "x-forwarded-for": "10.1.2.3, 10.0.0.1",
        "authorization": "Bearer abc",
        "cookie": "s=1",
    }
    assert expected.items() <= asked.headers.items()
    assert "x-other" not in asked.headers


async def test_its_answer_may_limit(server: Beside, client: httpx.AsyncClient) -> None:
    headers = {"Remote-User": "ann", "Upload-Max-Size": "7", "Upload-Profile": "p"}
    server.answer = lambda _: Answer(204, headers)
    grant = await asking(server.url, client).ask(QUESTION)
    assert grant == Grant(owner="ann", max_size=7, profile="p")


async def test_its_refusals_are_passed_on(server: Beside, client: httpx.AsyncClient) -> None:
    server.answer = lambda _: Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"secret")
    with pytest.raises(Unauthorized) as caught:
        await asking(server.url, client).ask(QUESTION)
    assert caught.value.challenge == 'Basic realm="x"'
    assert "secret" not in str(caught.value)
    server.answer = lambda _: Answer(403)
    with pytest.raises(Forbidden):
        await asking(server.url, client).ask(QUESTION)


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
async def test_anything_else_is_not_now(
    server: Beside, client: httpx.AsyncClient, status: int
) -> None:
    server.answer = lambda _: Answer(status, {"Remote-User": "ann", "Location": "/login"})
    with pytest.raises(AuthUnavailable):
        await asking(server.url, client).ask(QUESTION)
    assert len(server.asked) == 1  # no redirect is followed


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Remote-User": ""},
        {"Remote-User": "a" * 256},
        {"Remote-User": "ann", "Upload-Max-Size": "-1"},
        {"Remote-User": "ann", "Upload-Max-Size": "lots"},
    ],
)
async def test_an_answer_that_is_not_understood_allows_nothing(
    server: Beside, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    server.answer = lambda _: Answer(200, headers)
    with pytest.raises(AuthUnavailable):
        await asking(server.url, client).ask(QUESTION)


async def test_owners_may_be_done_without(server: Beside, client: httpx.AsyncClient) -> None:
    assert await asking(server.url, client, owner_header=None).ask(QUESTION) == Grant()


async def test_it_has_little_time(server: Beside, client: httpx.AsyncClient) -> None:
    server.answer = lambda _: Answer(200, {"Remote-User": "ann"}, delay_s=2)
    with pytest.raises(AuthUnavailable):
        await asking(server.url, client, timeout_s=0.1).ask(QUESTION)


async def test_its_body_is_not_read_to_the_end(server: Beside, client: httpx.AsyncClient) -> None:
    server.answer = lambda _: Answer(200, {"Remote-User": "ann"}, b"x" * 50_000_000)
    assert await asking(server.url, client).ask(QUESTION) == Grant(owner="ann")


async def test_nobody_there(client: httpx.AsyncClient) -> None:
    with pytest.raises(AuthUnavailable):
        await asking(f"http://127.0.0.1:{free_port()}", client).ask(QUESTION)


async def test_a_key_set_is_fetched_within_bounds(
    server: Beside, client: httpx.AsyncClient
) -> None:
    server.answer = lambda _: Answer(200, {}, b'{"keys": []}')
    assert await fetch_keys(client, server.url) == b'{"keys": []}'
    for wrong in (Answer(200, {}, b"x" * (KEY_SET_SIZE + 1)), Answer(500), Answer(301)):
        server.answer = lambda _, wrong=wrong: wrong  # type: ignore[misc]
        with pytest.raises(AuthUnavailable):
            await fetch_keys(client, server.url)
    with pytest.raises(AuthUnavailable):
        await fetch_keys(client, f"http://127.0.0.1:{free_port()}")
