"""The operator's page, and who may see it."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator

from tusd_py.settings.area import Area, Hidden
from tusd_py.settings.kinds import Duration


class OperatorSettings(Area):
    """The operator page."""

    operator_page: bool = False
    """Serve the operator's page and its JSON below `/operator/`: what is under way, what is stuck,
    jobs, nodes. Needs `operator_token`."""
    operator_token: Annotated[str | None, Hidden()] = None
    """Whoever knows it may see and cancel every upload: at least 16 characters that nobody guesses.
    For the sign-in form, and for programs as `Authorization: Bearer`."""
    operator_open: bool = False
    """Ask this machine's own browsers for no token: requests from loopback to a loopback name that
    came through no proxy. Meant for `tusd-py dev`, where it is on."""
    operator_idle_after: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=1))
    """An unfinished upload without progress for this long is shown as stuck."""

    @field_validator("operator_token")
    @classmethod
    def _check_operator_token(cls, value: str | None) -> str | None:
        if value is not None and (len(value) < 16 or not value.isprintable()):
            raise ValueError("write at least 16 printable characters that nobody guesses")
        return value
