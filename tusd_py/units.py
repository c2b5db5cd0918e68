"""Sizes and time spans as people write them: `5MiB`, `24h`, and back.

Owns the grammar of both. Knows nothing of settings. Pure.
"""

import re
from datetime import timedelta

from tusd_storage.partplan import GIB, KIB, MIB, TIB

_SIZE_UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_SIZE_UNITS |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w)\s*)+")
_DURATION_TERM = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_LONGEST_S = 100 * 365 * 86400.0


def parse_size(value: object) -> object:
    """Bytes from `5242880`, `"5MiB"`, `"1.5 GiB"` or `"10MB"` (10,000,000).

    Raises: ValueError.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError('write a size like "5MiB", "1GiB" or a whole number of bytes')
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value.strip())
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError('write a size like "5MiB", "1GiB" or a whole number of bytes')
    return round(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def parse_duration(value: object) -> object:
    """A time span from `90` (seconds), `"90s"`, `"24h"`, `"7d"` or `"1h30m"`.

    Raises: ValueError.
    """
    if isinstance(value, timedelta):
        return value
    advice = 'write a time span like "90s", "15m", "24h" or "7d", or a number of seconds'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(advice)
    seconds = _seconds(value) if isinstance(value, str) else float(value)
    if seconds is None or not 0 <= seconds <= _LONGEST_S:
        raise ValueError(advice)
    return timedelta(seconds=seconds)


def _seconds(text: str) -> float | None:
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(n) * _DURATION_UNITS[unit] for n, unit in _DURATION_TERM.findall(text))


def show_size(size: int) -> str:
    """`5MiB` where that is exact, the number of bytes otherwise; `parse_size` reads it."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def show_duration(span: timedelta) -> str:
    """`24h`, `90s`; `parse_duration` reads it."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if span and span % timedelta(seconds=unit) == timedelta():
            return f"{span // timedelta(seconds=unit)}{name}"
    return f"{span.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
