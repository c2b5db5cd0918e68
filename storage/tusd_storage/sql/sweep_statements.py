# ruff: noqa: S608 - nothing that comes from outside is ever part of a statement's text
"""The statements of the sweeps, beside those in `statements`.

Owns the SQL. Conditions that an index must match come from `tables`; every page is a keyset page.
"""

from tusd_storage.sql.rows import JOB, SESSION
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.tables import (
    DONE,
    ENDED,
    FORGETTABLE,
    LEASED,
    OPEN_FINALS,
    PARTIALS,
    RECEIVED,
    UNSWEPT,
)

_S, _J = SESSION.select_list(), JOB.select_list()
_UNLOCKED = "locked_by = NULL, locked_until = NULL, updated_at = :now"
_DUE_NOW = f"state = 'queued', run_at = :now, due_at = :now, {_UNLOCKED}"


class SweepStatements:
    """All of them, for the dialect of `sql`."""

    def __init__(self, sql: Statements) -> None:
        one = sql.compiled
        self.lead = one(
            "INSERT INTO leaders (name, holder, until) VALUES (:name, :holder, :until)"
            " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until"
            " WHERE leaders.holder = excluded.holder OR leaders.until <= :now RETURNING name"
        )
        self.resign = one("DELETE FROM leaders WHERE name = :name AND holder = :holder")
        self.list_received = one(
            f"{_sessions(RECEIVED)} AND (tail_node IS NULL OR tail_node = :node)"
            f" AND (lease_until IS NULL OR lease_until <= :now) {_BY_ID}"
        )
        self.list_partials = one(_sessions(PARTIALS) + _by("expires_at"))
        self.list_open_finals = one(f"{_sessions(OPEN_FINALS)} {_BY_ID}")
        self.list_unswept = one(_sessions(UNSWEPT) + _by("updated_at"))
        self.list_forgettable = one(_sessions(FORGETTABLE) + _by("updated_at"))
        self.list_run_out = one(f"{_sessions(LEASED)} AND lease_until <= :before {_BY_ID}")
        self.list_lost_jobs = one(_jobs("state = 'running' AND due_at IS NOT NULL") + _by("due_at"))
        self.list_done_jobs = one(_jobs(DONE) + _by("updated_at"))
        self.find_keys = one(
            f"{_sessions('bucket = :bucket')} AND {sql.member('object_key', 'keys')}"
        )
        self.swept = one(
            f"UPDATE upload_sessions SET swept_at = :now WHERE id = :id AND {ENDED} RETURNING id"
        )
        self.forget = one(
            f"DELETE FROM upload_sessions WHERE id = :id AND lease_epoch = :epoch"
            f" AND {FORGETTABLE} RETURNING asset_id"
        )
        # Two sessions may share an asset: the last one takes it along.
        self.forget_asset = one(
            "DELETE FROM assets WHERE id = :id"
            " AND NOT EXISTS (SELECT 1 FROM upload_sessions WHERE asset_id = :id)"
        )
        self.end_lease = one(
            "UPDATE upload_sessions SET lease_epoch = lease_epoch + 1, lease_holder = NULL,"
            " lease_until = NULL, lease_wanted = 0, lease_stolen = 0"
            " WHERE id = :id AND lease_epoch = :epoch AND lease_until <= :before RETURNING id"
        )
        self.requeue = one(
            f"UPDATE jobs SET {_DUE_NOW}"
            " WHERE id = :id AND state = 'running' AND locked_until <= :now RETURNING id"
        )
        self.forget_job = one(f"DELETE FROM jobs WHERE id = :id AND {DONE} RETURNING id")
        self.job = one(f"SELECT {_J} FROM jobs WHERE id = :id")
        self.revive = one(
            f"UPDATE jobs SET {_DUE_NOW}, attempts = 0"
            " WHERE id = :id AND state IN ('dead', 'queued') RETURNING id"
        )


_BY_ID = "AND id > :after ORDER BY id LIMIT :limit"


def _by(column: str) -> str:
    """The rest of a page in order of a time, up to `before`."""
    return (
        f" AND {column} <= :before AND ({column}, id) > (:after_at, :after)"
        f" ORDER BY {column}, id LIMIT :limit"
    )


def _sessions(where: str) -> str:
    return f"SELECT {_S} FROM upload_sessions WHERE {where}"


def _jobs(where: str) -> str:
    return f"SELECT {_J} FROM jobs WHERE {where}"
