"""The embedded engine's keys and ports, which survive a restart."""

import json
import os
import random
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    pass
HOST = "127.0.0.1"

PORTS = (
    *("s3", "s3.grpc", "s3.https", "master", "master.grpc"),
    *("volume", "volume.grpc", "filer", "filer.grpc", "admin"),
)
PORT_RANGE = range(20_000, 32_000)
"""Below the range that systems take for outgoing connections."""
GRPC_OFFSET = 10_000
"""The engine's worker dials `admin + 10000`, whatever other flags say: that one is kept free."""


class EngineError(Exception):
    """The embedded engine cannot run; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What survives a restart: the key pair, and the ports that the engine's own data names."""

    access_key: str
    secret_key: str
    ports: Mapping[str, int]

    @classmethod
    def load(cls, path: Path) -> Self:
        """The stored identity; a new one for a new folder.

        Raises: EngineError.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return cls(
                access_key=f"TUSD{secrets.token_hex(8).upper()}",
                secret_key=secrets.token_urlsafe(30),
                ports=free_ports(),
            )
        except (ValueError, TypeError) as error:
            raise EngineError(f"the embedded engine's {path.name} is damaged") from error

    def on_free_ports(self) -> "Identity":
        """The same keys on the stored ports, or on new ones where any of those is taken."""
        ports = self.ports if all(map(_is_free, all_ports(self.ports))) else free_ports()
        return Identity(access_key=self.access_key, secret_key=self.secret_key, ports=ports)

    def store(self, path: Path) -> None:
        """Writes the file whole or not at all, readable by this user only."""
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(self), file)
        fresh.replace(path)


def free_ports() -> dict[str, int]:
    """A free port for every door of the engine, and room above the admin port."""
    numbers = (port for port in random.sample(PORT_RANGE, len(PORT_RANGE)) if _is_free(port))
    ports = {name: next(numbers) for name in PORTS}
    while not _is_free(ports["admin"] + GRPC_OFFSET):
        ports["admin"] = next(numbers)
    return ports


def all_ports(ports: Mapping[str, int]) -> list[int]:
    """Those named in `ports`, and the one the engine takes without being told."""
    return [*ports.values(), ports["admin"] + GRPC_OFFSET]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False
