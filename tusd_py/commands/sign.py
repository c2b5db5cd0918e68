"""`tusd-py sign`: a signed URL, as an application's backend gives it to its clients."""

import argparse
import sys
from datetime import UTC, datetime, timedelta

from tusd_py.auth.signatures import UrlSigner
from tusd_py.commands.running import DONE, FAILED, complain
from tusd_py.protocol.headers import UPLOAD_ID
from tusd_py.settings import Settings, SettingsError
from tusd_py.units import parse_duration, parse_size

TEXT = "Sign a URL that creates uploads, or that of an upload."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--lifetime", default="1h", help="How long the URL is good. Default: 1h.")
    parser.add_argument("--owner", help="Whose uploads it creates. Default: nobody else's.")
    parser.add_argument("--limit", metavar="SIZE", help="The largest upload it creates.")
    parser.add_argument("--profile", help="The profile it creates in.")
    parser.add_argument("--key", help="It creates one upload, however often it is used.")
    parser.add_argument("--upload", metavar="ID", help="Sign the URL of this upload instead.")


def run(
    settings: Settings,
    *,
    lifetime: str,
    owner: str | None,
    limit: str | None,
    profile: str | None,
    key: str | None,
    upload: str | None,
) -> int:
    """0: printed; 1: an argument makes no sense. Raises: SettingsError without a secret."""
    if not settings.url_secrets:
        raise SettingsError("No URL can be signed: set auth to signed, and url_secrets")
    signer = UrlSigner(settings.url_secrets)
    base = f"{settings.public_url or ''}{settings.base_path}"
    try:
        expires_at = datetime.now(UTC) + _duration(lifetime)
        if upload is None:
            query = signer.for_creation(
                expires_at=expires_at,
                owner=owner,
                max_size=None if limit is None else _size(limit),
                profile=profile,
                key=key,
            )
        else:
            query = _for_upload(signer, upload, expires_at)
    except (ValueError, OverflowError) as error:
        complain(str(error))
        return FAILED
    sys.stdout.write(f"{base}{upload or ''}?{query}\n")
    return DONE


def _for_upload(signer: UrlSigner, upload_id: str, expires_at: datetime) -> str:
    if not UPLOAD_ID.fullmatch(upload_id):
        raise ValueError("--upload takes an upload's id: the last part of its URL's path")
    return signer.for_upload(upload_id, expires_at=expires_at)


def _duration(text: str) -> timedelta:
    span = parse_duration(text)
    assert isinstance(span, timedelta)
    return span


def _size(text: str) -> int:
    size = parse_size(text)
    assert isinstance(size, int)
    return size
