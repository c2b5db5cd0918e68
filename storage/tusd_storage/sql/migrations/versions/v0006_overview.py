"""What people who watch the server read: finished, failed, dead first; the reaper's last runs.

Revision ID: 0006
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# None of these is touched while an upload receives bytes.
_INDEXES = {
    "ix_upload_sessions_completed": (
        "upload_sessions",
        ["completed_at", "id"],
        "completed_at IS NOT NULL AND kind <> 'partial'",
    ),
    "ix_upload_sessions_failed": ("upload_sessions", ["updated_at", "id"], "state = 'failed'"),
    "ix_jobs_dead": ("jobs", ["updated_at", "id"], "state = 'dead'"),
}


def upgrade() -> None:
    """Adds a table and indexes; rewrites nothing."""
    op.create_table(
        "reaper_runs",
        sa.Column("id", _ID),
        sa.Column("node", _ID, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reaper_runs")),
    )
    for name, (table, columns, where) in _INDEXES.items():
        op.create_index(
            name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )


def downgrade() -> None:
    """Drops what `upgrade` added."""
    for name, (table, _, _) in _INDEXES.items():
        op.drop_index(name, table)
    op.drop_table("reaper_runs")
