"""AWS Signature Version 4 for a request with an unsigned payload.

Pure: credentials and the time are handed in. What botocore's signer makes of the same request is
the same to the byte, for a tenth of its work. (AWS: Authenticating Requests, Authorization header.)
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"


def sign(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    credentials: ReadOnlyCredentials,
    region: str,
    service: str,
    now: datetime,
) -> dict[str, str]:
    """`headers` with those of the signature, all of them signed.

    `path` and the values of `query` are percent-encoded as they are sent; `headers` holds Host;
    `now` is UTC.
    """
    moment = now.isoformat(timespec="seconds")[:19].replace("-", "").replace(":", "") + "Z"
    signed = {**headers, "X-Amz-Content-SHA256": _UNSIGNED, "X-Amz-Date": moment}
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    canonical = sorted((name.lower(), " ".join(value.split())) for name, value in signed.items())
    names = ";".join(name for name, _ in canonical)
    request = "\n".join(
        (
            method,
            path,
            "&".join(f"{name}={query[name]}" for name in sorted(query)),
            *(f"{name}:{value}" for name, value in canonical),
            "",
            names,
            _UNSIGNED,
        )
    )
    date = moment[:8]
    scope = f"{date}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = _key(credentials.secret_key, date, region, service)
    mac = key.copy()
    mac.update(f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}".encode())
    signature = mac.hexdigest()
    signed["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return signed


@functools.lru_cache(maxsize=16)
def _key(secret: str, date: str, region: str, service: str) -> hmac.HMAC:
    """The same for a whole day; to be copied. Nothing that a signature takes gives up the GIL."""
    key = f"AWS4{secret}".encode()
    for step in (date, region, service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")
