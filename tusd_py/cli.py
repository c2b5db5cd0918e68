"""The command `tusd-py`: reads the settings, does one thing, says in a sentence what went wrong.

Owns arguments, exit codes and what is printed. Flags are made from `Settings`; nothing about a
setting is written twice. Exit codes: 0 done or stopped, 2 refused at start, 3 failed at start.
"""

import argparse
import asyncio
import difflib
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from tusd_py import __version__
from tusd_py.preparation import check_bucket, prepare_database, prepare_folders
from tusd_py.settings import (
    ENV_PREFIX,
    SECTIONS,
    TUSD_NAMES,
    Settings,
    SettingsError,
    mask_url,
)
from tusd_py.settings.sources import CONFIG_VARIABLE, Loaded, load
from tusd_py.telemetry import logs
from tusd_py.units import parse_size, show_duration, show_size

REFUSED = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
OPERATIONS = ("reap", "work", "jobs", "uploads", "doctor", "sign", "import_tusd")
"""Commands for operators: the modules of `tusd_py.commands`."""

_SETTINGS_TOO = (
    "It takes every setting as a flag as well, as in --data-dir FOLDER, and needs those of its "
    "server: `tusd-py serve --help` lists them. Beside `tusd-py dev` it finds them by itself."
)


class _Parser(argparse.ArgumentParser):
    def _parse_optional(self, arg_string: str) -> Any:
        # Ids of jobs and sessions may begin with a dash; every flag but -h begins with two.
        if arg_string[:1] == "-" and arg_string[:2] != "--" and arg_string != "-h":
            return None
        return super()._parse_optional(arg_string)

    def error(self, message: str) -> NoReturn:
        flags = [f"--{name.replace('_', '-')}" for name in Settings.model_fields]
        unknown = next((word for word in message.split() if word.startswith("--")), "")
        close = difflib.get_close_matches(unknown.partition("=")[0], flags, n=1)
        advice = f"did you mean {close[0]}?" if close else "--help lists what there is"
        self.exit(REFUSED, f"{self.prog}: {message}; {advice}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    parsed = vars(build_parser().parse_args(arguments))
    command: Callable[..., int] = parsed.pop("command")
    own = {name: parsed.pop(name) for name in parsed.pop("own", ())}
    try:
        code = command(_loaded(command, parsed), **own)
        sys.stdout.flush()
        return code
    except SettingsError as error:
        return refuse(*error.problems)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough, as `head` has. What is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def build_parser() -> argparse.ArgumentParser:
    """The commands and, for each, a flag for every setting."""
    parser = _Parser(
        prog="tusd-py",
        description="A resumable-upload server: the tus 1.0.0 protocol in front of S3.",
        epilog=f"Every flag can also be written as a variable ({ENV_PREFIX}PORT=9000) or as a line "
        "of a TOML file (port = 9000). Flags win over variables, variables over the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tusd-py {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, command, text in (
        ("serve", serve, "Serve uploads into your bucket."),
        ("dev", dev, "Try it: server, database, S3 engine and page, all on this machine."),
        ("migrate", migrate, "Bring the database to the schema of this version."),
        ("settings", show_settings, "Print the settings that are in effect, and where from."),
    ):
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            usage=f"tusd-py {name} [--config FILE] [--FLAG VALUE ...]",
            allow_abbrev=False,
        )
        sub.set_defaults(command=command)
        _add_flags(sub)
    for name in OPERATIONS:
        operation = import_module(f"tusd_py.commands.{name}")
        sub = commands.add_parser(
            name.replace("_", "-"),
            help=operation.TEXT,
            description=operation.TEXT,
            epilog=_SETTINGS_TOO,
            allow_abbrev=False,
        )
        operation.add_arguments(sub)
        own = [action.dest for action in sub._actions if action.dest != "help"]
        sub.set_defaults(command=partial(_operate, operation.run), own=own)
        _add_flags(sub, told=False)
    return parser


def _operate(operation: Callable[..., int], loaded: Loaded, **own: Any) -> int:
    from tusd_py.demo import recorded

    with recorded.used(loaded) as settings:
        return operation(settings, **own)


def serve(loaded: Loaded) -> int:
    """Checks what the server stands on, then serves until it is told to stop."""
    from tusd_py import server

    settings = loaded.settings
    settings.require_bucket()
    logs.configure(style=settings.log_format, level=settings.log_level)
    prepare_folders(settings)
    prepare_database(settings)
    asyncio.run(check_bucket(settings))
    return server.run(settings)


def dev(loaded: Loaded) -> int:
    """Everything on this machine, for trying and developing."""
    from tusd_py.demo import dev as everything

    settings = everything.settle(loaded)
    logs.configure(style=settings.log_format, level=settings.log_level)
    prepare_folders(settings)
    prepare_database(settings, migrating=True)
    return everything.run(settings)


def migrate(loaded: Loaded) -> int:
    """Upgrades the schema; safe to run at any time, and by several at once."""
    prepare_database(loaded.settings, migrating=True)
    print(f"The schema of {mask_url(loaded.settings.database_url)} is up to date.")
    return 0


def show_settings(loaded: Loaded) -> int:
    """Prints a TOML file that would give the same settings, secrets masked."""
    values = loaded.settings.masked()
    for title, names in SECTIONS.items():
        print(f"# {title}")
        for name in names:
            line = f"{name} = {as_toml(name, values[name])}"
            if values[name] is None:
                line = f"# {name} is not set"
            origin = loaded.origins.get(name)
            print(f"{line:<40}  # {origin}" if origin else line)
        print()
    return 0


def refuse(*problems: str) -> int:
    """Prints the problems to standard error; returns the exit code for a refused start."""
    for problem in problems:
        sys.stderr.write(f"tusd-py: {problem}\n")
    return REFUSED


def as_toml(name: str, value: object) -> str:
    """A value as it could stand in the configuration file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return json.dumps(show_duration(value))
    if isinstance(value, int) and is_size(Settings.model_fields[name]):
        return json.dumps(show_size(value)) if value else "0"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value])
    if isinstance(value, dict):  # of profiles: JSON in a text, which the setting takes
        tables = (item.model_dump(mode="json", exclude_unset=True) for item in value.values())
        return json.dumps(json.dumps(dict(zip(value, tables, strict=True))))
    return json.dumps(str(value), ensure_ascii=False)


def is_size(field: FieldInfo) -> bool:
    """Whether the field takes `5MiB`."""
    kinds: list[Any] = [*field.metadata]
    for argument in getattr(field.annotation, "__args__", ()):
        kinds += getattr(argument, "__metadata__", ())
    return any(isinstance(kind, BeforeValidator) and kind.func is parse_size for kind in kinds)


def _add_flags(parser: argparse.ArgumentParser, *, told: bool = True) -> None:
    """A flag for every setting; unless `told`, help is silent about them."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"A TOML file with settings. [{CONFIG_VARIABLE}]",
    )
    for title, names in SECTIONS.items():
        group = parser.add_argument_group(title)
        for name in names:
            _add_flag(group, name, Settings.model_fields[name], told=told)


def _add_flag(group: argparse._ArgumentGroup, name: str, field: FieldInfo, *, told: bool) -> None:
    tusd = [other for other, ours in TUSD_NAMES.items() if ours == name]
    flags = [f"--{spelled.replace('_', '-')}" for spelled in (name, *tusd)]
    text = " ".join((field.description or "").split()).replace("%", "%%")
    if field.default_factory is None and field.default not in (None, "", ()):
        default = field.get_default()
        shown = ", ".join(default) if isinstance(default, tuple) else as_toml(name, default)
        shown = shown.strip('"')
        text = f"{text} Default: {shown}."
    text = f"{text} [{ENV_PREFIX}{name.upper()}]"
    if field.annotation is bool:
        group.add_argument(
            *flags,
            dest=name,
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help=text if told else argparse.SUPPRESS,
        )
    else:
        group.add_argument(
            *flags,
            dest=name,
            default=argparse.SUPPRESS,
            metavar=_placeholder(field),
            help=text if told else argparse.SUPPRESS,
        )


def _placeholder(field: FieldInfo) -> str:
    """What stands for the value in `--help`."""
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    if is_size(field):
        return "SIZE"
    known = {timedelta: "TIME", int: "NUMBER", float: "SECONDS", Path: "FOLDER"}
    return known.get(field.annotation, "VALUE") if isinstance(field.annotation, type) else "VALUE"


def _loaded(command: Callable[[Loaded], int], parsed: dict[str, Any]) -> Loaded:
    config = parsed.pop("config")
    if command is not dev:
        return load(parsed, config=config)
    from tusd_py.demo.dev import DEFAULTS

    return load(parsed, config=config, defaults=DEFAULTS)


if __name__ == "__main__":
    sys.exit(main())
