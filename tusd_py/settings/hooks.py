"""Hooks: who is told of what, and how often it is tried."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tusd_py.hooks.events import HookType
from tusd_py.hooks.signing import key_of
from tusd_py.settings.area import Area, Hidden
from tusd_py.settings.kinds import Duration, Names, Size

DEFAULT_EVENTS = (
    HookType.PRE_CREATE,
    HookType.POST_CREATE,
    HookType.POST_RECEIVE,
    HookType.POST_TERMINATE,
    HookType.POST_FINISH,
)
"""tusd's own default."""


class HookSettings(Area):
    """Hooks."""

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


def check_urls(urls: Sequence[str]) -> None:
    """Raises: ValueError."""
    for url in urls:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or parts.fragment or not url.isprintable() or " " in url:
            raise ValueError('write addresses like "https://app.example.com/hooks"')


def check_events(names: Sequence[str]) -> None:
    """Raises: ValueError."""
    known = [kind.value for kind in HookType]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {name!r}: write some of {', '.join(known)}")


def check_secrets(secrets: Sequence[str]) -> None:
    """Raises: ValueError."""
    for secret in secrets:
        key_of(secret)
