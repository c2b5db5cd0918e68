"""What hooks said to the client at the end of an upload, to be said again if it was lost.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Adds a table."""
    op.create_table(
        "final_answers",
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_final_answers")),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["upload_sessions.id"],
            name=op.f("fk_final_answers_session_id"),
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("final_answers")
