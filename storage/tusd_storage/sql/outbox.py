"""`tusd_storage.outbox` in SQL: rows written beside a state change, and final answers.

Owns their statements. Knows no driver, and not what a job means.
"""

import json
from collections.abc import Callable, Collection
from datetime import datetime
from functools import cached_property

from tusd_storage.outbox import Change, FinalAnswer, NewJob, Outbox
from tusd_storage.records import Asset, UploadSession
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.executors import Executor
from tusd_storage.sql.rows import JOB, SESSION, micros, to_json
from tusd_storage.sql.statements import Statements

Tell = Callable[[Connection, Change, UploadSession, Asset | None], None]
"""Writes what an outbox wants to be written with a change, inside its transaction."""


class OutboxStatements:
    """The statements, compiled once."""

    def __init__(self, sql: Statements) -> None:
        one = sql.compiled
        self.insert_job = one(
            f"INSERT INTO jobs ({JOB.select_list()}, due_at) VALUES (:id, :kind, :subject,"  # noqa: S608
            " :payload, 'queued', 0, :run_at, NULL, NULL, NULL, :now, :now, :run_at)"
            " ON CONFLICT (id) DO NOTHING"
        )
        self.hasten = one(
            "UPDATE jobs SET run_at = :now, due_at = :now, updated_at = :now WHERE id = :id"
            " AND state = 'queued' AND attempts = 0 AND run_at > :now"
        )
        self.await_answer = one(
            "INSERT INTO final_answers (session_id, content, updated_at)"
            " VALUES (:session_id, NULL, :now) ON CONFLICT (session_id) DO NOTHING"
        )
        self.answer = one("SELECT content FROM final_answers WHERE session_id = :session_id")
        self.keep_answer = one(
            "UPDATE final_answers SET content = :content, updated_at = :now"
            " WHERE session_id = :session_id AND content IS NULL RETURNING content"
        )
        self.by_key = one(
            f"SELECT {SESSION.select_list()} FROM upload_sessions"  # noqa: S608
            " WHERE bucket = :bucket AND object_key = :object_key"
        )


class SqlAnnouncements:
    """An outbox, bound to the statements of one database."""

    def __init__(self, sql: Statements, outbox: Outbox) -> None:
        self._sql = OutboxStatements(sql)
        self._outbox = outbox

    def bind(self) -> Tell:
        """See `Outbox.bind`."""
        announce, sql = self._outbox.bind(), self._sql

        def tell(
            connection: Connection, change: Change, session: UploadSession, asset: Asset | None
        ) -> None:
            said = announce(change, session, asset)
            now = micros(session.updated_at if asset is None else asset.updated_at)
            for job in said.jobs:
                connection.execute(sql.insert_job, _job_params(job, now))
            if said.awaits_answer:
                connection.execute(sql.await_answer, {"session_id": session.id, "now": now})

        return tell

    def session_of(self, connection: Connection, asset: Asset) -> UploadSession | None:
        """The session that produced an asset."""
        params = {"bucket": asset.bucket, "object_key": asset.object_key}
        row = connection.execute(self._sql.by_key, params).fetchone()
        return None if row is None else SESSION.read(row)


class SqlAnswers:
    """See `tusd_storage.outbox.AnswerStore` for what each method promises."""

    def __init__(self, executor: Executor, sql: Statements) -> None:
        self._executor = executor
        self._sql = sql

    @cached_property
    def _answers(self) -> OutboxStatements:
        return OutboxStatements(self._sql)

    async def final_answer(self, session_id: str) -> FinalAnswer | None:
        sql = self._answers
        return await self._executor.read(lambda connection: _answer(sql, connection, session_id))

    async def keep_answer(
        self,
        session_id: str,
        content: dict[str, object],
        *,
        hasten: Collection[str],
        now: datetime,
    ) -> FinalAnswer | None:
        sql = self._answers
        params = {"session_id": session_id, "content": to_json(content), "now": micros(now)}

        def work(connection: Connection) -> FinalAnswer | None:
            connection.execute(sql.keep_answer, params).fetchall()
            for job_id in hasten:
                connection.execute(sql.hasten, {"id": job_id, "now": micros(now)})
            return _answer(sql, connection, session_id)

        return await self._executor.transaction(work)


def _answer(sql: OutboxStatements, connection: Connection, session_id: str) -> FinalAnswer | None:
    row = connection.execute(sql.answer, {"session_id": session_id}).fetchone()
    if row is None:
        return None
    return FinalAnswer(content=None if row[0] is None else json.loads(row[0]))


def _job_params(job: NewJob, now: int) -> dict[str, object]:
    return {
        "id": job.id,
        "kind": job.kind,
        "subject": job.subject,
        "payload": to_json(job.payload),
        "run_at": micros(job.run_at),
        "now": now,
    }
