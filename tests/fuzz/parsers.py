"""Coverage-guided fuzzing of every parser of bytes that others choose, by hand:

make fuzz                                      each parser for a minute
make fuzz ARGS="create patch --seconds 600"    some, for longer

A parser gives a value or one of its own refusals; anything else is a crash, which atheris shows
with the input that made it.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        *("tusd_py.protocol", "tusd_py.http", "tusd_py.units", "tusd_py.auth", "tusd_py.hooks"),
        *("tusd_py.importing", "tusd_py.operator", "tusd_storage.s3", "jwt"),
    ]
):
    from tests.fuzz import edge_parsers as edge
    from tests.fuzz import peer_parsers as peers
    from tusd_py.http.download import parse_range
    from tusd_py.protocol import checksum, concat, metadata
    from tusd_py.protocol.disposition import content_disposition
    from tusd_py.protocol.errors import ProtocolError
    from tusd_py.protocol.idempotency import creation_key
    from tusd_py.protocol.requests import parse_create, parse_patch
    from tusd_py.units import parse_duration, parse_size

NAMES = [
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-concat",
    "upload-checksum",
    "upload-defer-length",
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "trailer",
    "x-http-method-override",
    "idempotency-key",
]


def _headers(data: bytes) -> dict[str, str]:
    fed = atheris.FuzzedDataProvider(data)
    headers = {"tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream"}
    while fed.remaining_bytes() > 1:
        name = NAMES[fed.ConsumeIntInRange(0, len(NAMES) - 1)]
        size = fed.ConsumeIntInRange(0, 200)
        headers[name] = fed.ConsumeBytes(size).decode("latin-1")
    return headers


def _create(data: bytes) -> None:
    headers = _headers(data)
    request = parse_create(headers, base_path="/files/", max_size=10**12)
    creation_key(headers, request, owner="ann", metadata_key="fingerprint")


def _patch(data: bytes) -> None:
    parse_patch(_headers(data))


def _metadata(data: bytes) -> None:
    pairs = metadata.parse(data.decode("latin-1"))
    content_disposition(metadata.filename(pairs))
    metadata.content_type(pairs)
    checksum.declared_crc32(pairs)


def _concat(data: bytes) -> None:
    concat.parse(data.decode("latin-1"), base_path="/files/")


def _checksum(data: bytes) -> None:
    checksum.parse(data.decode("latin-1"))


def _range(data: bytes) -> None:
    parse_range(data.decode("latin-1"), 1000)


def _units(data: bytes) -> None:
    for parse in (parse_size, parse_duration):
        try:
            parse(data.decode("latin-1"))
        except ValueError:
            continue


PARSERS: dict[str, Callable[[bytes], None]] = {
    "create": _create,
    "patch": _patch,
    "metadata": _metadata,
    "concat": _concat,
    "checksum": _checksum,
    "range": _range,
    "units": _units,
    "urls": edge.urls,
    "signed": edge.signed,
    "token": edge.token,
    "key_set": edge.key_set,
    "forward_auth": edge.forward_auth,
    "cors": edge.cors,
    "json": edge.documents,
    "page": edge.page,
    "connection": edge.connection,
    "hook": peers.hook,
    "store": peers.store,
    "wire": peers.wire,
    "tusd": peers.tusd,
}


def _guarded(parse: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def one(data: bytes) -> None:
        try:
            parse(data)
        except ProtocolError:
            return

    return one


def main() -> int:
    """Without a parser's name: one process for each, as atheris never returns."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers.")
    parser.add_argument("parsers", nargs="*", choices=[[], *PARSERS], help="all without a name")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--only", choices=list(PARSERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        limit = f"-max_total_time={options.seconds}"
        atheris.Setup([sys.argv[0], limit, "-max_len=4096"], _guarded(PARSERS[options.only]))
        atheris.Fuzz()
    failed = 0
    for name in options.parsers or PARSERS:
        print(f"== {name}", flush=True)
        command = [sys.executable, __file__, "--only", name, "--seconds", str(options.seconds)]
        root = Path(__file__).resolve().parents[2]
        path = os.pathsep.join(str(root / folder) for folder in ("", "storage", "reaper"))
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
        )
        lines = done.stderr.splitlines()
        told = lines[-40:] if done.returncode else [s for s in lines if s.startswith("Done ")]
        print("\n".join(told), flush=True)
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
