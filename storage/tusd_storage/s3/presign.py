"""Requests that a client may send to the store by itself, signed with SigV4 in their query.

Owns what each signature binds. Knows nothing of sending; makes no request.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tusd_storage.ports import Presigned
from tusd_storage.ports.direct import PresignedForm
from tusd_storage.records import ObjectSpec
from tusd_storage.s3 import fields

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Presigner:
    """Signs with a client of the endpoint that the outside reaches. Blocks only for credentials."""

    def __init__(self, client: "S3Client", *, conditional_writes: bool) -> None:
        self._client = client
        self._once = {"If-None-Match": "*"} if conditional_writes else {}

    def get(
        self,
        bucket: str,
        key: str,
        *,
        expires_in_s: int,
        content_disposition: str | None,
        content_type: str | None,
    ) -> str:
        """A GET; the two are what the store will answer with instead of what it holds."""
        overrides = {
            "ResponseContentDisposition": content_disposition,
            "ResponseContentType": content_type,
        }
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": bucket, "Key": key, **_present(overrides)},
            ExpiresIn=expires_in_s,
            HttpMethod="GET",
        )

    def put(self, spec: ObjectSpec, *, expires_in_s: int, content_length: int | None) -> Presigned:
        """A PUT of the object. The client must send the returned headers as they are.

        `If-None-Match: *` among them (S3, conditional writes): once there is an object, 412.
        """
        headers = fields.headers(spec) | self._once
        url = self._client.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": spec.bucket,
                "Key": spec.key,
                "Metadata": {fields.TOKEN_KEY: spec.token},
                **_present(
                    {
                        "ContentType": spec.content_type,
                        "ContentDisposition": spec.content_disposition,
                        "ContentLength": content_length,
                        "IfNoneMatch": self._once.get("If-None-Match"),
                    }
                ),
            },
            ExpiresIn=expires_in_s,
            HttpMethod="PUT",
        )
        return Presigned(url=url, method="PUT", headers=headers)

    def form(
        self, spec: ObjectSpec, *, expires_in_s: int, min_size: int, max_size: int
    ) -> PresignedForm:
        """A POST of the object as `multipart/form-data`; the policy names every field."""
        fixed = {
            **fields.headers(spec),
            # Some browsers warn about an empty answer to a form.
            "success_action_status": "201",
        }
        signed = self._client.generate_presigned_post(
            spec.bucket,
            spec.key,
            Fields=dict(fixed),
            Conditions=[
                *({name: value} for name, value in fixed.items()),
                ["content-length-range", min_size, max_size],
            ],
            ExpiresIn=expires_in_s,
        )
        # With its slash, as browsers' preflights need it: SeaweedFS breaks on one for `/bucket`.
        url = f"{signed['url'].rstrip('/')}/"
        return PresignedForm(url=url, fields=signed["fields"])

    def part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        *,
        expires_in_s: int,
        content_length: int | None,
    ) -> Presigned:
        """An UploadPart."""
        url = self._client.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": bucket,
                "Key": key,
                "UploadId": upload_id,
                "PartNumber": number,
                **_present({"ContentLength": content_length}),
            },
            ExpiresIn=expires_in_s,
            HttpMethod="PUT",
        )
        return Presigned(url=url, method="PUT", headers={})


def _present(values: Mapping[str, str | int | None]) -> dict[str, str | int]:
    return {name: value for name, value in values.items() if value is not None}
