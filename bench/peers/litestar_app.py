"""litestar-tus with its S3 backend."""

from boto_client import BUCKET, CLIENT, PART_SIZE
from litestar import Litestar
from litestar_tus import TUSConfig, TUSPlugin
from litestar_tus.backends.s3 import S3StorageBackend

backend = S3StorageBackend(client=CLIENT, bucket=BUCKET, part_size=PART_SIZE)
app = Litestar(
    plugins=[TUSPlugin(TUSConfig(storage_backend=backend, path_prefix="/files"))],
    request_max_body_size=None,
)
