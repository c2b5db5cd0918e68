"""tuspyserver with its S3 storage."""

from boto_client import BUCKET, CLIENT, PART_SIZE
from fastapi import FastAPI
from tuspyserver import create_tus_router
from tuspyserver.storage.s3 import S3Storage

app = FastAPI()
app.include_router(
    create_tus_router(
        prefix="files", storage=S3Storage(BUCKET, CLIENT, part_size=PART_SIZE), files_dir="."
    )
)
