"""`tusd_storage.ports.direct.DirectSessions` in SQL: signing, and sessions by their key.

Owns two statements. Knows no driver.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from tusd_storage.errors import InvalidTransition, SessionUnknown
from tusd_storage.records import SessionState, UploadSession
from tusd_storage.sql import commits
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.rows import SESSION, micros
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.tables import listed

SIGNED_ALREADY = frozenset(
    {SessionState.SIGNED, SessionState.RESUMING, SessionState.UPLOADING, SessionState.UPLOADED}
)
"""States in which another signature changes nothing."""


@dataclass(frozen=True, slots=True)
class _DirectStatements:
    mark_signed: str
    by_key: str


class SqlDirectSessions:
    """See `tusd_storage.ports.direct.DirectSessions` for what each method promises."""

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._sql = sql

    async def mark_signed(self, session_id: str, *, now: datetime) -> UploadSession:
        params = {"id": session_id, "now": micros(now)}

        def work(connection: Connection) -> UploadSession:
            rows = connection.execute(self._direct.mark_signed, params).fetchall()
            if rows:
                return SESSION.read(rows[0])
            session = commits.find(self._sql, connection, session_id)
            if session is None:
                raise SessionUnknown(session_id)
            if session.state in SIGNED_ALREADY:
                return session
            raise InvalidTransition(
                f"session {session_id}", source=session.state, target=SessionState.SIGNED
            )

        return await self._executor.write(work, refusable=True)

    async def by_key(self, bucket: str, object_key: str) -> UploadSession | None:
        params = {"bucket": bucket, "object_key": object_key}

        def work(connection: Connection) -> UploadSession | None:
            row = connection.execute(self._direct.by_key, params).fetchone()
            return None if row is None else SESSION.read(row)

        return await self._executor.read(work, refusable=True)

    @cached_property
    def _direct(self) -> _DirectStatements:
        columns, compiled = SESSION.select_list(), self._sql.compiled
        sources = listed([SessionState.INITIALIZED])
        return _DirectStatements(
            mark_signed=compiled(
                f"UPDATE upload_sessions SET state = 'signed', updated_at = :now"  # noqa: S608
                f" WHERE id = :id AND state IN {sources} RETURNING {columns}"
            ),
            by_key=compiled(
                f"SELECT {columns} FROM upload_sessions"  # noqa: S608
                " WHERE bucket = :bucket AND object_key = :object_key"
            ),
        )
