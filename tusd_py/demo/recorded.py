"""What the last `tusd-py dev` on a data folder ran with: commands beside it need no settings.

Owns `dev.json` in the data folder, and the command that people are shown. The keys stay where the
engine keeps them.
"""

import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tusd_py.demo.engine_identity import HOST, EngineError, Identity
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import Loaded

FILE = "dev.json"
STORE = "s3"
"""The engine's folder in the data folder."""
PROGRAM = "tusd-py"
_SQLITE = "sqlite:///"
_OWN_STORE = ("s3_endpoint", "s3_public_endpoint")


def record(settings: Settings) -> None:
    """Keeps what was set, readable by this user only. Raises: SettingsError."""
    values = settings.model_dump(mode="json", exclude_unset=True, exclude={"data_dir"})
    if "tmp_dir" in values:
        values["tmp_dir"] = str(settings.tmp_dir.resolve())
    if "database_url" in values and settings.database_url.startswith(_SQLITE):
        path = Path(settings.database_url.removeprefix(_SQLITE)).resolve()
        values["database_url"] = f"{_SQLITE}{path}"
    path = settings.data_dir / FILE
    fresh = path.with_suffix(".new")
    try:
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file)
        fresh.replace(path)
    except OSError as error:
        raise SettingsError(
            f"{FILE} cannot be written in data_dir ({error.strerror}): make the folder writable"
        ) from error


@contextmanager
def used(loaded: Loaded) -> Iterator[Settings]:
    """The settings for a command: with those of `dev` below them, where no other store is named.

    The environment holds the engine's keys, and no others, inside the block.
    Raises: SettingsError.
    """
    found = _find(loaded)
    if found is None:
        yield loaded.settings
        return
    settings, identity = found
    idle = "" if _answers(identity) else " (it is not running: its store cannot be asked)"
    sys.stderr.write(
        f"{PROGRAM}: these are the uploads of `{PROGRAM} dev` in {settings.data_dir}{idle}\n"
    )
    with only_keys(identity.access_key, identity.secret_key):
        yield settings


def _find(loaded: Loaded) -> tuple[Settings, Identity] | None:
    own = loaded.settings
    kept, keys = own.data_dir / FILE, own.data_dir / STORE / "engine.json"
    if any(name in loaded.origins for name in _OWN_STORE) or not keys.is_file():
        return None
    try:
        values = json.loads(kept.read_text(encoding="utf-8"))
        if own.s3_bucket not in ("", values["s3_bucket"]):
            return None
        chosen = own.model_dump(mode="json", include=set(loaded.origins))
        return Settings.model_validate(values | chosen), Identity.load(keys)
    except FileNotFoundError:
        return None
    except EngineError as error:
        raise SettingsError(str(error)) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"{FILE} in data_dir is damaged, or of another version: start `{PROGRAM} dev` once more"
        ) from error


def _answers(identity: Identity) -> bool:
    with suppress(OSError), socket.create_connection((HOST, identity.ports["s3"]), timeout=1):
        return True
    return False


@contextmanager
def only_keys(access_key: str, secret_key: str) -> Iterator[None]:
    """The engine's keys, in this process' environment only, and no profile beside them."""
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ |= before


def listing_command(settings: Settings) -> str:
    """The command that lists the uploads, as it works in a terminal in this folder."""
    words = [*_program(), "uploads", "ls"]
    if settings.data_dir != Settings.model_fields["data_dir"].default:
        words += ["--data-dir", str(settings.data_dir)]
    return shlex.join(words)


def listing_command_without_paths(settings: Settings) -> str:
    """As `listing_command`; the program's name alone where that would show an absolute path."""
    command = listing_command(settings)
    absolute = any(Path(word).is_absolute() for word in shlex.split(command))
    return f"{PROGRAM} uploads ls" if absolute else command


def _program() -> list[str]:
    called = Path(sys.argv[0])
    if called.name != PROGRAM:
        return [_shortest(Path(sys.executable)), "-m", "tusd_py.cli"]
    found = shutil.which(PROGRAM)
    if found is not None and called.exists() and Path(found).samefile(called):
        return [PROGRAM]
    return [_shortest(called)]


def _shortest(path: Path) -> str:
    """Relative below this folder. No link is followed: an environment's Python is one."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)
