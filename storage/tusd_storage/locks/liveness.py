"""Whether another process of this node still lives, by the lock it holds on a file.

The kernel drops the lock when the process dies, however it dies. Owns `<folder>/<instance>.alive`.
"""

import fcntl
import os
from pathlib import Path

SUFFIX = ".alive"


class ProcessLock:
    """Held from start to exit of a process; lets siblings on this node tell it from a dead one."""

    def __init__(self, folder: Path, instance: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.instance = instance
        self._folder = folder
        self._path = folder / (instance + SUFFIX)
        self._fd = self._locked()
        self._remove_dead()

    def _locked(self) -> int:
        """The lock on a file that is still there: before it is locked it looks like a dead one's,
        and a sibling that starts at the same moment may remove it."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)

    def is_dead(self, instance: str) -> bool:
        """Whether the process that wrote under this name is certainly gone.

        Only meaningful for an instance of this node. A name without a file is dead: the file is
        made before the first lease and removed after the last, or by a sibling once it is dead.
        """
        try:
            fd = os.open(self._folder / (instance + SUFFIX), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(fd)

    def close(self) -> None:
        """Gives the lock back."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def _remove_dead(self) -> None:
        for path in self._folder.glob("*" + SUFFIX):
            if path != self._path and self.is_dead(path.name.removesuffix(SUFFIX)):
                path.unlink(missing_ok=True)
