"""Where the server listens, and who it believes and answers."""

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tusd_py.settings.area import Area
from tusd_py.settings.kinds import Endpoint, Names, Networks

_BASE_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*")


class ServerSettings(Area):
    """The server."""

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

    @field_validator("base_path")
    @classmethod
    def _check_base_path(cls, value: str) -> str:
        path = f"{value.rstrip('/')}/"
        if not _BASE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ValueError('write a path like "/files/"')
        return path

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and f"{parts.scheme}://{parts.netloc}" != origin:
                raise ValueError('write "*" or origins like "https://app.example.com" (no path)')
        return value
