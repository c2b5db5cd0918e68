"""What is in the wheel and the sdist, and that the wheel works where it is installed."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import Engine
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, TusClient
from tusd_py import __version__

ROOT = Path(__file__).resolve().parents[2]
BUILT_PAGE = ROOT / "tusd_py" / "demo" / "static" / "upload.js"


def build(kind: str, source: Path, target: Path) -> Path:
    """Builds with hatchling itself: no index is asked."""
    call = f"import hatchling.build as b; print(b.build_{kind}({str(target)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", call],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # The page is built by make, or not at all: npm takes longer than all else here.
        env=os.environ | {"PATH": os.environ["PATH"] if BUILT_PAGE.exists() else ""},
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_three_packages_and_nothing_else_at_its_top(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names(wheel)}
    assert tops == {
        "tusd_py",
        "tusd_storage",
        "tusd_reaper",
        f"tusd_py-{__version__}.dist-info",
    }


def test_every_module_of_the_tree_is_in_the_wheel(wheel: Path) -> None:
    roots = (ROOT, ROOT / "storage", ROOT / "reaper")
    packages = ("tusd_py", "tusd_storage", "tusd_reaper")
    modules = {
        path.relative_to(root).as_posix()
        for root, package in zip(roots, packages, strict=True)
        for path in (root / package).rglob("*.py")
        if "node_modules" not in path.parts
    }
    assert modules <= set(names(wheel))


def test_the_wheel_carries_the_pages_and_not_their_sources(wheel: Path) -> None:
    inside = names(wheel)
    assert {"tusd_py/demo/html/plain.html", "tusd_py/web/base.css"} <= set(inside)
    assert not [name for name in inside if name.startswith("tusd_py/demo/web/")]
    if BUILT_PAGE.exists():
        assert "tusd_py/demo/static/upload.js" in inside
        assert "tusd_py/demo/static/licenses.txt" in inside


def test_the_wheel_carries_the_licence(wheel: Path) -> None:
    assert f"tusd_py-{__version__}.dist-info/licenses/LICENSE" in names(wheel)


def test_the_sdist_has_sources_and_tests_and_builds_the_same_wheel(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    top = {path.name for path in source.iterdir()}
    assert top <= {
        *("tusd_py", "storage", "reaper", "tests", "deploy", "docs", "mkdocs.yml", ".ci"),
        *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile"),
        *("pyproject.toml", "requirements.lock", "hatch_build.py", "PKG-INFO", ".gitignore"),
    }
    assert not list(source.rglob("node_modules"))
    assert (source / "tusd_py/demo/web/package-lock.json").exists()
    again = build("wheel", source, tmp_path)
    assert sorted(names(again)) == sorted(names(wheel))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh environment with the wheel; its dependencies are this one's."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # `--python`: with `--prefix`, pip would uninstall the checkout it is running in.
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        timeout=120,
    )
    import pydantic

    dependencies = Path(pydantic.__file__).parents[1]
    # Without this tree's own editable entries: .pth files count only in a site folder.
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    yield folder


def run(installed: Path, *command: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(installed)}
    done = subprocess.run(
        [str(installed / "bin" / command[0]), *command[1:]],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_command_tells_its_version(installed: Path) -> None:
    assert run(installed, "tusd-py", "--version") == f"tusd-py {__version__}\n"
    assert "part_size" in run(installed, "tusd-py", "settings")
    assert "is up to date" in run(installed, "tusd-py", "migrate")


def test_the_installed_packages_are_the_wheels(installed: Path) -> None:
    code = "import tusd_py, tusd_storage, tusd_reaper as r; from tusd_py import demo, app, server\n"
    code += "print(tusd_py.__file__, tusd_storage.__file__, r.__file__, app.__file__)"
    for path in run(installed, "python", "-c", code).split():
        assert Path(path).is_relative_to(installed)


def test_the_installed_server_takes_an_upload(
    installed: Path, seaweed: Engine, tmp_path: Path
) -> None:
    data = os.urandom(6 * 1024 * 1024 + 7)
    prefix = seaweed.prefix()
    server = ServerProcess(
        tmp_path / "server",
        seaweed,
        executable=installed / "bin" / "tusd-py",
        extra_env={"TUSD_S3_PREFIX": prefix, "PYTHONPATH": ""},
    )
    bucket = Bucket(seaweed, prefix)
    with server:
        url = TusClient(server.uploads_url).upload(data, chunk=4 * 1024 * 1024)
        assert bucket.read(url) == data
    bucket.close()


def test_every_package_in_the_wheel_is_typed(wheel: Path) -> None:
    inside = names(wheel)
    for package in ("tusd_py", "tusd_storage", "tusd_reaper"):
        assert f"{package}/py.typed" in inside
