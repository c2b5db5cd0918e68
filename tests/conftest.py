"""Fixtures for every kind of test: one S3 engine of each sort for the whole run."""

from tests.support.engines import seaweed, seaweed_tls, swift

__all__ = ["seaweed", "seaweed_tls", "swift"]
