"""Rows to records and back, by position.

Owns the column lists and the conversion of times, enumerations, booleans and JSON. Knows no
statement: the select lists in `statements` are made from `SESSION`, `ASSET`, `JOB`, `PART`, `NODE`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Generic, TypeVar

from tusd_storage.frozen import maker
from tusd_storage.ports.listings import Node
from tusd_storage.ports.overview import ReaperRun
from tusd_storage.records import (
    Asset,
    AssetState,
    Job,
    JobState,
    Kind,
    Part,
    Protocol,
    SessionState,
    Strategy,
    UploadSession,
)

R = TypeVar("R", UploadSession, Asset, Job, Part, Node, ReaperRun)
Params = dict[str, object]
Row = list[Any]
"""A record's columns in their order, as a statement takes and gives them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(time: datetime) -> int:
    """An aware datetime as microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def maybe_micros(time: datetime | None) -> int | None:
    """As `micros`; None stays None."""
    return None if time is None else micros(time)


def moment(value: int) -> datetime:
    """Microseconds since the epoch as an aware datetime."""
    return _EPOCH + timedelta(0, 0, value)


def _ids(value: str) -> tuple[str, ...]:
    return () if value == "[]" else tuple(json.loads(value))


def _ids_json(ids: tuple[str, ...]) -> str:
    return to_json(ids) if ids else "[]"


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def to_json(value: object) -> str:
    """Compact JSON, as the text columns hold it."""
    return _ENCODER.encode(value)


Decode = Callable[[Any], object]
Encode = Callable[[Any], object]
_TIME: tuple[Decode, Encode] = (moment, micros)
_IDS: tuple[Decode, Encode] = (_ids, _ids_json)
_JSON: tuple[Decode, Encode] = (json.loads, to_json)
_BOOL: tuple[Decode, Encode] = (bool, int)
_TIMES = (
    "lease_until",
    "created_at",
    "updated_at",
    "expires_at",
    "completed_at",
    "deleted_at",
    "run_at",
    "locked_until",
    "started_at",
    "seen_at",
)


def _enum(kind: type[Any]) -> tuple[Decode, Encode]:
    members = {member.value: member for member in kind}
    return members.__getitem__, str


class Mapper(Generic[R]):
    """Maps one record type; its columns are the record's fields in their order. None is NULL."""

    def __init__(self, record: type[R], **special: tuple[Decode, Encode]) -> None:
        self._make: Callable[[Row], R] = maker(record)
        self.columns: tuple[str, ...] = tuple(field.name for field in fields(record))
        self._values: Callable[[R], tuple[Any, ...]] = attrgetter(*self.columns)
        rules: dict[str, tuple[Decode, Encode]] = dict.fromkeys(_TIMES, _TIME) | special
        ruled = [(self.columns.index(name), rules[name]) for name in self.columns if name in rules]
        self._decode = tuple((at, decode) for at, (decode, _) in ruled)
        self._encode = tuple((at, encode) for at, (_, encode) in ruled)

    def read(self, row: Sequence[Any]) -> R:
        """The record of a row selected with `columns`."""
        values = list(row)
        for at, decode in self._decode:
            if values[at] is not None:
                values[at] = decode(values[at])
        return self._make(values)

    def row(self, record: R) -> Row:
        """The record as the row that `read` makes it of. See `insert_values`."""
        values = list(self._values(record))
        for at, encode in self._encode:
            if values[at] is not None:
                values[at] = encode(values[at])
        return values

    def params(self, record: R) -> Params:
        """The record as statement parameters, named as its columns."""
        return dict(zip(self.columns, self.row(record), strict=True))

    def select_list(self) -> str:
        """The columns for SELECT and RETURNING."""
        return ", ".join(f'"{name}"' for name in self.columns)

    def insert_values(self) -> str:
        """Columns and parameters for INSERT."""
        params = ", ".join(f":{name}" for name in self.columns)
        return f"({self.select_list()}) VALUES ({params})"


SESSION: Mapper[UploadSession] = Mapper(
    UploadSession,
    protocol=_enum(Protocol),
    strategy=_enum(Strategy),
    state=_enum(SessionState),
    kind=_enum(Kind),
    concat=_IDS,
    lease_stolen=_BOOL,
)
ASSET: Mapper[Asset] = Mapper(Asset, state=_enum(AssetState))
JOB: Mapper[Job] = Mapper(Job, state=_enum(JobState), payload=_JSON)
PART: Mapper[Part] = Mapper(Part)
NODE: Mapper[Node] = Mapper(Node)
RUN: Mapper[ReaperRun] = Mapper(ReaperRun, report=_JSON)


def part_params(session_id: str, part: Part) -> Mapping[str, object]:
    """One ledger row."""
    return {**PART.params(part), "session_id": session_id}


def part_arrays(parts: Sequence[Part]) -> Params:
    """Ledger rows as one array for each column."""
    return {
        "part_numbers": [part.number for part in parts],
        "part_sizes": [part.size for part in parts],
        "part_etags": [part.etag for part in parts],
        "part_crc32s": [part.crc32 for part in parts],
    }
