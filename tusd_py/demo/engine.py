"""The embedded S3 engine: one SeaweedFS process for `tusd-py` without a bucket of your own.

Owns the engine's process, ports, credentials and data folder. Knows nothing of tus, of sessions or
of the server in front: what it hands out is an endpoint and a key pair.

The engine listens on loopback only. Its filer would serve and delete objects without asking for a
signature, so that door is shut; its inner gRPC ports stay open to users of the same machine, which
makes it a store for trying things out. It ends with the process that started it.
"""

import atexit
import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tusd_py.demo.engine_identity import HOST, EngineError, Identity
from tusd_py.demo.engine_process import (
    STOP_TIMEOUT_S,
    EngineMissing,
    TlsFiles,
    end,
    find_binary,
    launch,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BUCKET", "REGION", "EmbeddedS3", "EngineError", "EngineMissing", "TlsFiles"]

REGION = "us-east-1"
BUCKET = "uploads"

READY_TIMEOUT_S = 30.0
"""About a second is normal; a busy machine may need many times that."""
POLL_INTERVAL_S = 0.05
READY_KEY = ".tusd-py-ready"
"""Written, read and deleted at each start."""
START_ATTEMPTS = 5
"""Another process may take a port between the look and the start."""


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
                process = launch(binary, data_dir, identity, tls, cleanup)
                engine = cls(identity, process, cleanup.close, bucket=bucket, tls=tls)
                if engine._answers():
                    engine._release = cleanup.pop_all().close
                    atexit.register(engine.stop)
                    return engine
                end(process)
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
        end(self._process)
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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two engines on one folder would destroy it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EngineError(
                "another embedded engine is running on this data folder: stop the `tusd-py dev` "
                "it belongs to (Ctrl-C in its terminal), or write --data-dir OTHER beside it"
            ) from error
        yield
