"""Where an upload goes that is not of the default profile."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tusd_py.uploads.config import UploadConfig


@dataclass(frozen=True, slots=True)
class Destination:
    """A profile, as far as creating an upload needs it."""

    config: UploadConfig
    key: Callable[[str, str | None, datetime], str]
    """The object's key, from something unique, the file's name and the time."""
    check_content_type: Callable[[str | None], None]
    """Raises what says that the profile does not take this type."""


FindDestination = Callable[[str], Destination]
"""By the profile's name. Raises what says that there is none."""
