# ruff: noqa: S608 - nothing that comes from outside is ever part of a statement's text
"""Every statement, as text, compiled once for each dialect.

Owns the SQL. Knows no connection and no record: select lists come from `rows`, conditions that an
index must match from `tables`. Parameters are named, but for those of whole rows, which go by
position (SQLite looks for each name among all); a compiled statement goes straight to the driver,
so a call pays for no compiler and no result machinery.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Dialect, text
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from tusd_storage.lifecycle import OPEN, TERMINAL, sources_of
from tusd_storage.records import AssetState, SessionState
from tusd_storage.sql.engine import SQLITE
from tusd_storage.sql.rows import ASSET, JOB, NODE, PART, SESSION, Params
from tusd_storage.sql.tables import (
    CREATED,
    DUE,
    EXPIRABLE,
    OWNED,
    PROMOTION,
    UNCLEAN,
    UNFINISHED,
    WANTED,
    listed,
)

_S = SESSION.select_list()
_CRC32 = '"crc32"'
# Nodes before revision 0008 write 0 for a copied part, whose checksum they do not know; they may
# run beside us. That of copied bytes which really is 0 is lost with it: the store is not told.
_KNOWN_CRC32 = (
    "CASE WHEN crc32 = 0 AND EXISTS"
    " (SELECT 1 FROM upload_sessions WHERE id = :id AND kind = 'final')"
    " THEN NULL ELSE crc32 END"
)
_FREE = "lease_holder = NULL, lease_until = NULL, lease_wanted = 0, lease_stolen = 0"


def closing_sources(target: SessionState) -> frozenset[SessionState]:
    """From where a session may go to `target`, or stay there."""
    return sources_of(target) | {target}


def completing_sources() -> frozenset[SessionState]:
    """From where a session reaches `completed`, by way of `verifying`."""
    return sources_of(SessionState.COMPLETED) | sources_of(SessionState.VERIFYING)


class Statements:
    """All statements for one dialect.

    PostgreSQL can change two tables in one statement, and so in one round trip without BEGIN and
    COMMIT; SQLite cannot. Where that counts there is a statement `…_both`, or None.
    """

    insert_both: str | None = None
    append_both: Mapping[tuple[SessionState, bool], str] | None = None

    def __init__(self, dialect: Dialect) -> None:
        self.is_sqlite = self._sqlite = dialect.name == SQLITE
        kind: Any = SQLiteDialect_pysqlite if self._sqlite else type(dialect)
        self._dialect: Dialect = kind(paramstyle="named") if self._sqlite else dialect
        self._positional: Dialect = kind(paramstyle="qmark" if self._sqlite else "format")
        self._sessions()
        self._commits()
        self._listings()
        self._assets_and_nodes()
        self._jobs()
        if not self._sqlite:
            self._both()

    def listed(self, values: Collection[str]) -> object:
        """A parameter for `member`: any number of values in one."""
        return json.dumps(list(values)) if self._sqlite else list(values)

    def member(self, column: str, param: str) -> str:
        """The condition that the column is among the values of a `listed` parameter."""
        if self._sqlite:
            return f"{column} IN (SELECT value FROM json_each(:{param}))"
        return f"{column} = ANY(CAST(:{param} AS TEXT[]))"

    def pairs(self, numbers: Mapping[str, int]) -> Params:
        """The parameters of `_pairs`: ids and their numbers."""
        if self._sqlite:
            return {"pairs": json.dumps(list(numbers.items()))}
        return {"ids": list(numbers), "numbers": list(numbers.values())}

    def _pairs(self) -> str:
        """Rows (id, number) from the parameters that `pairs` makes."""
        if self._sqlite:
            both = "json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS number"
            return f"(SELECT {both} FROM json_each(:pairs)) AS pair"
        return "unnest(CAST(:ids AS TEXT[]), CAST(:numbers AS BIGINT[])) AS pair (id, number)"

    def compiled(self, sql: str) -> str:
        """SQL with `:named` parameters, as this dialect's driver takes it."""
        return str(text(sql).compile(dialect=self._dialect))

    def _by_position(self, sql: str) -> str:
        """The same for parameters in the order in which the statement names them."""
        return str(text(sql).compile(dialect=self._positional))

    def _sessions(self) -> None:
        one = self.compiled
        self.insert_session = self._by_position(
            f"INSERT INTO upload_sessions {SESSION.insert_values()}"
        )
        self.insert_created = self._by_position(
            f"INSERT INTO upload_sessions {SESSION.insert_values()}"
            f" ON CONFLICT (creation_key) WHERE {CREATED} DO NOTHING RETURNING id"
        )
        self.created = one(
            f"SELECT {_S} FROM upload_sessions WHERE creation_key = :creation_key AND {CREATED}"
        )
        self.free_key = one(
            "UPDATE upload_sessions SET creation_key = NULL WHERE creation_key = :creation_key"
            f" AND {CREATED} AND state <> 'completed' AND expires_at <= :now"
        )
        self.owned = one(
            'SELECT COUNT(*), CAST(COALESCE(SUM(COALESCE(length, size_promised, max_size, "offset"'
            ")), 0) AS BIGINT)"
            f" FROM upload_sessions WHERE {OWNED} AND owner = :owner"
            " AND (expires_at IS NULL OR expires_at > :now)"
        )
        # What one owner creates is counted by one transaction at a time. SQLite has one writer.
        self.lock_owner = None if self._sqlite else one("SELECT pg_advisory_xact_lock(:lock)")
        self.get = one(f"SELECT {_S} FROM upload_sessions WHERE id = :id")
        self.get_many = one(f"SELECT {_S} FROM upload_sessions WHERE {self.member('id', 'ids')}")
        self.parts = one(
            f"SELECT {PART.select_list().replace(_CRC32, _KNOWN_CRC32)} FROM upload_parts"
            " WHERE session_id = :id ORDER BY number"
        )
        self.acquire = one(
            "UPDATE upload_sessions SET"
            " lease_stolen = CASE WHEN lease_holder IS NULL THEN 0 ELSE 1 END,"
            " lease_holder = :holder, lease_until = :until,"
            " lease_epoch = lease_epoch + 1, lease_wanted = 0"
            " WHERE id = :id AND"
            " (lease_holder IS NULL OR lease_until <= :now OR lease_holder = :over)"
            f" RETURNING {_S}"
        )
        self.want = one(
            "UPDATE upload_sessions SET lease_wanted = 1 WHERE id = :id"
            " AND lease_epoch = :epoch AND lease_holder IS NOT NULL AND lease_wanted = 0"
        )
        self.wanted = one(
            f"SELECT id FROM upload_sessions WHERE lease_holder = :holder AND {WANTED}"
        )
        self.renew = one(
            "UPDATE upload_sessions SET lease_until = :until WHERE lease_holder = :holder"
            " RETURNING id"
        )
        self.release = one(
            f"UPDATE upload_sessions SET {_FREE} WHERE id = :id AND lease_epoch = :epoch"
        )
        self.release_many = one(
            f"UPDATE upload_sessions SET {_FREE} FROM {self._pairs()}"
            " WHERE upload_sessions.id = pair.id AND lease_epoch = pair.number"
        )
        self.opened = one(
            "UPDATE upload_sessions SET upload_id = :upload_id WHERE id = :id"
            f" AND lease_epoch = :epoch AND state IN {listed(OPEN)} RETURNING id"
        )

    def _commits(self) -> None:
        self.append = {
            (state, release): self.compiled(self._append(state, release))
            for state in OPEN
            for release in (False, True)
        }
        self.insert_part = self.compiled(
            "INSERT INTO upload_parts (session_id, number, size, etag, crc32)"
            " VALUES (:session_id, :number, :size, :etag, :crc32)"
        )
        self.complete = {release: self._complete(release) for release in (False, True)}
        self.close = {state: self._close(state) for state in TERMINAL - {SessionState.COMPLETED}}
        self.delete = self.compiled(
            "UPDATE upload_sessions SET deleted_at = COALESCE(deleted_at, :now),"
            f" cleanup_reason = :cleanup_reason, updated_at = :now, {_FREE}"
            " WHERE id = :id AND lease_epoch = :epoch AND state = 'completed' RETURNING id"
        )

    def _both(self) -> None:
        self.insert_both = self._by_position(
            f"WITH asset AS (INSERT INTO assets {ASSET.insert_values()})"
            f" INSERT INTO upload_sessions {SESSION.insert_values()}"
        )
        self.append_both = {
            key: self.compiled(
                f"WITH moved AS ({self._append(*key)}), ledger AS ("
                "INSERT INTO upload_parts (session_id, number, size, etag, crc32)"
                " SELECT moved.id, part.number, part.size, part.etag, part.crc32 FROM moved,"
                " unnest(CAST(:part_numbers AS INTEGER[]), CAST(:part_sizes AS BIGINT[]),"
                " CAST(:part_etags AS TEXT[]), CAST(:part_crc32s AS BIGINT[]))"
                " AS part (number, size, etag, crc32)) SELECT id FROM moved"
            )
            for key in self.append
        }

    @staticmethod
    def _append(state: SessionState, release: bool) -> str:
        return (
            'UPDATE upload_sessions SET "offset" = :to_offset,'
            " parts_count = parts_count + :parts, parts_size = parts_size + :size,"
            " parts_crc32 = :parts_crc32, tail_node = :tail_node, tail_crc32 = :tail_crc32,"
            f" length = COALESCE(length, :length), state = '{state}',"
            f" expires_at = :expires_at, updated_at = :now{', ' + _FREE if release else ''}"
            ' WHERE id = :id AND lease_epoch = :epoch AND "offset" = :from_offset'
            f" AND state IN {listed(closing_sources(state))}"
            " AND (:parts = 0 OR parts_count = :before) RETURNING id"
        )

    def _complete(self, release: bool) -> str:
        return self.compiled(
            "UPDATE upload_sessions SET state = 'completed',"
            ' "offset" = :size, length = :size, tail_node = NULL, tail_crc32 = 0,'
            " etag = :etag, crc32 = :crc32, failure = NULL,"
            f" completed_at = :now, updated_at = :now{', ' + _FREE if release else ''}"
            " WHERE id = :id AND lease_epoch = :epoch"
            f" AND state IN {listed(completing_sources())} RETURNING {_S}"
        )

    def _close(self, state: SessionState) -> str:
        return self.compiled(
            f"UPDATE upload_sessions SET state = '{state}', failure = :failure,"
            f" cleanup_reason = :cleanup_reason, updated_at = :now, {_FREE}"
            " WHERE id = :id AND lease_epoch = :epoch"
            f" AND state IN {listed(closing_sources(state))} RETURNING {_S}"
        )

    def _listings(self) -> None:
        # Combinations as statements of their own: an optional condition would cost the index.
        self.list_sessions = {
            (by_state, by_owner): self._page(
                *(["state = :state"] if by_state else []), *(["owner = :owner"] if by_owner else [])
            )
            for by_state in (False, True)
            for by_owner in (False, True)
        }
        self.list_cleanup = self._page(UNCLEAN)
        self.list_stuck = self._page(UNFINISHED, "(lease_until IS NULL OR lease_until <= :now)")
        self.list_expired = self.compiled(
            f"SELECT {_S} FROM upload_sessions WHERE {EXPIRABLE} AND expires_at <= :now"
            " AND (expires_at, id) > (:after_at, :after) ORDER BY expires_at, id LIMIT :limit"
        )

    def _page(self, *conditions: str) -> str:
        where = " AND ".join([*conditions, "id > :after"])
        return self.compiled(
            f"SELECT {_S} FROM upload_sessions WHERE {where} ORDER BY id LIMIT :limit"
        )

    def _assets_and_nodes(self) -> None:
        asset, node = ASSET.select_list(), NODE.select_list()
        self.insert_asset = self._by_position(f"INSERT INTO assets {ASSET.insert_values()}")
        self.asset = self.compiled(f"SELECT {asset} FROM assets WHERE id = :id")
        self.validate_asset = self.compiled(
            "UPDATE assets SET state = 'validating', size = :size,"
            " content_type = COALESCE(:content_type, content_type), updated_at = :now"
            " WHERE id = :id AND state = 'staged' RETURNING id"
        )
        ends = [AssetState.AVAILABLE, AssetState.QUARANTINED]
        self.settle_asset = self.compiled(
            "UPDATE assets SET state = :state, reason = :reason, updated_at = :now"
            f" WHERE id = :id AND state = 'validating' AND :state IN {listed(ends)}"
            f" RETURNING {asset}"
        )
        self.seen = self.compiled(
            f"INSERT INTO nodes {NODE.insert_values()} ON CONFLICT (name) DO UPDATE SET"
            " instance = excluded.instance, started_at = excluded.started_at,"
            " seen_at = excluded.seen_at"
        )
        self.nodes = self.compiled(f"SELECT {node} FROM nodes ORDER BY name")

    def _jobs(self) -> None:
        job = JOB.select_list()
        mine = "WHERE id = :id AND locked_by = :worker AND state = 'running' RETURNING id"
        unlocked = "locked_by = NULL, locked_until = NULL, updated_at = :now"
        self.insert_promotion = self.compiled(
            f"INSERT INTO jobs ({job}, due_at) VALUES (:id, 'promote_asset', :subject, :payload,"
            " 'queued', 0, :now, NULL, NULL, NULL, :now, :now, :now)"
            f" ON CONFLICT (subject) WHERE {PROMOTION} DO NOTHING"
        )
        # An array is made once; a subquery may be run again for each row, past its LIMIT.
        begin, end = "IN (", ")"
        if not self._sqlite:
            begin, end = "= ANY(ARRAY(", " FOR UPDATE SKIP LOCKED))"
        self.claim = self.compiled(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, locked_by = :worker,"
            " locked_until = :until, due_at = :until, updated_at = :now"
            f" WHERE id {begin}SELECT id FROM jobs WHERE {DUE} AND due_at <= :now"
            f" AND {self.member('kind', 'kinds')}"
            f" ORDER BY due_at, id LIMIT :limit{end} RETURNING {job}"
        )
        self.extend = self.compiled(
            f"UPDATE jobs SET locked_until = :until, due_at = :until {mine}"
        )
        self.succeed = self.compiled(
            f"UPDATE jobs SET state = 'done', due_at = NULL, error = NULL, {unlocked} {mine}"
        )
        self.retry = self.compiled(
            "UPDATE jobs SET state = 'queued', run_at = :run_at, due_at = :run_at,"
            f" error = :error, {unlocked} {mine}"
        )
        self.bury = self.compiled(
            f"UPDATE jobs SET state = 'dead', due_at = NULL, error = :error, {unlocked} {mine}"
        )
        page = f"SELECT {job} FROM jobs WHERE id > :after"
        self.jobs = {
            False: self.compiled(f"{page} ORDER BY id LIMIT :limit"),
            True: self.compiled(f"{page} AND state = :state ORDER BY id LIMIT :limit"),
        }
