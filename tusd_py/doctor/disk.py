"""The folder for tails: can it be written, does it outlive a restart, has it room? Blocking."""

import os
import shutil
import tempfile
from pathlib import Path

from tusd_py.doctor.findings import Finding, broken, ok, skipped, warning
from tusd_py.units import show_size
from tusd_storage.partplan import GIB, MIB

MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
NO_ROOM = 64 * MIB
LITTLE_ROOM = GIB
_SETTING = "TUSD_TMP_DIR"


def examine(folder: Path, *, mounts: Path = MOUNTS) -> list[Finding]:
    """All checks of the folder that holds acknowledged bytes."""
    writable = _writable(folder)
    if writable.mend:
        why = "The folder cannot be written."
        return [writable, skipped("tmp.durable", why), skipped("tmp.room", why)]
    return [writable, _durable(folder, mounts), _room(shutil.disk_usage(folder).free)]


def _writable(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        what = f"The folder for tails cannot be written ({error.strerror})."
        return broken("tmp.writable", what, f"Make it writable, or set {_SETTING} to another.")
    return ok("tmp.writable", "Tails can be written and flushed.")


def _durable(folder: Path, mounts: Path) -> Finding:
    check = "tmp.durable"
    kind = filesystem(folder, mounts)
    if kind is None:
        return skipped(check, "This system does not tell what the folder is on.")
    if kind in IN_MEMORY:
        what = (
            f"The folder for tails is on {kind}: a restart of the machine loses acknowledged bytes."
        )
        return broken(check, what, f"Set {_SETTING} to a folder on a disk.")
    if kind == "overlay":
        what = "The folder for tails is inside a container's own layer: it goes with the container."
        return warning(check, what, f"Mount a volume, and set {_SETTING} to a folder on it.")
    return ok(check, f"The folder for tails is on {kind}.")


def filesystem(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the file system the folder is on (proc(5), mountinfo); None where unknown."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    real = folder.resolve()
    best: tuple[int, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))
        if real.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), after.split()[0])
    return best[1] if best else None


def _room(free: int) -> Finding:
    unit = GIB if free >= 10 * GIB else MIB
    check, what = "tmp.room", f"{show_size(free // unit * unit)} are free for tails."
    mend = f"Make room, or set {_SETTING} to a folder on a larger disk."
    if free < NO_ROOM:
        return broken(check, what, mend)
    if free < LITTLE_ROOM:
        return warning(check, what, mend)
    return ok(check, what)
