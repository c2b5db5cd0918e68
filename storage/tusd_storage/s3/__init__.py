"""The object store on Amazon S3 and its relatives. Public: `S3Config` and `S3Store`."""

from tusd_storage.s3.config import Observe, S3Config
from tusd_storage.s3.store import S3Store

__all__ = ["Observe", "S3Config", "S3Store"]
