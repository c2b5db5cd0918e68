"""Fixtures for every kind of test: one S3 engine of each sort for the whole run, and databases."""

from tests.support.engines import seaweed, seaweed_tls, swift
from tests.support.state import database, postgres_database, sqlite_database, store

__all__ = [
    "database",
    "postgres_database",
    "seaweed",
    "seaweed_tls",
    "sqlite_database",
    "store",
    "swift",
]
