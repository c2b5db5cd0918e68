"""The first schema: assets, upload sessions, their ledger, the outbox, the nodes.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TIME = sa.BigInteger  # microseconds since the epoch, UTC


def upgrade() -> None:
    """Creates everything."""
    _assets()
    _upload_sessions()
    _upload_parts()
    _jobs()
    _nodes()
    _indexes()


def downgrade() -> None:
    """Drops everything."""
    for table in ("nodes", "jobs", "upload_parts", "upload_sessions", "assets"):
        op.drop_table(table)


def _assets() -> None:
    op.create_table(
        "assets",
        sa.Column("id", _ID),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("filename", sa.Text),
        sa.Column("content_type", sa.Text),
        sa.Column("size", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "state IN ('available', 'quarantined', 'staged', 'validating')",
            name=op.f("ck_assets_state"),
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_assets_size")),
        sa.CheckConstraint("state = 'staged' OR size IS NOT NULL", name=op.f("ck_assets_sized")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assets")),
    )


def _upload_sessions() -> None:
    op.create_table(
        "upload_sessions",
        sa.Column("id", _ID),
        sa.Column(
            "asset_id", _ID, sa.ForeignKey("assets.id", name=op.f("fk_upload_sessions_asset_id"))
        ),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("upload_id", sa.Text),
        sa.Column("length", sa.BigInteger),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("part_size", sa.BigInteger, nullable=False),
        sa.Column("part_growth", sa.Integer, nullable=False),
        sa.Column("parts_count", sa.Integer, nullable=False),
        sa.Column("parts_size", sa.BigInteger, nullable=False),
        sa.Column("parts_crc32", sa.BigInteger, nullable=False),
        sa.Column("tail_node", sa.Text),
        sa.Column("tail_crc32", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("filename", sa.Text),
        sa.Column("content_type", sa.Text),
        sa.Column("size_promised", sa.BigInteger),
        sa.Column("concat", sa.Text, nullable=False),
        sa.Column("concat_header", sa.Text),
        sa.Column("lease_holder", sa.Text),
        sa.Column("lease_epoch", sa.BigInteger, nullable=False),
        sa.Column("lease_until", _TIME),
        sa.Column("lease_stolen", sa.SmallInteger, nullable=False),
        sa.Column("etag", sa.Text),
        sa.Column("crc32", sa.BigInteger),
        sa.Column("failure", sa.Text),
        sa.Column("cleanup_reason", sa.Text),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("completed_at", _TIME),
        sa.Column("deleted_at", _TIME),
        sa.Column("lease_wanted", sa.SmallInteger, nullable=False, server_default="0"),
        sa.UniqueConstraint(
            "bucket", "object_key", name=op.f("uq_upload_sessions_bucket_object_key")
        ),
        sa.CheckConstraint("protocol IN ('s3', 'tus')", name=op.f("ck_upload_sessions_protocol")),
        sa.CheckConstraint(
            "strategy IN ('multipart', 'presigned_put', 'resumable')",
            name=op.f("ck_upload_sessions_strategy"),
        ),
        sa.CheckConstraint(
            "state IN ('aborted', 'completed', 'expired', 'failed', 'initialized', 'resuming',"
            " 'signed', 'uploaded', 'uploading', 'verifying')",
            name=op.f("ck_upload_sessions_state"),
        ),
        sa.CheckConstraint(
            "kind IN ('final', 'partial', 'single')", name=op.f("ck_upload_sessions_kind")
        ),
        sa.CheckConstraint(
            "parts_crc32 BETWEEN 0 AND 4294967295", name=op.f("ck_upload_sessions_parts_crc32")
        ),
        sa.CheckConstraint(
            "tail_crc32 BETWEEN 0 AND 4294967295", name=op.f("ck_upload_sessions_tail_crc32")
        ),
        sa.CheckConstraint("crc32 BETWEEN 0 AND 4294967295", name=op.f("ck_upload_sessions_crc32")),
        sa.CheckConstraint("length >= 0", name=op.f("ck_upload_sessions_length")),
        sa.CheckConstraint('"offset" >= 0', name=op.f("ck_upload_sessions_offset")),
        sa.CheckConstraint(
            'length IS NULL OR "offset" <= length', name=op.f("ck_upload_sessions_offset_length")
        ),
        sa.CheckConstraint(
            "part_size >= 0 AND part_growth >= 0", name=op.f("ck_upload_sessions_part_plan")
        ),
        sa.CheckConstraint(
            'parts_size >= 0 AND parts_size <= "offset"', name=op.f("ck_upload_sessions_parts_size")
        ),
        sa.CheckConstraint("parts_count >= 0", name=op.f("ck_upload_sessions_parts_count")),
        sa.CheckConstraint(
            "(parts_count = 0) = (parts_size = 0)", name=op.f("ck_upload_sessions_ledger")
        ),
        sa.CheckConstraint("size_promised >= 0", name=op.f("ck_upload_sessions_size_promised")),
        sa.CheckConstraint("lease_epoch >= 0", name=op.f("ck_upload_sessions_lease_epoch")),
        sa.CheckConstraint(
            "(lease_holder IS NULL) = (lease_until IS NULL)", name=op.f("ck_upload_sessions_lease")
        ),
        sa.CheckConstraint(
            "lease_stolen = 0 OR (lease_stolen = 1 AND lease_holder IS NOT NULL)",
            name=op.f("ck_upload_sessions_lease_stolen"),
        ),
        sa.CheckConstraint(
            "lease_wanted = 0 OR (lease_wanted = 1 AND lease_holder IS NOT NULL)",
            name=op.f("ck_upload_sessions_lease_wanted"),
        ),
        sa.CheckConstraint(
            "state <> 'completed' OR (etag IS NOT NULL AND completed_at IS NOT NULL"
            ' AND length IS NOT NULL AND "offset" = length)',
            name=op.f("ck_upload_sessions_completed"),
        ),
        sa.CheckConstraint(
            "deleted_at IS NULL OR state = 'completed'", name=op.f("ck_upload_sessions_deleted")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_sessions")),
    )


def _upload_parts() -> None:
    op.create_table(
        "upload_parts",
        sa.Column(
            "session_id",
            _ID,
            sa.ForeignKey(
                "upload_sessions.id", name=op.f("fk_upload_parts_session_id"), ondelete="CASCADE"
            ),
        ),
        sa.Column("number", sa.Integer, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("crc32", sa.BigInteger, nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_upload_parts_number")),
        sa.CheckConstraint("size > 0", name=op.f("ck_upload_parts_size")),
        sa.CheckConstraint("crc32 BETWEEN 0 AND 4294967295", name=op.f("ck_upload_parts_crc32")),
        sa.PrimaryKeyConstraint("session_id", "number", name=op.f("pk_upload_parts")),
        sqlite_with_rowid=False,
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _ID),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", _ID, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run_at", _TIME, nullable=False),
        sa.Column("locked_by", sa.Text),
        sa.Column("locked_until", _TIME),
        sa.Column("error", sa.Text),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("due_at", _TIME),
        sa.CheckConstraint(
            "state IN ('dead', 'done', 'queued', 'running')", name=op.f("ck_jobs_state")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_jobs_attempts")),
        sa.CheckConstraint(
            "(locked_by IS NULL) = (locked_until IS NULL)", name=op.f("ck_jobs_lock")
        ),
        sa.CheckConstraint(
            "(state = 'running') = (locked_by IS NOT NULL)", name=op.f("ck_jobs_locked")
        ),
        sa.CheckConstraint(
            "(state = 'queued' AND due_at IS NOT NULL AND due_at = run_at)"
            " OR (state = 'running' AND due_at IS NOT NULL AND due_at = locked_until)"
            " OR (state IN ('dead', 'done') AND due_at IS NULL)",
            name=op.f("ck_jobs_due_at"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("name", _ID),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.CheckConstraint("seen_at >= started_at", name=op.f("ck_nodes_seen_at")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_nodes")),
    )


def _indexes() -> None:
    session = "upload_sessions"
    expirable = (
        "state IN ('initialized', 'resuming', 'signed', 'uploading') AND expires_at IS NOT NULL"
    )
    unfinished = "state IN ('uploaded', 'verifying')"
    _partial("ix_upload_sessions_expirable", session, ["expires_at", "id"], expirable)
    _partial("ix_upload_sessions_unfinished", session, ["id"], unfinished)
    _partial("ix_upload_sessions_unclean", session, ["id"], "cleanup_reason IS NOT NULL")
    _partial("ix_upload_sessions_leased", session, ["lease_holder"], "lease_holder IS NOT NULL")
    _partial("ix_upload_sessions_wanted", session, ["lease_holder"], "lease_wanted = 1")
    _partial("ix_jobs_due", "jobs", ["due_at", "id"], "due_at IS NOT NULL")
    _partial("uq_jobs_promotion", "jobs", ["subject"], "kind = 'promote_asset'", unique=True)


def _partial(
    name: str, table: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
