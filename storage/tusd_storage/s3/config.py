"""What the S3 adapter can be told. Pure data; reads no environment and opens nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Checksum = Literal["crc32", "md5", "none"]
AddressingStyle = Literal["auto", "path", "virtual"]

Observe = Callable[[str, str, float], None]
"""Called once for each HTTP request with (operation, outcome, seconds), from any thread.

Operations have S3's names. Outcomes: `ok`, `stale` (a pooled connection had been closed: sent again
at once), `aborted` (the caller was cancelled), `missing` (404), `throttled`, `unavailable`,
`rejected`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """Where the store is and how to treat it. Credentials come with the boto3 session."""

    endpoint: str | None = None
    """Base URL of an S3-compatible store; None for what botocore finds (AWS)."""
    public_endpoint: str | None = None
    """Base URL that clients reach, for presigned URLs; None when it is the same."""
    region: str | None = None
    """None for what the boto3 session says."""
    addressing_style: AddressingStyle | None = None
    """None: `path` with an endpoint of your own, else `virtual`."""
    checksum: Checksum = "crc32"
    """What the store verifies bodies by. `md5` for stores that do not know `x-amz-checksum-*`."""
    conditional_writes: bool = True
    """The store honours `If-None-Match: *` on a PutObject: a signed PUT then never replaces."""
    max_connections: int = 16
    """Parts and objects that are sent at the same time."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    """Longest silence of a connection, while sending as well as while waiting for the answer."""
    assembly_timeout_s: float = 300.0
    """The same for UploadPartCopy and CompleteMultipartUpload, in which a store may copy gigabytes
    before it says a word; never less than `read_timeout_s`."""
    deadline_s: float = 30.0
    """No try is started later than this after the first one."""
    verify: bool | str | None = None
    """TLS: a CA bundle's path, False to trust anybody; None for botocore's own rule
    (`AWS_CA_BUNDLE`, then the bundle it brings)."""
