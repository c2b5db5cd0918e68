"""What the sweeps need: who leads, which ended sessions have been swept, and their indexes.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ENDED = "(state IN ('aborted', 'expired', 'failed') OR deleted_at IS NOT NULL)"
_INDEXES = {
    "ix_upload_sessions_received": (
        ["id"],
        "state IN ('initialized', 'resuming', 'signed', 'uploading') AND length = \"offset\"",
    ),
    "ix_upload_sessions_partials": (
        ["expires_at", "id"],
        "kind = 'partial' AND state = 'completed' AND deleted_at IS NULL"
        " AND expires_at IS NOT NULL",
    ),
    "ix_upload_sessions_open_finals": (
        ["id"],
        "kind = 'final' AND state IN"
        " ('initialized', 'resuming', 'signed', 'uploaded', 'uploading', 'verifying')",
    ),
    "ix_upload_sessions_unswept": (["updated_at", "id"], f"{_ENDED} AND swept_at IS NULL"),
    "ix_upload_sessions_forgettable": (
        ["updated_at", "id"],
        f"{_ENDED} AND swept_at IS NOT NULL AND cleanup_reason IS NULL",
    ),
}


def upgrade() -> None:
    """Adds a table, a column and indexes; rewrites nothing."""
    op.create_table(
        "leaders",
        sa.Column("name", _ID),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leaders")),
    )
    op.add_column("upload_sessions", sa.Column("swept_at", sa.BigInteger))
    for name, (columns, where) in _INDEXES.items():
        _partial(name, "upload_sessions", columns, where)
    _partial("ix_jobs_done", "jobs", ["updated_at", "id"], "state = 'done'")


def downgrade() -> None:
    """Drops what `upgrade` added."""
    op.drop_index("ix_jobs_done", "jobs")
    for name in _INDEXES:
        op.drop_index(name, "upload_sessions")
    op.drop_column("upload_sessions", "swept_at")
    op.drop_table("leaders")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )
