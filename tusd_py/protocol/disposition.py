"""Content-Disposition with the original file name (RFC 6266), safe for every header and for S3."""

from urllib.parse import quote

_ATTR_CHARS = "!#$&+-.^_`|~"
"""What RFC 8187, section 3.2.1 leaves unescaped, besides letters and digits."""


def content_disposition(filename: str | None, *, inline: bool = False) -> str:
    """`attachment` or `inline`, with `filename` for old and `filename*` for all other clients."""
    kind = "inline" if inline else "attachment"
    if not filename:
        return kind
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in filename)
    value = f'{kind}; filename="{plain}"'
    if plain == filename:
        return value
    return f"{value}; filename*=UTF-8''{quote(filename, safe=_ATTR_CHARS)}"
