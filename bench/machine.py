"""What the kernel says of a process and everything it started, and of the machine."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds of the tree so far, of children that ended too."""
    # utime, stime, cutime, cstime; a child moves to its parent's c-fields when it is waited for.
    return sum(sum(map(int, fields[11:15])) for fields in map(_stat, tree(pid)) if fields) / (
        TICKS_PER_S
    )


def peak_bytes(pid: int) -> int:
    """Peak resident memory, each process's own peak summed."""
    return sum(_status(member, "VmHWM") for member in tree(pid))


def resident_bytes(pid: int) -> int:
    """Resident memory now, summed over the tree."""
    return sum(_status(member, "VmRSS") for member in tree(pid))


def stolen_s() -> float:
    """Processor seconds that the host gave to others while this machine wanted them."""
    fields = next(_lines("/proc/stat", "cpu "), "").split()
    return int(fields[7]) / TICKS_PER_S if len(fields) > 7 else 0.0


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]


def description() -> str:
    """Processor, cores, memory, kernel."""
    model = next(_lines("/proc/cpuinfo", "model name"), "unknown processor")
    memory = int(next(_lines("/proc/meminfo", "MemTotal"), "0 kB").split()[0]) / 2**20
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}"
    )


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def _status(pid: int, name: str) -> int:
    try:
        return int(next(_lines(f"/proc/{pid}/status", name), "0 kB").split()[0]) * 1024
    except OSError:
        return 0


def _lines(path: str, name: str) -> Iterator[str]:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            yield line[len(name) :].lstrip(" \t:")
