"""The one computation of a tail's path: writer, reaper and termination all call it."""

import base64
import binascii
from pathlib import Path

DEFAULT_ROOT = Path("tmp")
FOLDER = "tus"
SUFFIX = ".tail"


def tail_folder(root: Path = DEFAULT_ROOT) -> Path:
    """The folder that holds all tails of a node."""
    return root / FOLDER


def tail_path(session_id: str, *, root: Path = DEFAULT_ROOT) -> Path:
    """`<root>/tus/<url-safe base64 of the id, unpadded>.tail`.

    The raw id never becomes a file name, so no id can point outside the folder.
    """
    return tail_folder(root) / tail_name(session_id)


def tail_name(session_id: str) -> str:
    """The last component of `tail_path`."""
    return base64.urlsafe_b64encode(session_id.encode()).rstrip(b"=").decode() + SUFFIX


def session_id_of(path: Path) -> str | None:
    """The inverse of `tail_path`; None for a file that it did not name."""
    if path.suffix != SUFFIX:
        return None
    stem = path.name.removesuffix(SUFFIX)
    try:
        session_id = base64.urlsafe_b64decode(stem + "=" * (-len(stem) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return session_id if tail_path(session_id).name == path.name else None
