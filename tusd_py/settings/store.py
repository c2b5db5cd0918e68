"""The store behind: its bucket, how it is spoken to, and what it allows."""

import re
from typing import Literal

from pydantic import Field, field_validator

from tusd_py.settings.area import ENV_PREFIX, Area, SettingsError
from tusd_py.settings.kinds import Endpoint, Seconds, Size
from tusd_storage.partplan import GIB, MIB, MIN_PART_SIZE, TIB, StoreLimits

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")

AddressingStyle = Literal["auto", "path", "virtual"]
Checksum = Literal["crc32", "md5", "none"]


class StoreSettings(Area):
    """The store."""

    s3_bucket: str = ""
    """Bucket that receives the objects. Required to serve."""
    s3_endpoint: Endpoint | None = None
    """Address of an S3-compatible store. Default: Amazon S3. Credentials come from where every AWS
    tool finds them: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a profile, or the machine."""
    s3_region: str | None = None
    """Region of the bucket. Default: what the AWS environment or profile says."""
    s3_prefix: str = ""
    """Begins the key of every object, as in `incoming/`."""
    s3_public_endpoint: Endpoint | None = None
    """Address of the store as clients see it, for download links. Default: `s3_endpoint`."""
    s3_addressing_style: AddressingStyle = "auto"
    """`path` puts the bucket into the path, `virtual` into the host name."""
    s3_checksum: Checksum = "crc32"
    """Checksum sent with every part. `md5` for older stores that do not know CRC-32."""
    s3_conditional_writes: bool = True
    """Signed PUTs carry `If-None-Match: *`, so that they never replace an object that is there.
    Off for stores that refuse the header (501); `tusd-py doctor` tells."""
    s3_max_connections: int = Field(default=16, ge=1, le=1024)
    """Connections to the store that one process may hold: the number of parts in flight."""
    s3_deadline_s: Seconds = Field(default=30.0, ge=1)
    """Seconds after which a failing request to the store is not tried again."""
    s3_assembly_timeout_s: Seconds = Field(default=300.0, ge=20)
    """Seconds of silence in which the store may copy a part of a final upload, or put the parts of
    an object together. Requests for such an upload get 423 meanwhile."""

    @field_validator("s3_bucket")
    @classmethod
    def _check_bucket(cls, value: str) -> str:
        if value and not _BUCKET.fullmatch(value):
            raise ValueError('write the name of a bucket, as in "my-uploads"')
        return value

    @field_validator("s3_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        strange = not value.isprintable() or {"", ".", ".."} & set(value.split("/")[:-1])
        if value and (strange or len(value) > 512):
            raise ValueError('write a prefix like "incoming/", without a slash in front')
        return value

    def require_bucket(self) -> str:
        """The bucket's name.

        Raises:
            SettingsError: none is set.
        """
        if not self.s3_bucket:
            raise SettingsError(
                f"No bucket is set: write --s3-bucket NAME, {ENV_PREFIX}S3_BUCKET=NAME, or "
                's3_bucket = "NAME" in the configuration file'
            )
        return self.s3_bucket


class SizeSettings(Area):
    """Sizes and limits."""

    part_size: Size = Field(default=MIN_PART_SIZE, ge=MIN_PART_SIZE)
    """Size of a part, at least 5 MiB. It grows by itself for uploads with too many parts."""
    max_part_size: Size = Field(default=5 * GIB, ge=MIN_PART_SIZE)
    """The largest part the store takes."""
    max_parts: int = Field(default=10_000, ge=1, le=10_000)
    """The most parts the store takes for one object."""
    max_object_size: Size = Field(default=5 * TIB, ge=1)
    """The largest object the store takes."""
    equal_parts: bool = False
    """Every part but the last must have the same size (Cloudflare R2)."""
    max_size: Size | None = Field(default=None, ge=0)
    """The longest upload that is accepted. Default: what the store takes."""
    memory_budget: Size = Field(default=72 * MIB, ge=16 * MIB)
    """Bytes of upload bodies that one process holds in memory, over all uploads. When they are
    spent, the server reads slower; larger parts are assembled on disk."""
    max_connections: int = Field(default=4096, ge=1, le=1_000_000)
    """Client connections of one process, less where the system allows too few open files (three
    for each). Beyond them those that ask nothing are closed, and new ones get 503."""

    def store_limits(self) -> StoreLimits:
        """What the store allows, for the part plan."""
        return StoreLimits(
            part_size=self.part_size,
            max_parts=self.max_parts,
            max_part_size=self.max_part_size,
            max_object_size=self.max_object_size,
            equal_parts=self.equal_parts,
        )
