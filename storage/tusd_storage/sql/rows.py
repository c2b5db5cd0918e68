"""Rows to records and back, by position.

Owns the column lists and the conversion of times, enumerations, booleans and JSON. Knows no
statement: the select lists in `statements` are made from `SESSION`, `ASSET`, `JOB`, `PART`, `NODE`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

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


def _maybe_moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def _ids(value: str) -> tuple[str, ...]:
    return () if value == "[]" else tuple(json.loads(value))


def _ids_json(ids: tuple[str, ...]) -> str:
    return to_json(ids) if ids else "[]"


def to_json(value: object) -> str:
    """Compact JSON, as the text columns hold it."""
    return json.dumps(value, separators=(",", ":"))


Decode = Callable[[Any], object]
Encode = Callable[[Any], object]
_TIME: tuple[Decode, Encode] = (_maybe_moment, maybe_micros)
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
    """Maps one record type; its columns are the record's fields in their order."""

    def __init__(self, record: type[R], **special: tuple[Decode, Encode]) -> None:
        self._record: Callable[..., R] = record
        self.columns = tuple(field.name for field in fields(record))
        rules = dict.fromkeys(_TIMES, _TIME) | special
        self._decode = tuple(
            (at, name, rules[name][0]) for at, name in enumerate(self.columns) if name in rules
        )
        self._encode = tuple((name, rules[name][1]) for name in self.columns if name in rules)

    def read(self, row: Sequence[Any]) -> R:
        """The record of a row selected with `columns`."""
        values = dict(zip(self.columns, row, strict=True))
        for at, name, decode in self._decode:
            values[name] = decode(row[at])
        return self._record(**values)

    def params(self, record: R) -> Params:
        """The record as statement parameters, named as its columns. See `insert_values`."""
        values: Params = {name: getattr(record, name) for name in self.columns}
        for name, encode in self._encode:
            values[name] = encode(values[name])
        return values

    def select_list(self) -> str:
        """The columns for SELECT and RETURNING."""
        return ", ".join(f'"{name}"' for name in self.columns)

    def insert_values(self, prefix: str = "") -> str:
        """Columns and parameters for INSERT; a prefix keeps two records in one statement apart."""
        params = ", ".join(f":{prefix}{name}" for name in self.columns)
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
