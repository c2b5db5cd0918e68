"""`tusd-py dev`: server, database, S3 engine and page in one command, and nothing left behind.

Owns the settings of that arrangement and the block that is printed. Knows the engine's public face;
serving is `tusd_py.server`'s.
"""

import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from errno import EADDRINUSE
from importlib.resources import files

from tusd_py import server
from tusd_py.demo import recorded
from tusd_py.demo.engine import EmbeddedS3, EngineError
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import Loaded

DEFAULTS: Mapping[str, object] = {
    "demo_page": True,
    "download": "stream",
    "log_level": "warning",
    "operator_open": True,
    "operator_page": True,
    "s3_bucket": "uploads",
}
"""Below flags, environment and file. Downloads go through the server: the engine is on loopback, a
phone on the same network could not follow a redirect to it."""

PORTS_TRIED = 20
READY_TIMEOUT_S = 30.0
POLL_S = 0.05
OWN_STORE = ("s3_endpoint", "s3_public_endpoint")


def settle(loaded: Loaded) -> Settings:
    """The settings for `dev`: refuses a store of the user's own, and finds a free port.

    Raises: SettingsError.
    """
    settings = loaded.settings
    for name in OWN_STORE:
        if name in loaded.origins:
            raise SettingsError(
                f"{loaded.origins[name]}: `tusd-py dev` brings its own S3 engine; leave this out, "
                "or use `tusd-py serve` for a store of your own"
            )
    if "port" in loaded.origins:
        server.port_is_free(settings.host, settings.port)
        return settings
    port = first_free_port(settings.host, settings.port)
    if port != settings.port:
        print(f"Port {settings.port} is taken by another program: using {port}.", flush=True)
    return settings.model_copy(update={"port": port})


def first_free_port(host: str, wanted: int) -> int:
    """The first port from `wanted` on that can be listened on.

    Raises: SettingsError when all of PORTS_TRIED are taken, or no port of the host can be had.
    """
    last = wanted + PORTS_TRIED - 1
    for port in range(wanted, last + 1):
        try:
            server.port_is_free(host, port)
        except SettingsError as error:
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == EADDRINUSE
            if port == last or not taken:
                raise
        else:
            break
    return port


def run(settings: Settings) -> int:
    """Starts the engine, prints the block, serves until stopped, stops the engine."""
    server.exit_on_sigterm()
    _treat_hangup_as_stop()
    print("Starting ...", flush=True)
    try:
        engine = EmbeddedS3.start(settings.data_dir / recorded.STORE, bucket=settings.s3_bucket)
        if settings.direct_uploads and settings.cors_origins:
            engine.put_cors(settings.s3_bucket, settings.cors_origins)
    except EngineError as error:
        raise SettingsError(str(error)) from error
    try:
        with recorded.only_keys(engine.access_key, engine.secret_key):
            complete = settings.model_copy(
                update={
                    "s3_endpoint": engine.endpoint,
                    "s3_region": engine.region,
                    "s3_addressing_style": "path",
                }
            )
            recorded.record(complete)
            announcing = threading.Thread(target=announce, args=(complete,), daemon=True)
            announcing.start()
            return server.run(complete)
    finally:
        engine.stop()
        print(f"\nStopped. What was uploaded is kept in {settings.data_dir}", flush=True)


def announce(settings: Settings) -> None:
    """Prints the block as soon as the server answers, so that what it names is there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((host, settings.port), timeout=1):
            break
        time.sleep(POLL_S)
    print(block(settings), flush=True)


def block(settings: Settings) -> str:
    """What a newcomer needs to know, and no more."""
    root = f"http://{_reachable(settings.host)}:{settings.port}"
    lines = [
        ("Page", f"{root}/" if settings.demo_page else "off (demo_page)"),
        ("Operator", f"{root}/operator/" if settings.operator_page else "off (operator_page)"),
        ("Uploads", f"{root}{settings.base_path}"),
        ("Bucket", f"{settings.s3_bucket} at {settings.s3_endpoint} (embedded, keys in data_dir)"),
        ("Data", str(settings.data_dir.resolve())),
        ("Terminal", recorded.listing_command(settings)),
        ("Stop", "Ctrl-C"),
    ]
    if not has_built_page():
        lines.append(("Note", "the page is a plain one: install Node.js with npm, then `make web`"))
    width = max(len(text) for _, text in lines) + 14
    rule = "─" * min(width, 78)
    body = "\n".join(f"  {name:<9} {text}" for name, text in lines)
    return f"\n{rule}\n  tusd-py is running\n\n{body}\n{rule}\n"


def has_built_page() -> bool:
    """Whether the page's scripts have been built."""
    return files("tusd_py.demo").joinpath("static", "upload.js").is_file()


def _reachable(host: str) -> str:
    if host in {"0.0.0.0", "::", "127.0.0.1", "::1"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _treat_hangup_as_stop() -> None:
    """A closed terminal stops everything, as Ctrl-C does."""
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
