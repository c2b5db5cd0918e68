"""What a session was created with: its limit, its idempotency key, and what an owner has open.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ENDED = "(state IN ('aborted', 'expired', 'failed') OR deleted_at IS NOT NULL)"
_COLUMNS = {"max_size": sa.BigInteger, "creation_key": sa.Text, "creation_digest": sa.Text}
_INDEXES = {
    "uq_upload_sessions_creation_key": (
        "creation_key",
        True,
        f"creation_key IS NOT NULL AND NOT {_ENDED}",
    ),
    "ix_upload_sessions_owned": (
        "owner",
        False,
        "owner IS NOT NULL AND state IN"
        " ('initialized', 'resuming', 'signed', 'uploaded', 'uploading', 'verifying')",
    ),
}


def upgrade() -> None:
    """Adds columns and indexes; rewrites nothing."""
    for name, kind in _COLUMNS.items():
        op.add_column("upload_sessions", sa.Column(name, kind))
    for name, (column, unique, where) in _INDEXES.items():
        op.create_index(
            name,
            "upload_sessions",
            [column],
            unique=unique,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )


def downgrade() -> None:
    """Drops what `upgrade` added."""
    for name in _INDEXES:
        op.drop_index(name, "upload_sessions")
    for name in _COLUMNS:
        op.drop_column("upload_sessions", name)
