"""What the value of a setting may be: how it is written, and what is nonsense. Pure."""

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from tusd_py.units import parse_duration, parse_size

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")


def _parse_seconds(value: object) -> object:
    parsed = parse_duration(value)
    return parsed.total_seconds() if isinstance(parsed, timedelta) else parsed


def _split(value: object) -> object:
    """A list from `"a, b"`; lists pass through, an empty text is the empty list."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


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


Size = Annotated[int, BeforeValidator(parse_size)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Seconds = Annotated[float, BeforeValidator(_parse_seconds)]
Split = BeforeValidator(_split)
Names = Annotated[tuple[str, ...], Split]
MediaTypes = Annotated[tuple[str, ...], Split, AfterValidator(_media_types)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], Split]
