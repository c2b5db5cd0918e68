"""A part's unknown CRC-32 is NULL, not 0, and a session may have one that its client declared.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COLUMNS = "session_id, number, size, etag"

# 0 stood for "unknown", and is a CRC-32 like any other: only where the server has not seen the
# bytes itself can it have meant that.
_UNSEEN = (
    "crc32 = 0 AND session_id IN"
    " (SELECT id FROM upload_sessions WHERE kind = 'final' OR protocol = 's3')"
)


def upgrade() -> None:
    """Adds a column; SQLite, which cannot drop a NOT NULL, gets its table of parts anew."""
    op.add_column("upload_sessions", sa.Column("crc32_promised", sa.BigInteger))
    if op.get_context().dialect.name == "sqlite":
        _rebuild("crc32", nullable=True)
    else:
        op.alter_column("upload_parts", "crc32", nullable=True)
    op.execute(f"UPDATE upload_parts SET crc32 = NULL WHERE {_UNSEEN}")  # noqa: S608


def downgrade() -> None:
    """What is unknown is 0 again."""
    if op.get_context().dialect.name == "sqlite":
        _rebuild("COALESCE(crc32, 0)", nullable=False)
    else:
        op.execute("UPDATE upload_parts SET crc32 = 0 WHERE crc32 IS NULL")
        op.alter_column("upload_parts", "crc32", nullable=False)
    op.drop_column("upload_sessions", "crc32_promised")


def _rebuild(crc32: str, *, nullable: bool) -> None:
    """Nothing refers to this table, so dropping the old one takes nothing along."""
    op.rename_table("upload_parts", "upload_parts_old")
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
        sa.Column("crc32", sa.BigInteger, nullable=nullable),
        sa.CheckConstraint("number >= 1", name=op.f("ck_upload_parts_number")),
        sa.CheckConstraint("size > 0", name=op.f("ck_upload_parts_size")),
        sa.CheckConstraint("crc32 BETWEEN 0 AND 4294967295", name=op.f("ck_upload_parts_crc32")),
        sa.PrimaryKeyConstraint("session_id", "number", name=op.f("pk_upload_parts")),
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO upload_parts ({_COLUMNS}, crc32)"  # noqa: S608
        f" SELECT {_COLUMNS}, {crc32} FROM upload_parts_old"
    )
    op.drop_table("upload_parts_old")
