"""What stands beside a server that authenticates: an issuer of tokens, and a forward-auth server.

Both are real HTTP servers on 127.0.0.1, in threads. What they answer is set by the test.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(slots=True)
class Answer:
    """What the server says next."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request it got."""

    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""


class Beside:
    """A running server; `answer` decides about each request."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Answer] = lambda _: Answer()


@contextmanager
def beside() -> Iterator[Beside]:
    """A server until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = Asked(
                self.command, self.path, {name.lower(): v for name, v in self.headers.items()}
            )
            running.asked.append(asked)
            answer = running.answer(asked)
            time.sleep(answer.delay_s)
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Beside(server)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def jwk(key: PrivateKey, kid: str | None = "one", **more: object) -> dict[str, Any]:
    """The public half as a JSON Web Key."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        entry = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        entry = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        entry = OKPAlgorithm.to_jwk(public, as_dict=True)
    entry.pop("key_ops", None)
    return {**entry, **({} if kid is None else {"kid": kid}), **more}


def key_set(*entries: dict[str, Any]) -> bytes:
    """A JSON Web Key Set."""
    return json.dumps({"keys": entries}).encode()


def token(
    key: PrivateKey | str,
    algorithm: str,
    *,
    kid: str | None = "one",
    lifetime_s: float = 300,
    **claims: object,
) -> str:
    """A signed token of ann's."""
    given = {"sub": "ann", "exp": int(time.time() + lifetime_s)} | claims
    headers = {} if kid is None else {"kid": kid}
    said = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(said, key, algorithm=algorithm, headers=headers)
