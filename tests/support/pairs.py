"""Two servers on one database and one bucket, and an upload that both know by its path."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.support.engines import Engine
from tests.support.process import ServerProcess
from tests.support.tus import TusClient
from tests.support.wire import Answer
from tusd_storage.partplan import MIB

LENGTH = 12 * MIB + 7
DATA = os.urandom(LENGTH)


class Pair(NamedTuple):
    a: ServerProcess
    b: ServerProcess


@contextmanager
def pair_of_servers(
    folder: Path, store: Engine, first: Mapping[str, str], second: Mapping[str, str]
) -> Iterator[Pair]:
    """`first` and `second`: what is in their environments beside a prefix of their own."""
    prefix = {"TUSD_S3_PREFIX": store.prefix()}
    with (
        ServerProcess(folder / "one", store, extra_env=prefix | dict(first)) as one,
        ServerProcess(
            folder / "two",
            store,
            database_url=one.database_url,
            extra_env=prefix | dict(second),
        ) as two,
    ):
        yield Pair(one, two)


def create(server: ServerProcess) -> str:
    """The path of a new upload: the same on both servers."""
    return urlsplit(TusClient(server.uploads_url).create(LENGTH)).path


def patch(server: ServerProcess, path: str, start: int, end: int) -> Answer:
    """These bytes of the data."""
    return TusClient(server.uploads_url).patch(path, start, DATA[start:end])


def offset(server: ServerProcess, path: str) -> int:
    """Where it stands."""
    return TusClient(server.uploads_url).offset(path)
