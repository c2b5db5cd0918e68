"""Runs migrations on the connection it is given (`schema.migrate`), inside its transaction."""

from alembic import context

from tusd_storage.sql.indexes import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller has begun the transaction, and commits it
)
context.run_migrations()
