"""Uploads straight from a client to the store: what they need in addition.

Same rules as in `ports`: async, short transactions, only the taxonomy of `errors`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tusd_storage.ports import ObjectStore
from tusd_storage.records import ObjectSpec, UploadSession


class Capability(StrEnum):
    """What an object store's adapter can be asked for."""

    PRESIGNED_PUT = "presigned_put"
    """Requests that put a whole object (`presign_put`, `presign_post`)."""
    MULTIPART_UPLOAD = "multipart_upload"
    """Multipart uploads whose parts clients send (`presign_part`)."""
    RESUMABLE_UPLOAD = "resumable_upload"
    """Uploads that go on where they stopped, under a URI of their own."""
    TUS_UPLOAD = "tus_upload"
    """Can stand behind the tus server; a resumable upload is then one of its uploads."""
    HEAD = "head"
    """Tells size, type and token of an object: without it nothing can be verified."""
    SIGNED_URL = "signed_url"
    """Addresses for downloads (`presign_get`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignedForm:
    """A form that a browser may post straight to the store, with the file as its last field."""

    url: str
    """Of the bucket."""
    fields: dict[str, str]
    """To be sent as they are."""


class FormSigner(Protocol):
    """Signs uploads by HTML form (S3: POST Object)."""

    async def presign_post(
        self, spec: ObjectSpec, *, expires_in_s: int, min_size: int, max_size: int
    ) -> PresignedForm:
        """A form for the whole object. The policy binds key, type, token and the range of sizes."""
        ...


class DirectStore(ObjectStore, FormSigner, Protocol):
    """An object store that clients may be sent to."""

    @property
    def capabilities(self) -> Collection[Capability]:
        """What this adapter can do; known without asking the store."""
        ...


class DirectSessions(Protocol):
    """State of sessions whose bytes this server never sees, beside `SessionStore`."""

    async def mark_signed(self, session_id: str, *, now: datetime) -> UploadSession:
        """Moves an `initialized` session to `signed`, without its lease.

        A session that takes bytes already stays as it is. MUST be one compare-and-swap: a session
        that ends at the same time ends, and this raises.

        Raises: SessionUnknown, InvalidTransition.
        """
        ...

    async def by_key(self, bucket: str, object_key: str) -> UploadSession | None:
        """The session that owns the key; no two have the same."""
        ...
