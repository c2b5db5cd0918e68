"""Sessions and jobs in SQL: SQLite (WAL) as the embedded default, PostgreSQL for several nodes.

`SqlStore.connect(url)` gives the adapter; `migrate(url)` brings the schema up to date.
"""

from tusd_storage.sql.schema import TablesInUse, migrate, schema_is_current
from tusd_storage.sql.store import SqlStore

__all__ = ["SqlStore", "TablesInUse", "migrate", "schema_is_current"]
