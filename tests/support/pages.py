"""The code that README and docs show, found in its page and run as a reader would run it.

Knows nothing of what an example must print or do: tests replace addresses and look at the effects.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.engines import Engine
from tests.support.node import CLIENTS, require_node
from tests.support.process import ROOT, ServerProcess, free_port, program_environment

DOCS = ROOT / "docs"
ROOT_URL = "http://localhost:8080"
ENDPOINT = f"{ROOT_URL}/files/"


@dataclass(frozen=True, slots=True)
class Page:
    """The text of a Markdown file."""

    text: str

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language, in order."""
        return re.findall(rf"(?ms)^```{language}\n(.*?)^```", self.text)

    def block(self, language: str, containing: str) -> str:
        """The one block of a language that has the text."""
        (found,) = [text for text in self.blocks(language) if containing in text]
        return found

    def inline(self, beginning: str) -> list[str]:
        """The pieces of code in running text that begin so, in order."""
        found = re.findall(r"(?<!`)`([^`]+)`(?!`)", self.text)
        return [piece for piece in found if piece.startswith(beginning)]


def page(name: str) -> Page:
    """A page of the documentation."""
    return Page((DOCS / name).read_text(encoding="utf-8"))


def readme() -> Page:
    """README.md."""
    return Page((ROOT / "README.md").read_text(encoding="utf-8"))


def run(
    command: list[str], folder: Path, text: str, extra_env: Mapping[str, str] | None = None
) -> str:
    """What a command prints that gets the text on its standard input. Raises: AssertionError."""
    result = subprocess.run(
        command,
        cwd=folder,
        input=text,
        env=program_environment(extra_env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_python(code: str, folder: Path) -> str:
    """What a Python example prints."""
    return run([sys.executable, "-"], folder, code)


def run_tus_js(code: str, folder: Path) -> str:
    """The URL that the tus-js-client example prints, of the folder's `video.mp4`."""
    node = require_node()
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    file = (
        'import { readFileSync } from "node:fs";\n'
        'const file = Object.assign(readFileSync("video.mp4"), '
        '{ name: "video.mp4", type: "video/mp4" });\n'
    )
    (folder / "example.mjs").write_text(file + code)
    return run([node, "example.mjs"], folder, "").strip().rpartition("done: ")[2]


def application(
    folder: Path,
    engine: Engine,
    code: str,
    *,
    ready_path: str = "/ready",
    extra_env: Mapping[str, str] | None = None,
) -> ServerProcess:
    """`uvicorn example:app` with the code as example.py and settings in variables; not started."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "example.py").write_text(code)
    port = free_port()
    return ServerProcess(
        folder,
        engine,
        port=port,
        executable=Path(sys.executable),
        command="-m",
        arguments=["uvicorn", "example:app", "--port", str(port)],
        ready_path=ready_path,
        extra_env={"TUSD_S3_PREFIX": engine.prefix()} | dict(extra_env or {}),
    )
