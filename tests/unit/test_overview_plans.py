"""What the operator's page reads every second comes from an index or ends at a cap."""

import re

import pytest

from tests.support.state import Database, sqlite_database
from tusd_storage.sql.engine import make_engine
from tusd_storage.sql.overview_statements import OverviewStatements
from tusd_storage.sql.statements import Statements

__all__ = ["sqlite_database"]

PLANS = {
    "writing": "ix_upload_sessions_leased",
    "writing_count": "ix_upload_sessions_leased",
    "recent": "ix_upload_sessions_expirable",
    "completed": "ix_upload_sessions_completed",
    "due": "ix_jobs_due",
    "dead": "ix_jobs_dead",
    "census": "ix_upload_sessions_expirable",
    "finishing": "ix_upload_sessions_unfinished",
    "unclean": "ix_upload_sessions_unclean",
    "failed": "ix_upload_sessions_failed",
    "jobs_due": "ix_jobs_due",
    "jobs_dead": "ix_jobs_dead",
    "longest_idle": "ix_upload_sessions_expirable",
    "unfinished": "ix_upload_sessions_unfinished",
    "received": "ix_upload_sessions_received",
    "uncleaned": "ix_upload_sessions_unclean",
    "failures": "ix_upload_sessions_failed",
    "orphaned": "ix_upload_sessions_expirable",
    "horizon": "sqlite_autoindex_upload_sessions_1",
    "beginning": "sqlite_autoindex_upload_sessions_1",
}
GROUPS = {"census", "jobs_due"}
"""Sort their few groups, after the cap."""


@pytest.mark.parametrize("name", PLANS)
def test_no_look_scans_a_table(sqlite_database: Database, name: str) -> None:
    engine = make_engine(sqlite_database.url)
    sql = getattr(OverviewStatements(Statements(engine.dialect)), name)
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql), 1) | {"gone": "[]"}
    with engine.connect() as connection:
        plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        steps = [step[3] for step in plan.fetchall()]
    engine.dispose()
    tables = [step for step in steps if re.search(r"\b(upload_sessions|jobs)\b", step)]
    assert tables and all(re.search(rf"\b{PLANS[name]}\b", step) for step in tables), steps
    assert name in GROUPS or not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize("wanted", [(False, False, False), (True, True, True)])
def test_browsing_goes_along_the_ids(
    sqlite_database: Database, wanted: tuple[bool, bool, bool]
) -> None:
    engine = make_engine(sqlite_database.url)
    sql = OverviewStatements(Statements(engine.dialect)).browse[wanted]
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    with engine.connect() as connection:
        plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        steps = [step[3] for step in plan.fetchall()]
    engine.dispose()
    assert steps == [
        "SEARCH upload_sessions USING INDEX sqlite_autoindex_upload_sessions_1 (id>? AND id<?)"
    ]
