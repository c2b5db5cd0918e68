"""What runs every second, sweeps and the operator's page find their rows by an index, however large
the tables are."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.support.state import Database, sqlite_database
from tusd_storage.sql.engine import make_engine
from tusd_storage.sql.overview_statements import OverviewStatements
from tusd_storage.sql.statements import Statements
from tusd_storage.sql.sweep_statements import SweepStatements

__all__ = ["sqlite_database"]

STATEMENTS = {
    "get": "sqlite_autoindex_upload_sessions_1",
    "acquire": "sqlite_autoindex_upload_sessions_1",
    "want": "sqlite_autoindex_upload_sessions_1",
    "wanted": "ix_upload_sessions_wanted",
    "renew": "ix_upload_sessions_leased",
    "list_expired": "ix_upload_sessions_expirable",
    "list_cleanup": "ix_upload_sessions_unclean",
    "list_stuck": "ix_upload_sessions_unfinished",
    "claim": "ix_jobs_due",
    "succeed": "sqlite_autoindex_jobs_1",
}
SWEEPS = {
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
LOOKS = {
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


@pytest.fixture
def engine(sqlite_database: Database) -> Iterator[Engine]:
    made = make_engine(sqlite_database.url)
    yield made
    made.dispose()


def plan(engine: Engine, sql: str) -> list[str]:
    """The steps SQLite would take; what the parameters are does not matter to it."""
    given = dict.fromkeys(re.findall(r":(\w+)", sql), "[]")
    with engine.connect() as connection:
        rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", given)
        return [step[3] for step in rows.fetchall()]


def check_searches(steps: list[str], index: str) -> None:
    assert any(re.search(rf"SEARCH .*{index}\b", step) for step in steps), steps
    assert not any(re.match(r"SCAN (upload_sessions|jobs)", step) for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_of_every_second_scans_a_table(engine: Engine, name: str) -> None:
    sql = getattr(Statements(engine.dialect), name)
    check_searches(plan(engine, sql), STATEMENTS[name])


@pytest.mark.parametrize("name", SWEEPS)
def test_no_sweep_scans_a_table(engine: Engine, name: str) -> None:
    sql = getattr(SweepStatements(Statements(engine.dialect)), name)
    check_searches(plan(engine, sql), SWEEPS[name])


@pytest.mark.parametrize("name", LOOKS)
def test_no_look_scans_a_table(engine: Engine, name: str) -> None:
    sql = getattr(OverviewStatements(Statements(engine.dialect)), name)
    steps = plan(engine, sql)
    tables = [step for step in steps if re.search(r"\b(upload_sessions|jobs)\b", step)]
    assert tables and all(re.search(rf"\b{LOOKS[name]}\b", step) for step in tables), steps
    assert name in GROUPS or not any("TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize("wanted", [(False, False, False), (True, True, True)])
def test_browsing_goes_along_the_ids(engine: Engine, wanted: tuple[bool, bool, bool]) -> None:
    sql = OverviewStatements(Statements(engine.dialect)).browse[wanted]
    assert plan(engine, sql) == [
        "SEARCH upload_sessions USING INDEX sqlite_autoindex_upload_sessions_1 (id>? AND id<?)"
    ]
