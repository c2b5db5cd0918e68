"""Writes docs/configuration.md from the settings: `python docs/write_configuration.py`.

A test compares the page with what this makes.
"""

import types
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from tusd_py.cli import as_toml, is_size
from tusd_py.settings import (
    ENV_PREFIX,
    SECTIONS,
    TUSD_NAMES,
    ProfileSettings,
    Settings,
)
from tusd_py.settings.sources import CONFIG_VARIABLE
from tusd_py.units import show_duration

PAGE = Path(__file__).with_name("configuration.md")

HEAD = f"""# Configuration

<!-- Written by docs/write_configuration.py from tusd_py/settings/: change it there. -->

Every setting is a flag, a variable or a line of a TOML file. Flags win over variables, variables
over the file. These three say the same:

```sh
tusd-py serve --s3-bucket my-uploads --expires-in 12h
TUSD_S3_BUCKET=my-uploads TUSD_EXPIRES_IN=12h tusd-py serve
tusd-py serve --config tusd.toml
```

```toml
# tusd.toml
s3_bucket = "my-uploads"
expires_in = "12h"
```

`{CONFIG_VARIABLE}` names the file where `--config` does not. A name that does not exist, or a value
that makes no sense, is refused at start with a sentence that says what to write.
`tusd-py settings` prints what is in effect and where it was written; passwords are masked.

A *size* is a number of bytes or a text such as `"5MiB"` or `"20MB"`. A *time* is a number of
seconds or a text such as `"90s"`, `"10m"`, `"24h"` or `"7d"`. A *list* is a list, or a text with
commas.
For `name` the flag is `--name` with dashes, the variable `{ENV_PREFIX}NAME`. A setting that is true
or false has a second flag, `--no-name`.
"""

PROFILES = """
## Settings of a profile

A profile is a named destination with limits of its own: a table `[profiles.NAME]` in the file, or
JSON in `TUSD_PROFILES`.

```toml
[profiles.pictures]
prefix = "pictures/"
content_types = ["image/*"]
max_size = "20MB"
```
"""


def text() -> str:
    """The whole page."""
    lines = [HEAD]
    for title, names in SECTIONS.items():
        lines += [f"## {title}\n"]
        for name in names:
            lines += entry(name, Settings.model_fields[name])
    lines += [PROFILES]
    for name, field in ProfileSettings.model_fields.items():
        lines += entry(name, field, within="profiles.NAME.")
    return "\n".join(lines).rstrip("\n") + "\n"


def entry(name: str, field: FieldInfo, *, within: str = "") -> list[str]:
    """Heading, facts and description of one setting."""
    facts = [kind(name, field), *bounds(field), *default(name, field)]
    description = (field.description or "").strip()
    for other, ours in TUSD_NAMES.items():
        if ours == name and not within:
            description += f" tusd's name, `{other}`, is taken as well."
    return [f"### `{within}{name}`\n", f"{'; '.join(facts)}.\n", description, ""]


def kind(name: str, field: FieldInfo) -> str:
    """What may be written, in words."""
    if is_size(field):
        return "A size"
    bare = _bare(field.annotation)
    if name.endswith("_file"):
        return "A file"
    if get_origin(bare) is Literal:
        return "One of " + ", ".join(f"`{choice}`" for choice in get_args(bare))
    if get_origin(bare) is tuple:
        networks = "of networks " if _is_network(bare) else ""
        return f"A list {networks}".rstrip()
    if get_origin(bare) is dict:
        return "Tables"
    words = {
        bool: "True or false",
        int: "A number",
        float: "A number of seconds",
        timedelta: "A time",
        Path: "A folder",
        str: "A text",
    }
    return words.get(bare, "A text")


def bounds(field: FieldInfo) -> list[str]:
    """The least and the most, where there are any."""
    found = []
    for metadata in field.metadata:
        for attribute, word in (("ge", "at least"), ("le", "at most")):
            value = getattr(metadata, attribute, None)
            if value is not None and value not in (0, timedelta()):
                found.append(f"{word} `{_shown(field, value)}`")
    return found


def default(name: str, field: FieldInfo) -> list[str]:
    """Where the description does not tell it."""
    if field.default_factory is not None or field.default in (None, "", ()):
        return []
    value = field.default
    if isinstance(value, bool | int | float) and not is_size(field):
        return [f"default `{str(value).lower() if isinstance(value, bool) else f'{value:g}'}`"]
    if isinstance(value, tuple):
        return ["default `" + ", ".join(map(str, value)) + "`"]
    if name in Settings.model_fields and not isinstance(value, timedelta):
        shown = as_toml(name, value).strip('"')
        return [f"default `{shown}`"]
    return [f"default `{_shown(field, value)}`"]


def _shown(field: FieldInfo, value: Any) -> str:
    if isinstance(value, timedelta):
        return show_duration(value)
    if is_size(field):
        return as_toml("part_size", value).strip('"')
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bare(annotation: Any) -> Any:
    """Without None and Annotated."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) in (Union, types.UnionType):
        return _bare(next(one for one in get_args(annotation) if one is not type(None)))
    return annotation


def _is_network(annotation: Any) -> bool:
    return IPv4Network in get_args(_bare(get_args(annotation)[0])) or "Network" in repr(annotation)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
