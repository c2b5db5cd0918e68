"""The S3 client that the Python peers are given: boto3's defaults, path-style."""

import os

import boto3
from botocore.config import Config

BUCKET = os.environ["BENCH_S3_BUCKET"]
PART_SIZE = int(os.environ["BENCH_PART_SIZE"])
CLIENT = boto3.client(
    "s3",
    endpoint_url=os.environ["BENCH_S3_ENDPOINT"],
    config=Config(s3={"addressing_style": "path"}, max_pool_connections=50),
)
