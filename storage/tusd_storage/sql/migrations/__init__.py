"""Alembic: `env` runs, `versions` holds one module for each revision."""
