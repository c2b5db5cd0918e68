"""State on this node: folders, database, and the node's name. Touches the disk in `node_name`."""

import os
import re
import secrets
import string
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tusd_py.settings.area import ENV_PREFIX, Area, SettingsError
from tusd_py.settings.kinds import Duration

NODE_FILE = "node"
NODE_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")

_DATABASE_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg", "postgres")

Synchronous = Literal["FULL", "NORMAL"]


class StateSettings(Area):
    """State on this node."""

    data_dir: Path = Path("data")
    """Folder for what this node keeps: the SQLite database, the node's name, the tails."""
    tmp_dir: Path = Field(default_factory=lambda values: values["data_dir"] / "tmp")
    """Folder for acknowledged bytes that are not yet a part (in `tus/` below it). Must survive a
    restart. Default: `tmp` in `data_dir`."""
    node: str | None = None
    """Name of this node, unique among the servers on one database: up to 16 of a-z, 0-9 and `-`.
    Default: a random name, made once and kept in the file `node` in `data_dir`."""
    database_url: str = Field(
        default_factory=lambda values: f"sqlite:///{values['data_dir'] / 'tusd.sqlite3'}"
    )
    """Where the state is kept: `postgresql://user:password@host/name`, or `sqlite:///path`.
    Default: `tusd.sqlite3` in `data_dir`."""
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    """Connections to PostgreSQL that one process may hold."""
    database_wait_timeout: Duration = Field(default=timedelta(seconds=5), gt=timedelta())
    """How long a request may wait for its turn at the database before it gets 503. What has
    arrived of a body is committed however long that takes."""
    sqlite_synchronous: Synchronous = "FULL"
    """`FULL` keeps what was acknowledged through a power loss; `NORMAL` is faster and may not."""

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        if value.partition("://")[0] not in _DATABASE_SCHEMES or "://" not in value:
            raise ValueError('write "postgresql://user:password@host/name" or "sqlite:///path"')
        return value

    @field_validator("node")
    @classmethod
    def _check_node(cls, value: str | None) -> str | None:
        if value is not None and not NODE_PATTERN.fullmatch(value):
            raise ValueError('write up to 16 of a-z, 0-9 and "-", as in "upload-1"')
        return value

    def node_name(self) -> str:
        """The node's name: `node`, or the one kept in `data_dir`, made at the first call.

        Several processes may call it at once; all get the same name.

        Raises:
            SettingsError: the folder cannot be written, or its file holds something else.
        """
        if self.node is not None:
            return self.node
        path = self.data_dir / NODE_FILE
        try:
            return _read_node(path) or _make_node(path)
        except OSError as error:
            raise SettingsError(
                f"The node's name cannot be kept in data_dir ({error.strerror}): "
                f"make the folder writable, or write {ENV_PREFIX}NODE=name"
            ) from error


def _read_node(path: Path) -> str | None:
    try:
        name = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not NODE_PATTERN.fullmatch(name):
        raise SettingsError(
            f"The file {path.name!r} in data_dir does not hold a node's name: delete it to get a "
            f"new one, or write {ENV_PREFIX}NODE=name"
        )
    return name


def _make_node(path: Path) -> str:
    """Makes the file whole or not at all: whoever links first wins, the others read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    alphabet = string.ascii_lowercase + string.digits
    name = "n-" + "".join(secrets.choice(alphabet) for _ in range(8))
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("x", encoding="ascii") as file:
            file.write(name + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return _read_node(path) or name
    finally:
        draft.unlink(missing_ok=True)
    return name
