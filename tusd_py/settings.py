"""The one definition of every setting: flags, `TUSD_…` variables, the TOML file, the reference.

Owns names, defaults, units and what is nonsense. Knows nothing of how a setting is used or where
it was written (`settings_sources`); touches the disk only in `node_name`.
"""

import json
import os
import re
import secrets
import string
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from tusd_py.settings_auth import check_auth
from tusd_py.settings_hooks import DEFAULT_EVENTS, check_events, check_secrets, check_urls
from tusd_py.units import parse_duration, parse_size, show_duration, show_size
from tusd_storage.partplan import GIB, MIB, MIN_PART_SIZE, TIB, StoreLimits
from tusd_storage.records import Strategy

ENV_PREFIX = "TUSD_"
MASK = "***"
NODE_FILE = "node"
NODE_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")

_BASE_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*")
_METRICS_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")
_PROFILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DATABASE_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg", "postgres")
_PASSWORD = re.compile(r"(?s)(://[^:@/]*):.*@")
_SECRET_QUERY = re.compile(r"(?i)((?:^|[?&])[^=&]*(?:password|secret|token|key)[^=&]*=)[^&]*")


class SettingsError(Exception):
    """The settings cannot be used. Each problem is one sentence that says what to write."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _parse_seconds(value: object) -> object:
    parsed = parse_duration(value)
    return parsed.total_seconds() if isinstance(parsed, timedelta) else parsed


def _split(value: object) -> object:
    """A list from `"a, b"`; lists pass through, an empty text is the empty list."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _parse_json(value: object) -> object:
    """A table from JSON in a variable or flag; tables of the TOML file pass through."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('write JSON like {"pictures": {"content_types": "image/*"}}') from None


def _media_types(value: tuple[str, ...]) -> tuple[str, ...]:
    types = tuple(item.lower() for item in value)
    if not all(_MEDIA_TYPE.fullmatch(item) for item in types):
        raise ValueError('write media types like "image/png, video/*"')
    return types


def _endpoint(value: str) -> str:
    try:
        url = urlsplit(value)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid or url.query or url.fragment or url.username:
        raise ValueError('write an address like "https://s3.example.com" (no query, no user name)')
    return value.rstrip("/")


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value, strict=False)
    except ValueError:
        raise ValueError('write addresses or networks like "10.0.0.0/8, ::1"') from None


class Hidden:
    """Marks a setting whose value is a secret: never shown, never logged."""


Secret = Annotated[str, Hidden()]
Size = Annotated[int, BeforeValidator(parse_size)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Seconds = Annotated[float, BeforeValidator(_parse_seconds)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_split)]


AuthWay = Literal["none", "jwt", "signed", "forward"]
AuthWays = Annotated[tuple[AuthWay, ...], BeforeValidator(_split)]
AddressingStyle = Literal["auto", "path", "virtual"]
Checksum = Literal["crc32", "md5", "none"]
TailLoss = Literal["fail", "rewind"]
Download = Literal["redirect", "stream", "off"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Synchronous = Literal["FULL", "NORMAL"]


Profiles = Annotated[dict[str, "ProfileSettings"], BeforeValidator(_parse_json)]


class ProfileSettings(BaseModel):
    """A named destination for uploads that go straight to the store."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        ser_json_timedelta="float",
    )

    bucket: str | None = None
    """Default: `s3_bucket`."""
    prefix: str | None = None
    """Default: `s3_prefix`."""
    key_template: str = "{prefix}{id}"
    """Of `{prefix}`, `{profile}`, `{id}` (required), `{date}` and `{extension}`."""
    max_size: Annotated[Size | None, Field(ge=0)] = None
    """Default: `max_size`."""
    content_types: Names = ()
    """Media types that are accepted, as in `image/*`; empty for all."""
    expires_in: Annotated[Duration | None, Field(ge=timedelta(seconds=1))] = None
    """Default: `expires_in`."""
    url_expires_in: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(hours=1)
    """How long a signed address is good for."""
    part_size: Annotated[Size | None, Field(ge=MIN_PART_SIZE)] = None
    """Default: `part_size`."""
    strategies: Annotated[tuple[Strategy, ...], BeforeValidator(_split)] = tuple(Strategy)
    """Of `presigned_put`, `multipart` and `resumable`."""

    @field_validator("content_types")
    @classmethod
    def _check_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _media_types(value)


class Settings(BaseModel):
    """Every setting of the program. Frozen; `repr` and `masked` show no secret."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
        ser_json_timedelta="float",
    )

    # -- The server
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on. `0.0.0.0` listens on all of the machine's IPv4 addresses."""
    port: int = Field(default=8080, ge=0, le=65535)
    """TCP port to listen on; 0 takes any free one."""
    base_path: str = "/files/"
    """Path under which uploads are created. Begins and ends with a slash."""
    public_url: Endpoint | None = None
    """Address by which clients reach this server, as in `https://uploads.example.com`.
    When set, `Location` is absolute and begins with it; otherwise it is a path."""
    trusted_proxies: Networks = ()
    """Addresses or networks whose `X-Forwarded-*` headers are believed, separated by commas."""
    cors_origins: Names = ("*",)
    """Origins whose pages may upload, separated by commas; `*` is every origin, empty is none."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that serve. More than one is worth it on PostgreSQL and several cores."""
    demo_page: bool = False
    """Serve a page for trying uploads at `/`."""

    # -- State on this node
    data_dir: Path = Path("data")
    """Folder for what this node keeps: the SQLite database, the node's name, the tails."""
    tmp_dir: Path = Field(default_factory=lambda values: values["data_dir"] / "tmp")
    """Folder for acknowledged bytes that are not yet a part (in `tus/` below it). Must survive a
    restart. Default: `tmp` in `data_dir`."""
    node: str | None = None
    """Name of this node, unique among the servers on one database: up to 16 of a-z, 0-9 and `-`.
    Default: a random name, made once and kept in the file `node` in `data_dir`."""
    database_url: str = Field(
        default_factory=lambda values: f"sqlite:///{values['data_dir'] / 'tusd.sqlite3'}"
    )
    """Where the state is kept: `postgresql://user:password@host/name`, or `sqlite:///path`.
    Default: `tusd.sqlite3` in `data_dir`."""
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    """Connections to PostgreSQL that one process may hold."""
    sqlite_synchronous: Synchronous = "FULL"
    """`FULL` keeps what was acknowledged through a power loss; `NORMAL` is faster and may not."""

    # -- The store
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
    s3_max_connections: int = Field(default=16, ge=1, le=1024)
    """Connections to the store that one process may hold: the number of parts in flight."""
    s3_deadline_s: Seconds = Field(default=30.0, ge=1)
    """Seconds after which a failing request to the store is not tried again."""

    # -- Sizes and limits
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
    memory_budget: Size = Field(default=48 * MIB, ge=16 * MIB)
    """Bytes of upload bodies that one process holds in memory, over all uploads. When they are
    spent, the server reads slower; larger parts are assembled on disk."""
    max_connections: int = Field(default=4096, ge=1, le=1_000_000)
    """Client connections of one process, less where the system allows too few open files (three
    for each). Beyond them those that ask nothing are closed, and new ones get 503."""

    # -- Promises and times
    tail_fsync: bool = True
    """Flush acknowledged bytes to the disk, so that they survive a power loss."""
    tail_loss: TailLoss = "fail"
    """When acknowledged bytes are not on this node: `fail` answers 503 until they are, `rewind`
    moves the offset back to what the store has."""
    expires_in: Duration = Field(default=timedelta(hours=24), ge=timedelta(seconds=1))
    """An unfinished upload ends this long after its last accepted byte."""
    max_lifetime: Duration = Field(default=timedelta(days=7), ge=timedelta(seconds=1))
    """An unfinished upload ends this long after its creation at the latest."""
    lease_ttl: Duration = Field(default=timedelta(seconds=15), ge=timedelta(seconds=1))
    """A server that died loses its uploads to another after this time."""
    body_idle_timeout: Duration = Field(
        default=timedelta(seconds=60), ge=timedelta(milliseconds=100)
    )
    """A request whose body does not move for this long is ended; what arrived is kept."""
    min_body_rate: Size = Field(default=16, ge=0)
    """A body that brings fewer bytes per second than this, over `body_idle_timeout`, is ended,
    too."""
    head_timeout: Duration = Field(default=timedelta(seconds=30), ge=timedelta(milliseconds=100))
    """The headers of a request must be complete this long after its first byte."""
    keep_alive_timeout: Duration = Field(
        default=timedelta(seconds=75), ge=timedelta(milliseconds=100)
    )
    """A connection is closed this long after its last answer. Make it longer than the one of a
    load balancer in front."""
    send_timeout: Duration = Field(default=timedelta(seconds=60), ge=timedelta(milliseconds=100))
    """A client that takes nothing of an answer for this long is cut off."""
    shutdown_timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(seconds=1))
    """Time that running requests get to end when the server is told to stop."""

    # -- What runs beside the uploads
    reap: bool = True
    """Sweep up what uploads leave behind, from inside the server. Off: run `tusd-py reap --apply`
    from outside, on every node."""
    reap_interval: Duration = Field(default=timedelta(minutes=10), ge=timedelta(seconds=1))
    """Time between two sweeps, give or take a quarter."""
    reap_grace: Duration = Field(default=timedelta(hours=1), ge=timedelta())
    """What nobody seems to own and is younger than this is left alone: somebody may be at work."""
    retention: Duration = Field(default=timedelta(days=30), ge=timedelta())
    """Records of expired, aborted and failed uploads and of jobs that are done are kept this
    long. Completed uploads are kept for as long as their object."""
    work: bool = True
    """Run jobs, such as checking what arrived, from inside the server. Off: run `tusd-py work`."""
    work_parallel: int = Field(default=4, ge=1, le=256)
    """Jobs that one process runs at the same time."""
    job_attempts: int = Field(default=20, ge=1, le=100)
    """Tries before a job is given up, after five to ten hours; `tusd-py jobs retry` tries again."""

    # -- Uploads straight to the store
    direct_uploads: bool = True
    """Serve the session API (`/sessions`, described by `/openapi.json`) and the endpoints of Uppy's
    S3 plugin (`/s3`)."""
    companion_profile: str = "default"
    """The profile that Uppy's S3 plugin uploads to."""
    profiles: Profiles = Field(default_factory=dict)
    """Destinations beside the default one, as tables `[profiles.NAME]` in the file, or JSON."""
    validator_url: Endpoint | None = None
    """Address that is asked whether an upload that arrived is good, before it is available."""

    # -- Downloads
    download: Download = "redirect"
    """GET on a finished upload: `redirect` to a signed address at the store, `stream` through this
    server, or `off`."""
    inline_types: Names = ()
    """Media types that a browser may show instead of saving, as in `image/png, video/*`."""

    # -- Who may upload
    auth: AuthWays = ("none",)
    """How requests prove who they are, separated by commas: `jwt` (bearer tokens), `signed` (URLs
    that you sign), `forward` (another server is asked). `none`: anybody may upload."""
    jwt_secret: Annotated[str | None, Hidden()] = None
    """Secret that tokens are signed with (HS256, HS384, HS512), at least 32 characters."""
    jwt_public_key_file: Path | None = None
    """PEM file with the RSA, EC or Ed25519 public key that tokens are verified with."""
    jwt_jwks_url: Endpoint | None = None
    """Address of the JSON Web Key Set that tokens are verified with."""
    jwt_jwks_lifetime: Duration = Field(default=timedelta(minutes=10), ge=timedelta(seconds=1))
    """The key set is fetched again after this time, and for a key that is not in it."""
    jwt_audience: Names = ()
    """Audiences, separated by commas: a token must name one. Without any, tokens that name an
    audience are refused."""
    jwt_issuer: str | None = None
    """Issuer that tokens must name."""
    jwt_leeway: Duration = Field(
        default=timedelta(seconds=30), ge=timedelta(), le=timedelta(minutes=10)
    )
    """Clocks may differ by this much."""
    jwt_owner_claim: str = Field(default="sub", min_length=1)
    """Claim that names the owner of what is uploaded."""
    jwt_max_size_claim: str = Field(default="max_size", min_length=1)
    """Claim that limits the size of an upload, in bytes."""
    jwt_profile_claim: str = Field(default="profile", min_length=1)
    """Claim that names the profile to upload to."""
    url_secrets: Annotated[Names, Hidden()] = ()
    """Secrets for signed URLs, separated by commas, each at least 32 characters. The first signs,
    all are accepted."""
    url_lifetime: Duration | None = Field(default=None, ge=timedelta(seconds=1))
    """The signed URL of an upload is good for this long after its creation. Default:
    `max_lifetime`."""
    forward_auth_url: Endpoint | None = None
    """Address that is asked about every request: 2xx allows it."""
    forward_auth_headers: Names = ("Authorization", "Cookie")
    """Headers of the request that are passed on to it."""
    forward_auth_owner: str = "Remote-User"
    """Header of its answer that names the owner; an answer without it is refused. Empty: uploads
    belong to nobody in particular."""
    forward_auth_timeout: Duration = Field(
        default=timedelta(seconds=5), ge=timedelta(milliseconds=100), le=timedelta(minutes=1)
    )
    """Time it has to answer."""
    owner_max_uploads: int | None = Field(default=None, ge=1)
    """Uploads that one owner may have unfinished at the same time."""
    owner_max_bytes: Size | None = Field(default=None, ge=1)
    """Bytes that the unfinished uploads of one owner may have, by their declared lengths."""
    idempotency_metadata: str | None = None
    """Name of an `Upload-Metadata` value, such as a fingerprint of the file: creating with the same
    value again gives the same upload, as the header `Idempotency-Key` does."""
    # -- The operator page
    operator_page: bool = False
    """Serve the operator's page and its JSON below `/operator/`: what is under way, what is stuck,
    jobs, nodes. Needs `operator_token`."""
    operator_token: Annotated[str | None, Hidden()] = None
    """Whoever knows it may see and cancel every upload: at least 16 characters that nobody guesses.
    For the sign-in form, and for programs as `Authorization: Bearer`."""
    operator_open: bool = False
    """Ask this machine's own browsers for no token: requests from loopback to a loopback name that
    came through no proxy. Meant for `tusd-py dev`, where it is on."""
    operator_idle_after: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=1))
    """An unfinished upload without progress for this long is shown as stuck."""

    # -- Hooks
    hooks_http: Names = ()
    """Addresses that are told what happens to uploads, in tusd's format, separated by commas."""
    hooks_http_forward_headers: Names = ()
    """Headers of the client's request that are passed on to them, as in `Authorization, Cookie`."""
    hooks_http_retry: int = Field(default=3, ge=0, le=100)
    """Further tries of a blocking hook, after a network error or a 5xx. Events are tried again by
    jobs instead (`job_attempts`)."""
    hooks_http_backoff: Duration = Field(default=timedelta(seconds=1), ge=timedelta())
    """Time between two tries of a blocking hook."""
    hooks_http_timeout: Duration = Field(
        default=timedelta(seconds=15), ge=timedelta(milliseconds=100)
    )
    """Time a hook has to answer, all tries together."""
    hooks_http_size_limit: Size = Field(default=5 * 1024, ge=1)
    """The longest answer of a hook."""
    hooks_enabled_events: Names = tuple(kind.value for kind in DEFAULT_EVENTS)
    """What hooks are called for, separated by commas. Beside the default: `pre-finish`,
    `pre-terminate`, `post-expire`, `post-fail`, `asset-available`, `asset-quarantined`."""
    progress_hooks_interval: Duration = Field(
        default=timedelta(seconds=1), ge=timedelta(milliseconds=10)
    )
    """Time between two `post-receive` of one upload."""
    webhook_secret: Annotated[Names, Hidden()] = ()
    """Signs what hooks and `validator_url` are sent (Standard Webhooks): `whsec_` and 24 to 64
    random bytes in Base64. Several, separated by commas, sign side by side."""

    # -- Metrics
    expose_metrics: bool = True
    """Serve metrics for Prometheus."""
    metrics_path: str = "/metrics"
    """Path under which they are served."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of their own for metrics. Default: `port`."""
    metrics_host: str | None = Field(default=None, min_length=1)
    """Address to listen on for metrics, with `metrics_port`. Default: `host`."""

    # -- Logs
    log_format: LogFormat = "console"
    """`console` for people, `json` for machines: one object a line."""
    log_level: LogLevel = "info"
    """The least serious line that is written."""

    @field_validator("base_path")
    @classmethod
    def _check_base_path(cls, value: str) -> str:
        path = f"{value.rstrip('/')}/"
        if not _BASE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ValueError('write a path like "/files/"')
        return path

    @field_validator("metrics_path")
    @classmethod
    def _check_metrics_path(cls, value: str) -> str:
        if not _METRICS_PATH.fullmatch(value) or {".", ".."} & set(value.split("/")):
            raise ValueError('write a path like "/metrics"')
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        if value.partition("://")[0] not in _DATABASE_SCHEMES or "://" not in value:
            raise ValueError('write "postgresql://user:password@host/name" or "sqlite:///path"')
        return value

    @field_validator("node")
    @classmethod
    def _check_node(cls, value: str | None) -> str | None:
        if value is not None and not NODE_PATTERN.fullmatch(value):
            raise ValueError('write up to 16 of a-z, 0-9 and "-", as in "upload-1"')
        return value

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

    @field_validator("profiles")
    @classmethod
    def _check_profiles(cls, value: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        for name in value:
            if not _PROFILE_NAME.fullmatch(name) or name == "default":
                raise ValueError('name profiles with a-z, 0-9, "-" and "_"; "default" is there')
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and f"{parts.scheme}://{parts.netloc}" != origin:
                raise ValueError('write "*" or origins like "https://app.example.com" (no path)')
        return value

    @field_validator("operator_token")
    @classmethod
    def _check_operator_token(cls, value: str | None) -> str | None:
        if value is not None and (len(value) < 16 or not value.isprintable()):
            raise ValueError("write at least 16 printable characters that nobody guesses")
        return value

    @field_validator("inline_types")
    @classmethod
    def _check_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _media_types(value)

    @field_validator("hooks_http")
    @classmethod
    def _check_hooks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_urls(value)
        return value

    @field_validator("hooks_enabled_events")
    @classmethod
    def _check_events(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_events(value)
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _check_secrets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_secrets(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.max_lifetime < self.expires_in:
            raise ValueError(
                f"max_lifetime is {show_duration(self.max_lifetime)}, expires_in is "
                f"{show_duration(self.expires_in)}: write a max_lifetime at least as long"
            )
        if self.max_part_size < self.part_size:
            raise ValueError(
                f"max_part_size is {show_size(self.max_part_size)}, part_size is "
                f"{show_size(self.part_size)}: write a part_size that is not larger"
            )
        if self.operator_page and not (self.operator_token or self.operator_open):
            raise ValueError("operator_page shows every upload: write an operator_token with it")
        if self.operator_page and self.base_path.startswith("/operator/"):
            raise ValueError('operator_page needs "/operator/": write another base_path')
        if self.demo_page and self.base_path == "/":
            raise ValueError('The demo page needs "/": set base_path to "/files/" or demo_page off')
        check_auth(self)
        if self.base_path != "/" and f"{self.metrics_path}/".startswith(self.base_path):
            raise ValueError("metrics_path lies below base_path: write another, as in /metrics")
        if self.metrics_port is not None and self.metrics_port == self.port:
            raise ValueError("metrics_port is the port of the uploads: write another, or none")
        return self

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

    def node_name(self) -> str:
        """The node's name: `node`, or the one kept in `data_dir`, made at the first call.

        Several processes may call it at once; all get the same name.

        Raises:
            SettingsError: the folder cannot be written, or its file holds something else.
        """
        if self.node is not None:
            return self.node
        path = self.data_dir / NODE_FILE
        try:
            return _read_node(path) or _make_node(path)
        except OSError as error:
            raise SettingsError(
                f"The node's name cannot be kept in data_dir ({error.strerror}): "
                f"make the folder writable, or write {ENV_PREFIX}NODE=name"
            ) from error

    def store_limits(self) -> StoreLimits:
        """What the store allows, for the part plan."""
        return StoreLimits(
            part_size=self.part_size,
            max_parts=self.max_parts,
            max_part_size=self.max_part_size,
            max_object_size=self.max_object_size,
            equal_parts=self.equal_parts,
        )

    def masked(self) -> dict[str, object]:
        """All values, fit to be shown: secrets and the database's password are `***`."""
        return dict(self.__repr_args__())

    def __repr_args__(self) -> list[tuple[str, Any]]:
        return [(name, shown(name, getattr(self, name))) for name in type(self).model_fields]

    def __str__(self) -> str:
        return repr(self)


SECTIONS: Mapping[str, tuple[str, str]] = {
    "The server": ("host", "demo_page"),
    "State on this node": ("data_dir", "sqlite_synchronous"),
    "The store": ("s3_bucket", "s3_deadline_s"),
    "Sizes and limits": ("part_size", "max_connections"),
    "Promises and times": ("tail_fsync", "shutdown_timeout"),
    "What runs beside the uploads": ("reap", "job_attempts"),
    "Uploads straight to the store": ("direct_uploads", "validator_url"),
    "Downloads": ("download", "inline_types"),
    "Who may upload": ("auth", "idempotency_metadata"),
    "The operator page": ("operator_page", "operator_idle_after"),
    "Hooks": ("hooks_http", "webhook_secret"),
    "Metrics": ("expose_metrics", "metrics_host"),
    "Logs": ("log_format", "log_level"),
}
"""Headings of the reference and of `--help`: the first and last field under each."""


def shown(name: str, value: Any) -> Any:
    """The value of a setting, fit to be shown."""
    field = Settings.model_fields.get(name)
    if field is not None and any(isinstance(mark, Hidden) for mark in field.metadata):
        return MASK if value else value
    if isinstance(value, list | tuple):
        return tuple(mask_url(item) if isinstance(item, str) else item for item in value)
    return mask_url(value) if isinstance(value, str) else value


TUSD_NAMES: Mapping[str, str] = {
    "network_timeout": "body_idle_timeout",
    "s3_concurrent_part_uploads": "s3_max_connections",
    "s3_part_size": "part_size",
}
"""What tusd calls settings of the same meaning and unit; taken wherever ours are."""


def section(title: str) -> tuple[str, ...]:
    """Names of the fields under a heading of SECTIONS, in order."""
    names = list(Settings.model_fields)
    first, last = SECTIONS[title]
    return tuple(names[names.index(first) : names.index(last) + 1])


def mask_url(url: str) -> str:
    """The database URL without its password, in the authority or the query."""
    return _SECRET_QUERY.sub(r"\g<1>***", _PASSWORD.sub(r"\g<1>:***@", url))


def _read_node(path: Path) -> str | None:
    try:
        name = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not NODE_PATTERN.fullmatch(name):
        raise SettingsError(
            f"The file {path.name!r} in data_dir does not hold a node's name: delete it to get a "
            f"new one, or write {ENV_PREFIX}NODE=name"
        )
    return name


def _make_node(path: Path) -> str:
    """Makes the file whole or not at all: whoever links first wins, the others read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    alphabet = string.ascii_lowercase + string.digits
    name = "n-" + "".join(secrets.choice(alphabet) for _ in range(8))
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("x", encoding="ascii") as file:
            file.write(name + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return _read_node(path) or name
    finally:
        draft.unlink(missing_ok=True)
    return name
