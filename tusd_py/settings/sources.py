"""Where settings come from: flags, `TUSD_…` variables, a TOML file; and what to say when wrong.

Owns the precedence flags > environment > file > defaults, and the sentences. Reads the TOML file,
nothing else. Knows nothing of what a setting means.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tusd_py.settings import ENV_PREFIX, TUSD_NAMES, Settings, SettingsError, shown
from tusd_py.units import show_duration, show_size
from tusd_storage.partplan import MIB

CONFIG_VARIABLE = "TUSD_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings with, for each name that somebody set, where."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
    defaults: Mapping[str, object] | None = None,
) -> Loaded:
    """Merges flags, `TUSD_…` variables and the TOML file (`config` or TUSD_CONFIG).

    `defaults` stand below all three. An empty variable counts as not set.

    Raises:
        SettingsError: with every problem found, one sentence each.
    """
    environ = os.environ if environ is None else environ
    path = config or environ.get(CONFIG_VARIABLE) or None
    values: dict[str, object] = dict(defaults or {})
    origins: dict[str, str] = {}
    for name, value in (_read_file(Path(path)) if path else {}).items():
        setting = TUSD_NAMES.get(name, name)
        values[setting], origins[setting] = value, f"{name} in {Path(path or '').name}"
    for variable, value in sorted(environ.items()):
        if variable.startswith(ENV_PREFIX) and variable != CONFIG_VARIABLE and value:
            name = variable.removeprefix(ENV_PREFIX).lower()
            name = TUSD_NAMES.get(name, name)
            values[name], origins[name] = value, variable
    for name, flag in (flags or {}).items():
        values[name], origins[name] = flag, f"--{name.replace('_', '-')}"
    try:
        return Loaded(settings=Settings.model_validate(values), origins=origins)
    except ValidationError as error:
        problems = [
            _sentence(detail, values, origins)
            for detail in error.errors()
            if detail["type"] != "default_factory_not_called"  # follows from another problem
        ]
        raise SettingsError(*dict.fromkeys(problems)) from None


def _read_file(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"The configuration file {path} cannot be read ({error.strerror}): "
            f"correct --config or {CONFIG_VARIABLE}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The configuration file {path} is not TOML ({error}): "
            'write lines like s3_bucket = "my-uploads"'
        ) from error


def _sentence(
    detail: ErrorDetails, values: Mapping[str, object], origins: Mapping[str, str]
) -> str:
    """One problem in words: where it was written, what it was, what to write instead."""
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if not name:
        return _advice(detail)
    origin = origins.get(name, name)
    if len(detail["loc"]) > 1 and name == "profiles":
        where = ".".join(str(step) for step in detail["loc"][1:])
        return f"{origin}, {where}: {_advice(detail)}"
    if detail["type"] == "extra_forbidden":
        return f"{origin}: there is no such setting; {_nearest(name, origin)}"
    return f"{origin} is {str(shown(name, values.get(name)))!r}: {_advice(detail)}"


def _advice(detail: ErrorDetails) -> str:
    context: Mapping[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            choices = str(context["expected"]).replace(" or ", ", ").replace("'", "")
            return f"write one of {choices}"
        case "int_parsing" | "int_type" | "int_from_float":
            return "write a whole number"
        case "bool_parsing" | "bool_type":
            return "write true or false"
        case "string_type" | "string_too_short":
            return "write a text that is not empty"
        case "tuple_type":
            return "write a list, or texts separated by commas"
        case "path_type":
            return "write the path of a folder"
        case "greater_than_equal":
            return f"write at least {_bound(context['ge'])}"
        case "less_than_equal":
            return f"write at most {_bound(context['le'])}"
        case "extra_forbidden":
            return "there is no such setting of a profile"
        case _:
            return detail["msg"]


def _bound(value: object) -> str:
    if isinstance(value, timedelta):
        return show_duration(value)
    return show_size(value) if isinstance(value, int) and value >= MIB else str(value)


def _nearest(name: str, origin: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.6)
    if not close:
        return "`tusd-py settings` lists them all"
    if origin.startswith(ENV_PREFIX):
        return f"did you mean {ENV_PREFIX}{close[0].upper()}?"
    return f"did you mean {close[0]}?"
