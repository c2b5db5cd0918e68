"""What hooks are told and what they may answer. Values only; their JSON is in `wire`.

The words are tusd's (pkg/hooks, pkg/handler); what is ours is said beside the field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class HookType(StrEnum):
    """When a hook is called. The first seven are tusd's."""

    PRE_CREATE = "pre-create"
    """Before an upload is created. Blocking."""
    POST_CREATE = "post-create"
    POST_RECEIVE = "post-receive"
    """From time to time while bytes come in: progress, told at most once and sometimes not."""
    PRE_FINISH = "pre-finish"
    """The object is in the bucket, the client has not been told. Blocking."""
    POST_FINISH = "post-finish"
    PRE_TERMINATE = "pre-terminate"
    """Before an upload is terminated by its client. Blocking."""
    POST_TERMINATE = "post-terminate"
    POST_EXPIRE = "post-expire"
    """Ours: an unfinished upload ran out of time and was swept up."""
    POST_FAIL = "post-fail"
    """Ours: an upload cannot be finished any more."""
    ASSET_AVAILABLE = "asset-available"
    """Ours: what arrived was checked and is good."""
    ASSET_QUARANTINED = "asset-quarantined"
    """Ours: what arrived was checked and is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadInfo:
    """tusd's `FileInfo`."""

    id: str
    """Empty in `pre-create`."""
    size: int
    """Bytes; 0 while it is deferred."""
    size_is_deferred: bool
    offset: int
    metadata: Mapping[str, str]
    is_partial: bool = False
    is_final: bool = False
    partial_uploads: tuple[str, ...] = ()
    storage: Mapping[str, str] | None = None
    """`Type` (`s3store`), `Bucket` and `Key`; None in `pre-create`."""
    profile: str = "default"
    """Ours."""
    owner: str | None = None
    """Ours: whoever `authorize` said it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """The client's request that caused the event; empty where there was none."""

    method: str = ""
    uri: str = ""
    remote_addr: str = ""
    """Of the connection: a proxy's, where there is one."""
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By canonical name, as in `Upload-Length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetInfo:
    """Ours: what an upload produced; only in events of its own."""

    id: str
    state: str
    reason: str | None
    filename: str | None
    content_type: str | None
    size: int | None
    etag: str | None = None
    """Of the object that was proven, for `If-Match`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEvent:
    """What happened, to which upload, by which request."""

    upload: UploadInfo
    http_request: HttpRequest = HttpRequest()
    asset: AssetInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRequest:
    """One call of a hook."""

    type: HookType
    event: HookEvent
    id: str
    """Of the event: the same at every attempt and for every hook that is told of it."""
    attempt: int = 1
    """1 for the first."""
    timestamp: datetime
    """Of this attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """Changes to the answer the client gets. What is not given stays as it is."""

    status_code: int = 0
    body: str = ""
    header: Mapping[str, str] = field(default_factory=dict)

    def merged_with(self, other: "HttpResponse") -> "HttpResponse":
        """tusd's `MergeWith`: what the other gives wins, header by header."""
        return HttpResponse(
            status_code=other.status_code or self.status_code,
            body=other.body or self.body,
            header={**self.header, **other.header},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfoChanges:
    """What `pre-create` may change. What is not given stays as it is."""

    id: str = ""
    metadata: Mapping[str, str] | None = None
    """Replaces all of the client's."""
    storage: Mapping[str, str] | None = None
    """`Path`: the object's key, below the prefix of its profile."""
    profile: str = ""
    """Ours: the destination."""

    def merged_with(self, other: "FileInfoChanges") -> "FileInfoChanges":
        """What the other gives wins."""
        return FileInfoChanges(
            id=other.id or self.id,
            metadata=self.metadata if other.metadata is None else other.metadata,
            storage=self.storage if other.storage is None else other.storage,
            profile=other.profile or self.profile,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HookResponse:
    """The answer of one hook, or of several put together."""

    http_response: HttpResponse = HttpResponse()
    reject_upload: bool = False
    """Only `pre-create`."""
    reject_termination: bool = False
    """Only `pre-terminate`."""
    change_file_info: FileInfoChanges = FileInfoChanges()
    """Only `pre-create`."""
    stop_upload: bool = False
    """Only `post-receive`."""

    def merged_with(self, other: "HookResponse") -> "HookResponse":
        """A later hook's word on top of an earlier one's."""
        return HookResponse(
            http_response=self.http_response.merged_with(other.http_response),
            reject_upload=self.reject_upload or other.reject_upload,
            reject_termination=self.reject_termination or other.reject_termination,
            change_file_info=self.change_file_info.merged_with(other.change_file_info),
            stop_upload=self.stop_upload or other.stop_upload,
        )

    @property
    def refuses(self) -> bool:
        """Whether no further hook need be asked."""
        return self.reject_upload or self.reject_termination or self.stop_upload
