"""boto3 alone: the bytes of a workload as multipart uploads, with no server in between.

Arguments: number of uploads, all at once; size of each.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from boto_client import BUCKET, CLIENT, PART_SIZE

BLOCK = os.urandom(PART_SIZE)


def upload(number: int, size: int) -> None:
    """One multipart upload, part after part."""
    names = {"Bucket": BUCKET, "Key": f"bare-{number}"}
    upload_id = CLIENT.create_multipart_upload(**names)["UploadId"]
    parts = []
    for at in range(0, size, PART_SIZE):
        body = BLOCK[: min(PART_SIZE, size - at)]
        sent = CLIENT.upload_part(**names, UploadId=upload_id, PartNumber=len(parts) + 1, Body=body)
        parts.append({"ETag": sent["ETag"], "PartNumber": len(parts) + 1})
    CLIENT.complete_multipart_upload(**names, UploadId=upload_id, MultipartUpload={"Parts": parts})


if __name__ == "__main__":
    count, length = map(int, sys.argv[1:])
    begun = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda number: upload(number, length), range(count)))
    print(time.perf_counter() - begun)
