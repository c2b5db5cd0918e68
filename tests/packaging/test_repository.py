"""What must hold for the files themselves: layers, locks, and no trace of a machine."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
TEXT = {".py", ".md", ".toml", ".lock", ".js", ".mjs", ".json", ".html", ".css", ".txt", ".yaml"}
TEXT |= {".yml", ".sh", ".cfg", ".conf", ".service", ".c", ".svg", ""}


def tracked() -> list[Path]:
    """Files that git knows; none in an unpacked sdist."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_layers_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_architecture_names_every_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    cells = "".join(re.findall(r"(?m)^\| (`tusd_[^|]*) \|", page))
    named = set(re.findall(r"`([^`]+)`", cells))
    sources = (ROOT, ROOT / "storage", ROOT / "reaper")
    inits = (path for source in sources for path in source.glob("tusd_*/*/__init__.py"))
    packages = {".".join(path.parent.parts[-2:]) for path in inits}
    assert len(packages) > 10 and packages <= named
    for name in named:
        place = name.replace(".", "/")
        assert any((root / place).is_dir() or (root / f"{place}.py").exists() for root in sources)


def test_no_file_names_a_path_of_a_machine() -> None:
    if not (files := tracked()):
        pytest.skip("not a git checkout")
    home = re.compile(r"(?<![\w.~-])/(?:home|Users|root|work)/[a-z]", re.IGNORECASE)
    for path in files:
        if path.suffix in TEXT and path != Path(__file__):
            found = home.search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{path.relative_to(ROOT)}: {found.group() if found else ''}"


def test_what_is_built_is_not_committed() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    assert not [name for name in names if name.startswith("tusd_py/demo/static/")]
    assert not [name for name in names if "node_modules/" in name]
    assert not [name for name in names if name.endswith((".whl", ".tar.gz", ".log"))]


@pytest.mark.parametrize(
    "lock",
    [path for path in ROOT.glob("**/package-lock.json") if "node_modules" not in path.parts],
    ids=lambda path: path.parent.name,
)
def test_npm_locks_pin_hashes_and_name_no_other_registry(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    assert len(packages) > 1
    for name, package in packages.items():
        if name and not package.get("link"):
            assert package["integrity"].startswith("sha512-"), name
            resolved = package.get("resolved", "https://registry.npmjs.org/")
            assert resolved.startswith("https://registry.npmjs.org/"), name


def test_the_python_lock_pins_every_requirement_and_names_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    pinned = {_canonical(line.partition("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *(text for extra in project["project"]["optional-dependencies"].values() for text in extra),
        *(text for group in project["dependency-groups"].values() for text in group),
    ]
    assert {_canonical(Requirement(text).name) for text in wanted} <= pinned


def test_the_python_lock_can_be_installed_on_the_oldest_python_that_is_promised() -> None:
    """Debian 12 has 3.11.2: what asks for a later patch level could not be installed there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = f"{project['requires-python'].removeprefix('>=')}.0"
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = [line.partition("==") for line in lines if line and not line.startswith("#")]
    looked_at = 0
    for name, _, version in pinned:
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that is not needed here, or for another Python
        if installed.version == version:
            looked_at += 1
            wanted = installed.metadata.get("Requires-Python") or ""
            assert SpecifierSet(wanted).contains(oldest), f"{name} {version}: {wanted}"
    assert looked_at > len(pinned) * 0.8


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
