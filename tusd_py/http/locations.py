"""The URL of an upload: a path, or absolute where the operator or a trusted proxy says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import Scope

from tusd_py.protocol.headers import Headers

Network = IPv4Network | IPv6Network


Sign = Callable[[str, datetime | None], str]
"""From an upload's id and the time of its creation (None: now) to its URL's query, which is good
from now on for a while, however long ago that was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it was before the proxies that are trusted."""

    proto: str
    host: str
    client: str
    """Addresses, the client's first, separated by commas."""


class Locations:
    """Builds `Location`, and knows the path below which uploads live."""

    def __init__(
        self,
        base_path: str,
        *,
        public_url: str | None,
        trusted_proxies: Sequence[Network],
        sign: Sign | None = None,
    ) -> None:
        self.base_path = base_path
        self._sign = sign
        self._public_url = public_url.rstrip("/") if public_url else None
        self._trusted = tuple(trusted_proxies)

    def path(self, scope: Scope) -> str:
        """The path below which uploads live, as the client sees it; ends with a slash."""
        root: str = scope.get("root_path", "")
        return root.rstrip("/") + self.base_path

    def known(self, upload_id: str) -> str:
        """The upload's URL without a request to go by: absolute if the public URL is set."""
        return f"{self._public_url or ''}{self.base_path}{upload_id}{self._query(upload_id, None)}"

    @property
    def signs(self) -> bool:
        """Whether URLs of uploads and sessions are signed."""
        return self._sign is not None

    def session(self, scope: Scope, path: str, session_id: str, created_at: datetime) -> str:
        """The URL of a session below `path`, signed as an upload's is."""
        root: str = scope.get("root_path", "")
        return f"{root}{path}/{session_id}{self._query(session_id, created_at)}"

    def location(
        self, scope: Scope, headers: Headers, upload_id: str, created_at: datetime | None = None
    ) -> str:
        """The upload's URL for this client; the same again soon after `created_at`."""
        last = upload_id + self._query(upload_id, created_at)
        if self._public_url is not None:
            return self._public_url + self.base_path + last
        return self._origin(scope, headers) + self.path(scope) + last

    def seen(self, scope: Scope, headers: Headers) -> Seen:
        """What the client did, as far as it can be believed."""
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        proto, host = str(scope.get("scheme", "http")), headers.get("host", "")
        before = headers.get("x-forwarded-for")
        if not (peer and self._is_trusted(peer)):
            return Seen(proto=proto, host=host, client=peer)
        return Seen(
            proto=_first(headers.get("x-forwarded-proto")) or proto,
            host=_first(headers.get("x-forwarded-host")) or host,
            client=f"{before}, {peer}" if before else peer,
        )

    def _query(self, upload_id: str, created_at: datetime | None) -> str:
        return "" if self._sign is None else f"?{self._sign(upload_id, created_at)}"

    def _origin(self, scope: Scope, headers: Headers) -> str:
        """`https://host` when a trusted proxy forwarded the request, else nothing."""
        client = scope.get("client")
        if not self._trusted or not client or not self._is_trusted(client[0]):
            return ""
        scheme = _first(headers.get("x-forwarded-proto"))
        host = _first(headers.get("x-forwarded-host")) or headers.get("host", "")
        if scheme not in {"http", "https"} or not _is_host(host):
            return ""
        return f"{scheme}://{host}"

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _first(value: str | None) -> str:
    return (value or "").partition(",")[0].strip()


def _is_host(text: str) -> bool:
    return bool(text) and all(c.isascii() and (c.isalnum() or c in ".-:[]_") for c in text)
