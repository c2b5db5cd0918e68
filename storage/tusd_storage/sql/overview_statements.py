# ruff: noqa: S608 - nothing that comes from outside is ever part of a statement's text
"""The statements behind `tusd_storage.ports.overview`.

Owns the SQL. Each reads an index from one end, or stops at a cap: what they cost does not grow with
the tables.
"""

from tusd_storage.sql.rows import JOB, RUN, SESSION
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.tables import (
    COMPLETED,
    DEAD,
    DUE,
    EXPIRABLE,
    FAILED,
    LEASED,
    RECEIVED,
    UNCLEAN,
    UNFINISHED,
)

_S, _J = SESSION.select_list(), JOB.select_list()
_NO_LEASE = "(lease_until IS NULL OR lease_until <= :now)"
_IDLE = f"updated_at <= :idle_before AND {_NO_LEASE}"
_TAIL = 'tail_node IS NOT NULL AND "offset" > parts_size'
_STUCK = (
    f"({UNCLEAN} OR ({FAILED} AND updated_at > :failed_after)"
    f" OR ((({UNFINISHED}) OR ({RECEIVED})) AND {_NO_LEASE})"
    f" OR ({EXPIRABLE} AND {_IDLE}))"
)
_OF_OPEN = 'tail_node, "offset", parts_size, updated_at, lease_until'


class OverviewStatements:
    """All of them, for the dialect of `sql`."""

    def __init__(self, sql: Statements) -> None:
        one = sql.compiled
        # Pulse
        self.writing = one(
            f"SELECT {_S} FROM upload_sessions WHERE {LEASED} AND lease_until > :now"
            " ORDER BY lease_holder LIMIT :limit"
        )
        self.writing_count = one(_counted("upload_sessions", LEASED, order="lease_holder"))
        self.recent = one(_first(EXPIRABLE, "expires_at DESC, id DESC"))
        self.completed = one(_first(COMPLETED, "completed_at DESC, id DESC"))
        self.due = one(f"SELECT {_J} FROM jobs WHERE {DUE} ORDER BY due_at, id LIMIT :limit")
        self.dead = one(
            f"SELECT {_J} FROM jobs WHERE {DEAD} ORDER BY updated_at DESC, id DESC LIMIT :limit"
        )
        # Survey
        self.census = one(
            'SELECT tail_node, COUNT(*), SUM("offset"),'
            f" SUM(CASE WHEN {_TAIL} THEN 1 ELSE 0 END),"
            f' SUM(CASE WHEN {_TAIL} THEN "offset" - parts_size ELSE 0 END),'
            f" SUM(CASE WHEN {_IDLE} THEN 1 ELSE 0 END)"
            f" FROM (SELECT {_OF_OPEN} FROM upload_sessions WHERE {EXPIRABLE}"
            " ORDER BY expires_at, id LIMIT :cap) AS looked GROUP BY tail_node"
        )
        self.finishing = one(_counted("upload_sessions", UNFINISHED, order="id"))
        self.unclean = one(_counted("upload_sessions", UNCLEAN, order="id"))
        self.failed = one(
            _counted("upload_sessions", f"{FAILED} AND updated_at > :failed_after", "updated_at")
        )
        self.jobs_due = one(
            "SELECT state, COUNT(*) FROM"
            f" (SELECT state FROM jobs WHERE {DUE} ORDER BY due_at, id LIMIT :cap) AS looked"
            " GROUP BY state"
        )
        self.jobs_dead = one(_counted("jobs", DEAD, order="updated_at"))
        self.longest_idle = one(_first(f"{EXPIRABLE} AND {_IDLE}", "expires_at, id"))
        self.unfinished = one(_first(f"{UNFINISHED} AND {_NO_LEASE}", "id"))
        self.received = one(_first(f"{RECEIVED} AND {_NO_LEASE}", "id"))
        self.uncleaned = one(_first(UNCLEAN, "id"))
        self.failures = one(
            _first(f"{FAILED} AND updated_at > :failed_after", "updated_at DESC, id DESC")
        )
        self.orphaned = one(
            _first(f"{EXPIRABLE} AND {_TAIL} AND {sql.member('tail_node', 'gone')}", _BY_EXPIRY)
        )
        # Browse
        self.horizon = one(
            "SELECT id FROM upload_sessions WHERE id > :after AND id < :end"
            " ORDER BY id LIMIT 1 OFFSET :look"
        )
        self.browse = {
            (state, owner, stuck): one(_page(state=state, owner=owner, stuck=stuck))
            for state in (False, True)
            for owner in (False, True)
            for stuck in (False, True)
        }
        self.beginning = one(
            f"SELECT {_S} FROM upload_sessions WHERE id >= :from AND id < :end ORDER BY id"
            " LIMIT :limit"
        )
        # Diary
        self.record_run = one(f"INSERT INTO reaper_runs {RUN.insert_values()}")
        self.forget_runs = one(
            "DELETE FROM reaper_runs WHERE node = :node AND id NOT IN"
            " (SELECT id FROM reaper_runs WHERE node = :node ORDER BY id DESC LIMIT :keep)"
        )
        self.runs = one(
            f"SELECT {RUN.select_list()} FROM reaper_runs ORDER BY started_at DESC, id DESC"
            " LIMIT :limit"
        )


_BY_EXPIRY = "expires_at, id"


def _first(where: str, order: str) -> str:
    return f"SELECT {_S} FROM upload_sessions WHERE {where} ORDER BY {order} LIMIT :limit"


def _counted(table: str, where: str, order: str) -> str:
    """A count that ends at the cap; the order leads to the index."""
    rows = f"SELECT 1 FROM {table} WHERE {where} ORDER BY {order} LIMIT :cap"
    return f"SELECT COUNT(*) FROM ({rows}) AS counted"


def _page(*, state: bool, owner: bool, stuck: bool) -> str:
    conditions = [
        "id > :after",
        "id <= :end",
        *(["state = :state"] if state else []),
        *(["owner = :owner"] if owner else []),
        *([_STUCK] if stuck else []),
    ]
    return (
        f"SELECT {_S} FROM upload_sessions WHERE {' AND '.join(conditions)}"
        " ORDER BY id LIMIT :limit"
    )
