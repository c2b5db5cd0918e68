"""What the areas of the settings have in common. Touches nothing."""

import re

from pydantic import BaseModel, ConfigDict

ENV_PREFIX = "TUSD_"
MASK = "***"

_PASSWORD = re.compile(r"(?s)(://[^:@/]*):.*@")
_SECRET_QUERY = re.compile(r"(?i)((?:^|[?&])[^=&]*(?:password|secret|token|key)[^=&]*=)[^&]*")


class SettingsError(Exception):
    """The settings cannot be used. Each problem is one sentence that says what to write."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Hidden:
    """Marks a setting whose value is a secret: never shown, never logged."""


class Area(BaseModel):
    """Settings under one heading of the reference. `Settings` has the fields of all areas.

    Names of validators must differ between areas.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
        ser_json_timedelta="float",
        defer_build=True,  # none is made on its own
    )


def mask_url(url: str) -> str:
    """The database URL without its password, in the authority or the query."""
    return _SECRET_QUERY.sub(r"\g<1>***", _PASSWORD.sub(r"\g<1>:***@", url))
