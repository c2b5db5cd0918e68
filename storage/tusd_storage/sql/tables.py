"""The schema as SQLAlchemy metadata: tables and constraints; see `indexes`, too.

Owns what the database itself guards. Knows no statement and no connection. Times are microseconds
since the epoch, UTC, on both engines; booleans are 0 or 1. The migrations repeat this in their own
words; a test proves that both say the same.
"""

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from tusd_storage.lifecycle import OPEN, TERMINAL, sources_of
from tusd_storage.records import (
    AssetState,
    JobState,
    Kind,
    Protocol,
    SessionState,
    Strategy,
)

# Byte order for ids: pages come in the same order on both engines, whatever the locale.
Id = Text().with_variant(Text(collation="C"), "postgresql")
Time = BigInteger

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def listed(values: Iterable[str]) -> str:
    """The values as an SQL list of literals; literals, so that partial indexes match."""
    return "(" + ", ".join(f"'{value}'" for value in sorted(values)) + ")"


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN {listed(values)}", name=column)


def _crc32(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} BETWEEN 0 AND 4294967295", name=column)


# Conditions that an index and the statement that wants it must spell alike.
EXPIRABLE = f"state IN {listed(sources_of(SessionState.EXPIRED))} AND expires_at IS NOT NULL"
UNFINISHED = f"state IN {listed([SessionState.UPLOADED, SessionState.VERIFYING])}"
UNCLEAN = "cleanup_reason IS NOT NULL"
LEASED = "lease_holder IS NOT NULL"
WANTED = "lease_wanted = 1"
DUE = "due_at IS NOT NULL"
PROMOTION = "kind = 'promote_asset'"
DONE = "state = 'done'"
RECEIVED = f'state IN {listed(sources_of(SessionState.EXPIRED))} AND length = "offset"'
PARTIALS = (
    "kind = 'partial' AND state = 'completed' AND deleted_at IS NULL AND expires_at IS NOT NULL"
)
OPEN_FINALS = f"kind = 'final' AND state IN {listed(OPEN)}"
ENDED = f"(state IN {listed(TERMINAL - {SessionState.COMPLETED})} OR deleted_at IS NOT NULL)"
UNSWEPT = f"{ENDED} AND swept_at IS NULL"
CREATED = f"creation_key IS NOT NULL AND NOT {ENDED}"
OWNED = f"owner IS NOT NULL AND state IN {listed(OPEN)}"
FORGETTABLE = f"{ENDED} AND swept_at IS NOT NULL AND cleanup_reason IS NULL"
COMPLETED = "completed_at IS NOT NULL AND kind <> 'partial'"
FAILED = "state = 'failed'"
DEAD = "state = 'dead'"

assets = Table(
    "assets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("state", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("owner", Text),
    Column("bucket", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("filename", Text),
    Column("content_type", Text),
    Column("size", BigInteger),
    Column("reason", Text),
    Column("created_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    _one_of("state", AssetState),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint("state = 'staged' OR size IS NOT NULL", name="sized"),
)

upload_sessions = Table(
    "upload_sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("asset_id", Id, ForeignKey("assets.id")),
    Column("protocol", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("owner", Text),
    Column("bucket", Text, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("upload_id", Text),
    Column("length", BigInteger),
    Column("offset", BigInteger, nullable=False),
    Column("part_size", BigInteger, nullable=False),
    Column("part_growth", Integer, nullable=False),
    Column("parts_count", Integer, nullable=False),
    Column("parts_size", BigInteger, nullable=False),
    Column("parts_crc32", BigInteger, nullable=False),
    Column("tail_node", Text),
    Column("tail_crc32", BigInteger, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("filename", Text),
    Column("content_type", Text),
    Column("size_promised", BigInteger),
    Column("concat", Text, nullable=False),
    Column("concat_header", Text),
    Column("lease_holder", Text),
    Column("lease_epoch", BigInteger, nullable=False),
    Column("lease_until", Time),
    Column("lease_stolen", SmallInteger, nullable=False),
    Column("etag", Text),
    Column("crc32", BigInteger),
    Column("failure", Text),
    Column("cleanup_reason", Text),
    Column("created_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    Column("expires_at", Time),
    Column("completed_at", Time),
    Column("deleted_at", Time),
    Column("lease_wanted", SmallInteger, nullable=False, server_default="0"),
    # When the sweeps made sure that nothing of an ended session is left in the store.
    Column("swept_at", Time),
    Column("crc32_promised", BigInteger),
    Column("max_size", BigInteger),
    Column("creation_key", Text),
    Column("creation_digest", Text),
    UniqueConstraint("bucket", "object_key"),
    _one_of("protocol", Protocol),
    _one_of("strategy", Strategy),
    _one_of("state", SessionState),
    _one_of("kind", Kind),
    _crc32("parts_crc32"),
    _crc32("tail_crc32"),
    _crc32("crc32"),
    CheckConstraint("length >= 0", name="length"),
    CheckConstraint('"offset" >= 0', name="offset"),
    CheckConstraint('length IS NULL OR "offset" <= length', name="offset_length"),
    CheckConstraint("part_size >= 0 AND part_growth >= 0", name="part_plan"),
    CheckConstraint('parts_size >= 0 AND parts_size <= "offset"', name="parts_size"),
    CheckConstraint("parts_count >= 0", name="parts_count"),
    CheckConstraint("(parts_count = 0) = (parts_size = 0)", name="ledger"),
    CheckConstraint("size_promised >= 0", name="size_promised"),
    CheckConstraint("lease_epoch >= 0", name="lease_epoch"),
    CheckConstraint("(lease_holder IS NULL) = (lease_until IS NULL)", name="lease"),
    CheckConstraint(
        "lease_stolen = 0 OR (lease_stolen = 1 AND lease_holder IS NOT NULL)", name="lease_stolen"
    ),
    CheckConstraint(
        "lease_wanted = 0 OR (lease_wanted = 1 AND lease_holder IS NOT NULL)", name="lease_wanted"
    ),
    CheckConstraint(
        "state <> 'completed' OR (etag IS NOT NULL AND completed_at IS NOT NULL"
        ' AND length IS NOT NULL AND "offset" = length)',
        name="completed",
    ),
    CheckConstraint("deleted_at IS NULL OR state = 'completed'", name="deleted"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column(
        "session_id", Id, ForeignKey("upload_sessions.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("crc32", BigInteger),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("size > 0", name="size"),
    _crc32("crc32"),
    sqlite_with_rowid=False,  # the key is the table: no second tree to write for each part
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Id, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("run_at", Time, nullable=False),
    Column("locked_by", Text),
    Column("locked_until", Time),
    Column("error", Text),
    Column("created_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    # When a worker may take it: `run_at` while queued, `locked_until` while running. One index
    # then gives the due jobs in order, however long the backlog.
    Column("due_at", Time),
    _one_of("state", JobState),
    CheckConstraint("attempts >= 0", name="attempts"),
    CheckConstraint("(locked_by IS NULL) = (locked_until IS NULL)", name="lock"),
    CheckConstraint("(state = 'running') = (locked_by IS NOT NULL)", name="locked"),
    CheckConstraint(
        "(state = 'queued' AND due_at IS NOT NULL AND due_at = run_at)"
        " OR (state = 'running' AND due_at IS NOT NULL AND due_at = locked_until)"
        " OR (state IN ('dead', 'done') AND due_at IS NULL)",
        name="due_at",
    ),
)

# What the application says to a client at the end of its upload: NULL until it has said it.
final_answers = Table(
    "final_answers",
    metadata,
    Column(
        "session_id", Id, ForeignKey("upload_sessions.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("content", Text),
    Column("updated_at", Time, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", Id, primary_key=True),
    Column("instance", Text, nullable=False),
    Column("started_at", Time, nullable=False),
    Column("seen_at", Time, nullable=False),
    CheckConstraint("seen_at >= started_at", name="seen_at"),
)

leaders = Table(
    "leaders",
    metadata,
    Column("name", Id, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Time, nullable=False),
)

reaper_runs = Table(
    "reaper_runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("node", Id, nullable=False),
    Column("started_at", Time, nullable=False),
    Column("report", Text, nullable=False),
)
