"""Signatures by which a receiver knows that a call came from this server: Standard Webhooks.

https://www.standardwebhooks.com: `webhook-signature` is HMAC-SHA256 over
`{webhook-id}.{webhook-timestamp}.{body}`, one for each secret, so that secrets can be changed.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
MIN_KEY_SIZE, MAX_KEY_SIZE = 16, 64
"""Bytes. Standard Webhooks asks for 24 to 64; a little less is no reason to refuse to start."""


def key_of(secret: str) -> bytes:
    """The key in a secret, `whsec_` and Base64. Raises: ValueError."""
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not MIN_KEY_SIZE <= len(key) <= MAX_KEY_SIZE:
        raise ValueError('write "whsec_" and 24 to 64 random bytes in Base64')
    return key


class Signer:
    """Signs with every secret; without any, it only numbers and dates."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [key_of(secret) for secret in secrets]

    def headers(self, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
        """`webhook-id`, `webhook-timestamp` (seconds) and, with a secret, `webhook-signature`."""
        timestamp = str(int(at.timestamp()))
        headers = {"webhook-id": message_id, "webhook-timestamp": timestamp}
        if self._keys:
            content = b".".join([message_id.encode(), timestamp.encode(), body])
            headers["webhook-signature"] = " ".join(_signature(key, content) for key in self._keys)
        return headers


def _signature(key: bytes, content: bytes) -> str:
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode('ascii')}"
