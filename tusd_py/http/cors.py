"""Cross-origin requests: which pages may upload, and what they may read (Fetch, CORS protocol)."""

from collections.abc import Collection

from tusd_py.protocol.headers import EXPOSED_HEADERS, REQUEST_HEADERS

METHODS = "POST, GET, HEAD, PATCH, DELETE, OPTIONS"
_MAX_AGE_S = 86_400
_MAX_REQUESTED = 2_048


class Cors:
    """Headers for answers to requests with an `Origin`."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)
        self._exposed = ", ".join(EXPOSED_HEADERS)

    def headers(self, origin: str | None) -> dict[str, str]:
        """For any answer; empty when the origin may not read it."""
        if origin is None or not self._origins:
            return {}
        if self._any:
            return {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Expose-Headers": self._exposed,
            }
        if origin not in self._origins:
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": self._exposed,
            "Vary": "Origin",
        }

    def exposing(self, headers: dict[str, str], names: Collection[str]) -> dict[str, str]:
        """The headers of an answer, with more names that a page may read."""
        known = headers.get("Access-Control-Expose-Headers")
        if known is None or not names:
            return headers
        return headers | {"Access-Control-Expose-Headers": ", ".join([known, *sorted(names)])}

    def preflight(self, origin: str | None, requested: str | None) -> dict[str, str]:
        """For the answer to OPTIONS. Headers a client asks for are allowed beside the known."""
        headers = self.headers(origin)
        if "Access-Control-Allow-Origin" in headers:
            headers["Access-Control-Allow-Methods"] = METHODS
            headers["Access-Control-Allow-Headers"] = _allowed(requested)
            headers["Access-Control-Max-Age"] = str(_MAX_AGE_S)
        return headers


def _allowed(requested: str | None) -> str:
    names = {name.lower(): name for name in REQUEST_HEADERS}
    for name in (requested or "")[:_MAX_REQUESTED].split(","):
        clean = name.strip()
        if clean and clean.isascii() and all(c.isalnum() or c in "-_" for c in clean):
            names.setdefault(clean.lower(), clean)
    return ", ".join(names.values())
