"""An upload as tusd leaves it in a bucket, made by hand: `.info`, multipart upload, `.part`.

Source: tusd v2, pkg/s3store/s3store.go. Knows nothing of this project's server.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.config import Config

from tests.support.engines import Engine


class TusdBucket:
    """What a tusd with `-s3-object-prefix` would have in the engine's bucket."""

    def __init__(self, engine: Engine, prefix: str) -> None:
        self.prefix = prefix
        self._bucket = engine.bucket
        self._client = engine.session().client(
            "s3",
            endpoint_url=engine.endpoint,
            config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
        )

    def close(self) -> None:
        """Closes pooled connections."""
        self._client.close()

    def upload(
        self,
        parts: Mapping[int, bytes] | Sequence[bytes],
        *,
        length: int | None,
        rest: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        **info: object,
    ) -> str:
        """An unfinished upload with these parts, by number or from 1 on; its id."""
        object_id = secrets.token_hex(16)
        key = self.prefix + object_id
        opened = self._client.create_multipart_upload(
            Bucket=self._bucket, Key=key, Metadata={"filename": "Men?.pdf"}
        )
        upload_id = f"{object_id}+{opened['UploadId']}"
        numbered = dict(parts) if isinstance(parts, Mapping) else dict(enumerate(parts, 1))
        for number, data in numbered.items():
            self._client.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=opened["UploadId"],
                PartNumber=number,
                Body=data,
            )
        if rest:
            self.put(object_id + ".part", rest)
        described: dict[str, Any] = {
            "ID": upload_id,
            "Size": length or 0,
            "SizeIsDeferred": length is None,
            "Offset": 0,
            "MetaData": dict(metadata or {}),
            "IsPartial": False,
            "IsFinal": False,
            "PartialUploads": None,
            "Storage": {"Bucket": self._bucket, "Key": key, "Type": "s3store"},
        }
        self.put(object_id + ".info", json.dumps(described | info).encode())
        return upload_id

    def finish(self, upload_id: str) -> None:
        """As tusd does with the last byte: the `.info` object stays."""
        object_id, _, multipart_id = upload_id.rpartition("+")
        key = self.prefix + object_id
        listed = self._client.list_parts(Bucket=self._bucket, Key=key, UploadId=multipart_id)
        parts = [
            {"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed["Parts"]
        ]
        self._client.complete_multipart_upload(
            Bucket=self._bucket,
            Key=key,
            UploadId=multipart_id,
            MultipartUpload={"Parts": parts},
        )

    def put(self, name: str, data: bytes) -> None:
        """An object beside the uploads."""
        self._client.put_object(Bucket=self._bucket, Key=self.prefix + name, Body=data)

    def read(self, upload_id: str) -> bytes:
        """The finished object of an upload."""
        key = self.prefix + upload_id.rpartition("+")[0]
        with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
            return bytes(body.read())

    def names(self) -> set[str]:
        """All keys under the prefix, without it."""
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self.prefix)
        return {one["Key"].removeprefix(self.prefix) for one in found.get("Contents", ())}
