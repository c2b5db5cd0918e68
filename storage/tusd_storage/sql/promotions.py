"""Promotions that need nobody: many assets and their jobs in one transaction.

Owns which those are. Knows no driver.
"""

from collections.abc import Collection
from datetime import datetime

from tusd_storage.outbox import Change
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.outbox import SqlAnnouncements
from tusd_storage.sql.rows import ASSET, micros
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.tables import DUE, PROMOTION

_ID = ASSET.columns.index("id")


class PromotionStatements:
    """The statements, compiled once."""

    def __init__(self, sql: Statements) -> None:
        skip = "" if sql.is_sqlite else " FOR UPDATE SKIP LOCKED"
        self.settle = sql.compiled(
            "UPDATE assets SET state = 'available', reason = NULL, updated_at = :now"  # noqa: S608
            " WHERE state = 'validating' AND content_type IS NULL"
            f" AND {sql.member('profile', 'profiles')} AND id IN"
            f" (SELECT subject FROM jobs WHERE {DUE} AND due_at <= :now AND {PROMOTION}"
            f" AND state = 'queued' ORDER BY due_at, id LIMIT :limit{skip})"
            " AND EXISTS (SELECT 1 FROM upload_sessions AS made"
            " WHERE made.bucket = assets.bucket AND made.object_key = assets.object_key"
            " AND made.protocol = 'tus' AND made.content_type IS NULL)"
            f" RETURNING {ASSET.select_list()}"
        )
        self.done = sql.compiled(
            "UPDATE jobs SET state = 'done', due_at = NULL, error = NULL,"  # noqa: S608
            " attempts = attempts + 1, updated_at = :now"
            f" WHERE {PROMOTION} AND state = 'queued' AND {sql.member('subject', 'assets')}"
        )

        self.listed = sql.listed


def settle_unquestioned(
    sql: PromotionStatements,
    connection: Connection,
    *,
    profiles: Collection[str],
    now: datetime,
    limit: int,
    announcements: SqlAnnouncements | None,
) -> int:
    """How many were settled. Their jobs are done, without anybody having claimed them."""
    params = {"profiles": sql.listed(profiles), "now": micros(now), "limit": limit}
    rows = connection.execute(sql.settle, params).fetchall()
    if not rows:
        return 0
    subjects = sql.listed([row[_ID] for row in rows])
    connection.execute(sql.done, {"assets": subjects, "now": micros(now)})
    if announcements is not None:
        tell = announcements.bind()
        for asset in map(ASSET.read, rows):
            session = announcements.session_of(connection, asset)
            if session is not None:
                tell(connection, Change.AVAILABLE, session, asset)
    return len(rows)
