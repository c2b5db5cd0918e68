"""The partial indexes of the tables, for whoever creates them or compares them with a database.

Apart from `tables`, because SQLAlchemy imports PostgreSQL's dialect for them (2 MiB): a server on
SQLite needs neither.
"""

from collections.abc import Iterable

from sqlalchemy import Index, Table, text

from tusd_storage.sql.tables import (
    COMPLETED,
    CREATED,
    DEAD,
    DONE,
    DUE,
    EXPIRABLE,
    FAILED,
    FORGETTABLE,
    LEASED,
    OPEN_FINALS,
    OWNED,
    PARTIALS,
    PROMOTION,
    RECEIVED,
    UNCLEAN,
    UNFINISHED,
    UNSWEPT,
    WANTED,
    jobs,
    metadata,
    upload_sessions,
)

__all__ = ["metadata"]


def _partial(
    name: str, table: Table, columns: Iterable[str], where: str, *, unique: bool = False
) -> None:
    Index(
        name,
        *(table.c[column] for column in columns),
        unique=unique,
        sqlite_where=text(where),
        postgresql_where=text(where),
    )


_partial("ix_upload_sessions_expirable", upload_sessions, ["expires_at", "id"], EXPIRABLE)
_partial("ix_upload_sessions_unfinished", upload_sessions, ["id"], UNFINISHED)
_partial("ix_upload_sessions_unclean", upload_sessions, ["id"], UNCLEAN)
_partial("ix_upload_sessions_leased", upload_sessions, ["lease_holder"], LEASED)
_partial("ix_upload_sessions_wanted", upload_sessions, ["lease_holder"], WANTED)
_partial("ix_upload_sessions_received", upload_sessions, ["id"], RECEIVED)
_partial("ix_upload_sessions_partials", upload_sessions, ["expires_at", "id"], PARTIALS)
_partial("ix_upload_sessions_open_finals", upload_sessions, ["id"], OPEN_FINALS)
_partial("ix_upload_sessions_unswept", upload_sessions, ["updated_at", "id"], UNSWEPT)
_partial("ix_upload_sessions_forgettable", upload_sessions, ["updated_at", "id"], FORGETTABLE)
_partial("ix_upload_sessions_completed", upload_sessions, ["completed_at", "id"], COMPLETED)
_partial("ix_upload_sessions_failed", upload_sessions, ["updated_at", "id"], FAILED)
_partial("ix_jobs_dead", jobs, ["updated_at", "id"], DEAD)
_partial("uq_upload_sessions_creation_key", upload_sessions, ["creation_key"], CREATED, unique=True)
_partial("ix_upload_sessions_owned", upload_sessions, ["owner"], OWNED)
_partial("ix_jobs_due", jobs, ["due_at", "id"], DUE)
_partial("ix_jobs_done", jobs, ["updated_at", "id"], DONE)
_partial("uq_jobs_promotion", jobs, ["subject"], PROMOTION, unique=True)
