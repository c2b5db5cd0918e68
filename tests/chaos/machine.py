"""What a machine can do to a server: a clock that jumps, a disk that is full.

Both are possible only where they are: a C compiler for the clock, the right to mount for the disk.
"""

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


class Impossible(Exception):
    """Not on this machine; the message says what is missing."""


class Clock:
    """The wall clock of one server, over all its restarts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        library, ahead = folder / "clock.so", folder / "clock-ahead"
        compiler = shutil.which("cc")
        if compiler is None:
            raise Impossible("a C compiler is missing")
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        ahead.write_bytes(struct.pack("=q", 0))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(ahead)}
        with ahead.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    def set_ahead(self, seconds: int) -> None:
        """At once, for the running process and those to come."""
        self._memory[:] = struct.pack("=q", seconds)


class Disk:
    """A small file system of its own at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, free: int) -> None:
        """Leaves about `free` bytes."""
        room = os.statvfs(self.folder)
        size = room.f_bavail * room.f_frsize - free
        with suppress(OSError), self._ballast.open("ab") as file:  # others write meanwhile
            while size > 0:
                size -= file.write(bytes(min(size, 1 << 20)))

    def free(self) -> None:
        """As before."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def mounted_disk(folder: Path, size: int) -> Iterator[Disk]:
    """A file system of `size` bytes. Raises: Impossible."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "chaos", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Impossible("mounting a file system is not allowed") from error
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
