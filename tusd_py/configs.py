"""What the parts of the program are told of the settings, each in its own terms."""

from datetime import datetime

from tusd_py.auth.signatures import UrlSigner
from tusd_py.clock import utc_now
from tusd_py.http.locations import Sign
from tusd_py.settings import Settings
from tusd_py.uploads.config import UploadConfig
from tusd_storage.records import Quota
from tusd_storage.s3 import S3Config


def upload_urls(settings: Settings, signer: UrlSigner) -> Sign:
    """Signs the URLs of uploads, for as long as the settings say.

    A creation that is repeated is told the URL it was told before, while half of that one's time
    is left; then it gets one as good as new.
    """
    lifetime = settings.url_lifetime or settings.max_lifetime

    def sign(upload_id: str, created_at: datetime | None) -> str:
        now = utc_now()
        begins = now if created_at is None or now - created_at > lifetime / 2 else created_at
        return signer.for_upload(upload_id, expires_at=begins + lifetime)

    return sign


def upload_config(settings: Settings) -> UploadConfig:
    """The settings as the use cases take them."""
    return UploadConfig(
        bucket=settings.s3_bucket,
        node=settings.node_name(),
        prefix=settings.s3_prefix,
        limits=settings.store_limits(),
        max_size=settings.max_size,
        profile_max_sizes={
            name: profile.max_size
            for name, profile in settings.profiles.items()
            if profile.max_size is not None
        },
        expires_in=settings.expires_in,
        max_lifetime=settings.max_lifetime,
        tail_loss=settings.tail_loss,
        body_idle_timeout_s=settings.body_idle_timeout.total_seconds(),
        min_body_rate=settings.min_body_rate,
        memory_budget=settings.memory_budget,
        owner_size_limited=settings.owner_max_bytes is not None,
    )


def quota_of(settings: Settings) -> Quota | None:
    """What each owner may have open; None without a limit."""
    if settings.owner_max_uploads is None and settings.owner_max_bytes is None:
        return None
    return Quota(max_sessions=settings.owner_max_uploads, max_size=settings.owner_max_bytes)


def s3_config(settings: Settings) -> S3Config:
    """The settings as the S3 adapter takes them."""
    style = settings.s3_addressing_style
    return S3Config(
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        region=settings.s3_region,
        addressing_style=None if style == "auto" else style,
        checksum=settings.s3_checksum,
        conditional_writes=settings.s3_conditional_writes,
        max_connections=settings.s3_max_connections,
        deadline_s=settings.s3_deadline_s,
        assembly_timeout_s=settings.s3_assembly_timeout_s,
    )
