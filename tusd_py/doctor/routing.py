"""The load balancer: do all requests of one upload reach the node that has its tail? Blocking.

Asks as a client would: one upload through the public address, a byte at a time, each request on a
new connection. A byte that reaches another node is refused there, or moves the offset back.
"""

from collections.abc import Callable, Mapping
from urllib.parse import urljoin

from tusd_py.doctor.findings import Finding, broken, ok, skipped
from tusd_py.doctor.web import NoAnswer, WebAnswer, ask

CHECK = "public.affinity"
BYTES = 8
"""With two nodes and no affinity, all of them reach the same one once in 128 times."""

_TUS = {"Tus-Resumable": "1.0.0"}
_BODY = {"Content-Type": "application/offset+octet-stream"}
_MEND = (
    "Route by the upload's URL: the part before `~` in the last segment names the node."
    " See deploy/ for nginx, HAProxy and Traefik."
)
_REACH = "Make TUSD_PUBLIC_URL lead to this server, through the load balancer."

Ask = Callable[..., WebAnswer]


def examine(public_url: str | None, base_path: str, *, ask: Ask = ask) -> Finding:
    """One check."""
    if public_url is None:
        return skipped(CHECK, "public_url is not set: there is no public address to ask.")
    try:
        return _upload(public_url.rstrip("/") + base_path, ask)
    except NoAnswer as error:
        return broken(CHECK, f"The public address does not answer ({error}).", _REACH)


def _upload(endpoint: str, ask: Ask) -> Finding:
    created = ask("POST", endpoint, _TUS | {"Upload-Length": str(BYTES + 1)})
    if created.status in {401, 403}:
        return skipped(CHECK, "Uploads need credentials here, which this check has not.")
    if created.status != 201 or "location" not in created.headers:
        what = f"An upload cannot be created at the public address: it answers {created.status}."
        return broken(CHECK, what, _REACH)
    url = urljoin(endpoint, created.headers["location"])
    try:
        return _bytes(url, ask)
    finally:
        ask("DELETE", url, _TUS)


def _bytes(url: str, ask: Ask) -> Finding:
    for offset in range(BYTES):
        at = {"Upload-Offset": str(offset)}
        answer = ask("PATCH", url, _TUS | _BODY | at, b"x")
        if answer.status in {404, 405, 501}:
            what = f"PATCH does not come through to the upload: the answer is {answer.status}."
            return broken(CHECK, what, _REACH)
        if answer.status != 204 or not _moved(answer.headers, offset):
            what = (
                f"Byte {offset + 1} of an upload did not reach the node with the bytes before it:"
                f" the answer was {answer.status}."
            )
            return broken(CHECK, what, _MEND)
    return ok(CHECK, f"{BYTES} requests of one upload, on as many connections, met its tail.")


def _moved(headers: Mapping[str, str], offset: int) -> bool:
    return headers.get("upload-offset") == str(offset + 1)
