"""OpenStack Swift with its S3 API, from PyPI, as four processes on loopback.

Owns its virtual environment, configuration and processes. It is here because it is strict where
SeaweedFS is lenient: an old ETag, a part named twice or a wrong checksum are refused.
No cache, no replication, no background daemons: what it forgets to delete stays in its folder.
"""

import fcntl
import os
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

VERSION = "2.38.3"
HOST = "127.0.0.1"
ACCOUNT, USER, SECRET = "test", "tester", "testing"
READY_TIMEOUT_S = 60.0
SERVERS = ("account", "container", "object", "proxy")

PIPELINE = (
    "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth"
    " copy slo dlo versioned_writes symlink proxy-server"
)
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "s3api": {
        "location": "us-east-1",
        "s3_acl": "false",
        "allow_multipart_uploads": "true",
        "max_upload_part_num": "10000",
        "max_parts_listing": "1000",
    },
    "tempauth": {f"user_{ACCOUNT}_{USER}": f"{SECRET} .admin"},
    "slo": {"max_manifest_segments": "10000", "max_manifest_size": "67108864"},
    "versioned_writes": {"allow_object_versioning": "true"},
}


RING_BUILDER = """
import sys
from swift.common.ring import RingBuilder
for argument in sys.argv[2:]:
    name, port = argument.split(":")
    ring = RingBuilder(4, 1, 0)
    ring.add_dev({"region": 1, "zone": 1, "device": "disk", "weight": 1, "ip": "127.0.0.1",
                  "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)})
    ring.rebalance()
    ring.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
"""
"""What nine calls of `swift-ring-builder` would do, in one process."""


class SwiftMissing(Exception):
    """Swift cannot be installed here."""


class Swift:
    """A running Swift. `start` makes one."""

    def __init__(self, port: int, bucket: str, release: Callable[[], None]) -> None:
        self.endpoint = f"http://{HOST}:{port}"
        self.access_key = f"{ACCOUNT}:{USER}"
        self.secret_key = SECRET
        self.region = "us-east-1"
        self.bucket = bucket
        self._release = release

    @classmethod
    def start(cls, folder: Path, *, bucket: str) -> Self:
        """Installs (once), configures and starts; returns when the bucket is there.

        Raises: SwiftMissing.
        """
        programs = install()
        ports = dict(zip(SERVERS, _free_ports(len(SERVERS)), strict=True))
        _configure(folder, programs, ports)
        with ExitStack() as cleanup:
            log = cleanup.enter_context((folder / "swift.log").open("ab"))
            processes = [
                subprocess.Popen(
                    [programs / f"swift-{name}-server", folder / f"{name}-server.conf"],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for name in SERVERS
            ]
            for process in processes:
                cleanup.callback(_end, process)
            swift = cls(ports["proxy"], bucket, lambda: None)
            swift._wait_for_bucket(processes)
            swift._release = cleanup.pop_all().close
            return swift

    def stop(self) -> None:
        """Ends all four."""
        self._release()

    def _wait_for_bucket(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"},
                s3={"addressing_style": "path"},
                proxies={},
            ),
        )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                client.create_bucket(Bucket=self.bucket)
            except (BotoCoreError, ClientError):
                if any(process.poll() is not None for process in processes):
                    raise RuntimeError("a Swift server ended: see swift.log") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                client.close()
                return


def install() -> Path:
    """The folder with Swift's programs, in a virtual environment of its own (made once).

    `TUSD_TEST_SWIFT_VENV` names it; the default is `.venv-swift` beside the project.
    """
    root = Path(__file__).parents[2]
    venv = Path(os.environ.get("TUSD_TEST_SWIFT_VENV", root / ".venv-swift"))
    programs = venv / "bin"
    done = venv / f"installed-{VERSION}"
    venv.mkdir(parents=True, exist_ok=True)
    with _locked(venv / "install.lock"):
        if done.exists():
            return programs
        for command in (
            [sys.executable, "-m", "venv", str(venv)],
            [str(programs / "pip"), "install", "--quiet", f"swift=={VERSION}", "setuptools<81"],
        ):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise SwiftMissing(f"swift {VERSION} cannot be installed: {reason}")
        done.touch()
    return programs


def _configure(folder: Path, programs: Path, ports: Mapping[str, int]) -> None:
    (folder / "node" / "disk").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        _ini(
            {
                "swift-hash": {"swift_hash_path_prefix": "a", "swift_hash_path_suffix": "b"},
                "storage-policy:0": {"name": "one", "default": "yes"},
            }
        )
    )
    for name in SERVERS:
        common = {
            "swift_dir": str(folder),
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "bind_ip": HOST,
            "bind_port": str(ports[name]),
            "workers": "0",
            "log_level": "WARNING",
            "log_address": str(folder / "no-syslog"),
            "devices": str(folder / "node"),
            "mount_check": "false",
            "fallocate_reserve": "0",
        }
        sections = _proxy() if name == "proxy" else _storage(name)
        text = _ini({"DEFAULT": common, **sections})
        (folder / f"{name}-server.conf").write_text(text)
    rings = [f"{name}:{ports[name]}" for name in SERVERS[:-1]]
    subprocess.run(
        [programs / "python", "-c", RING_BUILDER, folder, *rings], check=True, capture_output=True
    )


def _storage(name: str) -> dict[str, Mapping[str, str]]:
    return {
        "pipeline:main": {"pipeline": f"{name}-server"},
        f"app:{name}-server": {"use": f"egg:swift#{name}", "allow_versions": "true"},
    }


def _proxy() -> dict[str, Mapping[str, str]]:
    sections: dict[str, Mapping[str, str]] = {
        "pipeline:main": {"pipeline": PIPELINE},
        "app:proxy-server": {
            "use": "egg:swift#proxy",
            "account_autocreate": "true",
            "allow_account_management": "true",
        },
    }
    for name in PIPELINE.split()[:-1]:
        sections[f"filter:{name}"] = {"use": f"egg:swift#{name}", **OPTIONS.get(name, {})}
    return sections


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    lines: list[str] = []
    for name, options in sections.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in options.items())]
    return "\n".join(lines) + "\n"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    for signal in (process.terminate, process.kill):
        if process.poll() is None:
            signal()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
