"""Uploads straight to the store, and the profiles they go to."""

import json
import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from tusd_py.settings.area import Area
from tusd_py.settings.kinds import Duration, Endpoint, MediaTypes, Size, Split
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.records import Strategy

_PROFILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def _parse_json(value: object) -> object:
    """A table from JSON in a variable or flag; tables of the TOML file pass through."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('write JSON like {"pictures": {"content_types": "image/*"}}') from None


class ProfileSettings(BaseModel):
    """A named destination for uploads that go straight to the store."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        ser_json_timedelta="float",
    )

    bucket: str | None = None
    """Default: `s3_bucket`."""
    prefix: str | None = None
    """Default: `s3_prefix`."""
    key_template: str = "{prefix}{id}"
    """Of `{prefix}`, `{profile}`, `{id}` (required), `{date}` and `{extension}`."""
    max_size: Annotated[Size | None, Field(ge=0)] = None
    """Default: `max_size`."""
    content_types: MediaTypes = ()
    """Media types that are accepted, as in `image/*`; empty for all."""
    expires_in: Annotated[Duration | None, Field(ge=timedelta(seconds=1))] = None
    """Default: `expires_in`."""
    url_expires_in: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(hours=1)
    """How long a signed address is good for."""
    part_size: Annotated[Size | None, Field(ge=MIN_PART_SIZE)] = None
    """Default: `part_size`."""
    strategies: Annotated[tuple[Strategy, ...], Split] = tuple(Strategy)
    """Of `presigned_put`, `multipart` and `resumable`."""


Profiles = Annotated[dict[str, ProfileSettings], BeforeValidator(_parse_json)]


class DirectSettings(Area):
    """Uploads straight to the store."""

    direct_uploads: bool = True
    """Serve the session API (`/sessions`, described by `/openapi.json`) and the endpoints of Uppy's
    S3 plugin (`/s3`)."""
    companion_profile: str = "default"
    """The profile that Uppy's S3 plugin uploads to."""
    profiles: Profiles = Field(default_factory=dict)
    """Destinations beside the default one, as tables `[profiles.NAME]` in the file, or JSON."""
    validator_url: Endpoint | None = None
    """Address that is asked whether an upload that arrived is good, before it is available."""

    @field_validator("profiles")
    @classmethod
    def _check_profiles(cls, value: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        for name in value:
            if not _PROFILE_NAME.fullmatch(name) or name == "default":
                raise ValueError('name profiles with a-z, 0-9, "-" and "_"; "default" is there')
        return value
