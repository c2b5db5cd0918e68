"""The servers that are compared: how each is installed, started, and configured for the store.

Every one gets 5 MiB parts where that can be set, path-style addressing, one process, its own
defaults otherwise. Peers come from the package registries, into the cache folder.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.processes import Program, free_port
from bench.stores import Store

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).resolve().parent / "peers"
PART_SIZE = 5 * 2**20


class Missing(Exception):
    """A server cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Launch:
    """What starts a server."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One column of the table."""

    key: str
    title: str
    install: Callable[[Path], str]
    """Makes it available in the cache; returns its version. Raises Missing."""
    launch: Callable[[Path, int, Path, Store], Launch]
    """From the cache, the port, a folder for state, and the store."""
    path: str = "/files/"
    note: str = ""
    uses_store: bool = True
    """Whether it is measured where the store makes the difference."""

    def program(self, cache: Path, folder: Path, store: Store) -> Program:
        """The server, not started yet."""
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        launch = self.launch(cache, port, folder, store)
        environment = {**credentials(store), **launch.environment, "TMPDIR": str(folder)}
        return Program(
            self.key,
            launch.command,
            port=port,
            path=self.path,
            folder=folder,
            environment=environment,
        )


def credentials(store: Store) -> dict[str, str]:
    """As every AWS client finds them, and the store's place for the small programs in `peers/`."""
    return {
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_REGION": store.region,
        "AWS_DEFAULT_REGION": store.region,
        "BENCH_S3_ENDPOINT": store.endpoint,
        "BENCH_S3_BUCKET": store.bucket,
        "BENCH_PART_SIZE": str(PART_SIZE),
    }


# -- This project


def _install_own(cache: Path) -> str:
    """What people install, without what the tests need; the code itself is this tree."""
    from tusd_py import __version__

    lock = ROOT / "requirements.lock"
    wanted = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    folder = cache / "own"
    if not (folder / wanted).exists():
        _must([sys.executable, "-m", "venv", "--clear", str(folder)], cache)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _must([*pip, "-c", str(lock), f"{ROOT}[postgres]"], cache)
        (folder / wanted).touch()
    described = run_quietly(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    return f"{__version__} ({described})" if described else __version__


def _own(
    extra: Mapping[str, str],
    database: str | None,
    cache: Path,
    port: int,
    folder: Path,
    store: Store,
) -> Launch:
    environment = {
        "TUSD_PORT": str(port),
        "TUSD_DATA_DIR": str(folder / "data"),
        "TUSD_S3_ENDPOINT": store.endpoint,
        "TUSD_S3_BUCKET": store.bucket,
        "TUSD_S3_ADDRESSING_STYLE": "path",
        "TUSD_LOG_LEVEL": "warning",
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "storage", "reaper")),
        **extra,
    }
    if database:
        environment["TUSD_DATABASE_URL"] = database
    # As at every start but the first: otherwise what migrates stays in the server's memory.
    python = str(cache / "own" / "bin" / "python")
    _must([python, "-m", "tusd_py.cli", "migrate"], folder, **environment)
    return Launch([python, "-m", "tusd_py.cli", "serve"], environment)


FAST = {"TUSD_TAIL_FSYNC": "false", "TUSD_SQLITE_SYNCHRONOUS": "NORMAL"}


# -- npm


def _install_node(cache: Path) -> str:
    folder = cache / "node"
    if not (folder / "node_modules" / "@tus" / "s3-store").exists():
        _need("node", "npm")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"name": "bench", "private": true}')
        _must(["npm", "install", "--no-audit", "--no-fund", "@tus/server", "@tus/s3-store"], folder)
    versions = [
        json.loads((folder / "node_modules" / "@tus" / name / "package.json").read_text())
        for name in ("server", "s3-store")
    ]
    node = run_quietly(["node", "--version"])
    return " + ".join(f"{v['name']} {v['version']}" for v in versions) + f", Node {node}"


def _node(cache: Path, port: int, _: Path, __: Store) -> Launch:
    # Modules are looked up from where the script lies.
    script = cache / "node" / "tus-node.mjs"
    shutil.copyfile(PEERS / "tus-node.mjs", script)
    return Launch(["node", str(script)], {"BENCH_PORT": str(port), "NODE_ENV": "production"})


# -- PyPI


def _install_python(name: str, minor: int, packages: Sequence[str], asked: str, cache: Path) -> str:
    folder = cache / name
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        interpreter = find_python(minor)
        if interpreter is None:
            raise Missing(f"Python 3.{minor} is not on this machine")
        _must([interpreter, "-m", "venv", "--clear", str(folder)], cache)
        _must([str(python), "-m", "pip", "install", "--quiet", *packages], cache)
        (folder / ".installed").touch()
    code = (
        "import sys, importlib.metadata as m; names = sys.argv[1:];"
        "print(', '.join(f'{n} {m.version(n)}' for n in names),"
        "'on Python', sys.version.split()[0])"
    )
    return run_quietly([str(python), "-c", code, asked, "boto3", "uvicorn"])


def _uvicorn(name: str, app: str, cache: Path, port: int, _: Path, __: Store) -> Launch:
    command = [str(cache / name / "bin" / "python"), "-m", "uvicorn", app]
    flags = ["--app-dir", str(PEERS), "--port", str(port), "--loop", "uvloop"]
    return Launch(
        [*command, *flags, "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    )


def find_python(minor: int) -> str | None:
    """An interpreter of this version that really runs: version managers leave shims behind."""
    names = [
        *(Path(folder) / f"python3.{minor}" for folder in os.get_exec_path()),
        *(Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python"),
    ]
    return next(
        (
            str(name)
            for name in names
            if name.exists()
            and run_quietly([str(name), "--version"]).startswith(f"Python 3.{minor}")
        ),
        None,
    )


# -- Go and Rust


def _install_tusd(cache: Path) -> str:
    binary = cache / "tusd" / "tusd"
    if not binary.exists():
        _need("go")
        module = "github.com/tus/tusd/v2/cmd/tusd@latest"
        _must(["go", "install", module], cache, GOBIN=str(binary.parent))
    lines = run_quietly(["go", "version", "-m", str(binary)]).splitlines()
    version = next((line.split()[2] for line in lines if line.split()[:1] == ["mod"]), "unknown")
    return f"tusd {version}"


def _tusd(cache: Path, port: int, folder: Path, store: Store) -> Launch:
    flags = {
        "host": "127.0.0.1",
        "port": port,
        "base-path": "/files/",
        "s3-bucket": store.bucket,
        "s3-endpoint": store.endpoint,
        "s3-part-size": PART_SIZE,
        "s3-min-part-size": PART_SIZE,
    }
    binary = str(cache / "tusd" / "tusd")
    return Launch([binary, *(f"-{name}={value}" for name, value in flags.items())])


def _install_rustus(cache: Path) -> str:
    binary = cache / "rustus" / "bin" / "rustus"
    if not binary.exists():
        _need("cargo")
        _must(
            ["cargo", "install", "rustus", "--root", str(binary.parents[1]), "--jobs", "1"], cache
        )
    return run_quietly([str(binary), "--version"])


def _rustus(cache: Path, port: int, folder: Path, _: Store) -> Launch:
    flags = {
        "host": "127.0.0.1",
        "port": port,
        "url": "/files",
        "data-dir": folder / "data",
        "info-dir": folder / "info",
        "max-body-size": 2**31,
        "log-level": "ERROR",
    }
    command = [str(cache / "rustus" / "bin" / "rustus")]
    return Launch([*command, *(item for k, v in flags.items() for item in (f"--{k}", str(v)))])


def servers(database: str | None = None, settings: Mapping[str, str] | None = None) -> list[Server]:
    """All of them, this project first. `database` and `settings` are for this project."""
    own = dict(settings or {})
    boto = ("boto3", "uvicorn", "uvloop", "httptools")
    return [
        Server("tusd-py", "tusd-py", _install_own, partial(_own, own, database)),
        Server(
            "tusd-py-fast",
            "tusd-py, fast",
            _install_own,
            partial(_own, FAST | own, database),
            note="without flushing tails, SQLite NORMAL: what was acknowledged survives a crash of"
            " the program, not of the machine",
        ),
        Server("node", "@tus/server", _install_node, _node),
        Server(
            "litestar",
            "litestar-tus",
            partial(_install_python, "litestar", 13, ("litestar-tus[s3]", *boto), "litestar-tus"),
            partial(_uvicorn, "litestar", "litestar_app:app"),
            path="/files",
        ),
        Server(
            "tuspyserver",
            "tuspyserver",
            partial(_install_python, "tuspyserver", 11, ("tuspyserver", *boto), "tuspyserver"),
            partial(_uvicorn, "tuspyserver", "tuspyserver_app:app"),
        ),
        Server("tusd", "tusd", _install_tusd, _tusd),
        Server(
            "rustus",
            "rustus",
            _install_rustus,
            _rustus,
            path="/files",
            note="the crate has no S3 storage: it only writes files to the local disk, and does not"
            " count as a peer in the ratios",
            uses_store=False,
        ),
    ]


def run_quietly(command: Sequence[str]) -> str:
    """What it prints; empty when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise Missing(f"{program} is not on this machine")


def _must(command: Sequence[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-2:]
        raise Missing(f"`{' '.join(command[:3])}` failed: {' '.join(last).strip()[:300]}")
