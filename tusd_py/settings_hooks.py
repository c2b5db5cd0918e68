"""What must be true of the settings under "Hooks". Pure."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from tusd_py.hooks.events import HookType
from tusd_py.hooks.signing import key_of

DEFAULT_EVENTS = (
    HookType.PRE_CREATE,
    HookType.POST_CREATE,
    HookType.POST_RECEIVE,
    HookType.POST_TERMINATE,
    HookType.POST_FINISH,
)
"""tusd's own default."""


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
