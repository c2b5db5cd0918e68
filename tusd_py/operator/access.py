"""The operator's token, and the sign-in that stands for it in a browser's cookie. Pure.

The cookie is no copy of the token: it is an end time and its HMAC under a key made from the token.
It ends by itself, is good on every process and node, and a new token ends all of them.
"""

import hashlib
import hmac

COOKIE = "tusd_operator"
LASTS_S = 12 * 3600

_PURPOSE = b"tusd-py operator sign-in"


class Token:
    """Compares in constant time; keeps only digests."""

    def __init__(self, token: str) -> None:
        raw = token.encode()
        self._digest = hashlib.sha256(raw).digest()
        self._key = hmac.digest(raw, _PURPOSE, "sha256")

    def matches(self, given: str) -> bool:
        """Whether this is the token."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(digest, self._digest)

    def sign_in(self, now_s: float) -> str:
        """A cookie's value, good for LASTS_S."""
        until = f"{int(now_s) + LASTS_S:x}"
        return f"{until}.{self._mac(until)}"

    def is_signed_in(self, cookie: str, now_s: float) -> bool:
        """Whether this is a value of `sign_in` that has not ended."""
        until, _, mac = cookie.partition(".")
        given = mac.encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._mac(until).encode()):
            return False
        return int(until, 16) > now_s

    def _mac(self, until: str) -> str:
        return hmac.new(
            self._key, until.encode("utf-8", "surrogateescape"), hashlib.sha256
        ).hexdigest()
