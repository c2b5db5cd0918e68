"""The two C programs, compiled when they are older than their source."""

import subprocess
from pathlib import Path

from bench.processes import Failed

HERE = Path(__file__).resolve().parent
SOURCES = {"load": HERE / "load" / "load.c", "nulls3": HERE / "nulls3" / "nulls3.c"}


def build(name: str, cache: Path) -> Path:
    """The program's path. Raises Failed."""
    source, target = SOURCES[name], cache / "bin" / name
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(target), str(source), "-lpthread"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise Failed("a C compiler is missing: `cc` must be on the path") from None
    except subprocess.CalledProcessError as error:
        raise Failed(f"{source.name} does not compile:\n{error.stderr}") from error
    return target
