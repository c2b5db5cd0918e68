"""Sweeps find what is due by an index, however large the tables are."""

import re

import pytest

from tests.support.state import Database
from tusd_storage.sql.engine import make_engine
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.sweep_statements import SweepStatements

PLANS = {
    "list_received": "ix_upload_sessions_received",
    "list_partials": "ix_upload_sessions_partials",
    "list_open_finals": "ix_upload_sessions_open_finals",
    "list_unswept": "ix_upload_sessions_unswept",
    "list_forgettable": "ix_upload_sessions_forgettable",
    "list_lost_jobs": "ix_jobs_due",
    "list_done_jobs": "ix_jobs_done",
    "find_keys": "sqlite_autoindex_upload_sessions_2",
    "forget": "sqlite_autoindex_upload_sessions_1",
}


@pytest.mark.parametrize("name", PLANS)
def test_no_sweep_scans_a_table(sqlite_database: Database, name: str) -> None:
    engine = make_engine(sqlite_database.url)
    sql = getattr(SweepStatements(Statements(engine.dialect)), name)
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql), "[]")
    with engine.connect() as connection:
        plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        steps = [step[3] for step in plan.fetchall()]
    engine.dispose()
    assert any(re.search(rf"SEARCH .*{PLANS[name]}\b", step) for step in steps), steps
    assert not any(re.match(r"SCAN (upload_sessions|jobs)", step) for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps
