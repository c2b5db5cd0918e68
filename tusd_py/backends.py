"""The database and the store of a server, bare, for `tusd-py doctor` to look at.

They are not those of `services`, which cannot be built where something is wrong with them.
"""

import asyncio

from tusd_py.configs import s3_config
from tusd_py.settings import Settings
from tusd_storage.s3 import S3Store
from tusd_storage.s3.inspection import BucketRules
from tusd_storage.sql import SqlStore, schema_is_current

DEADLINE_S = 5.0
"""A store that is down is told soon."""


class Backends:
    """Connects to nothing before it is asked; `aclose` it."""

    def __init__(self, settings: Settings) -> None:
        config = s3_config(settings.model_copy(update={"s3_deadline_s": DEADLINE_S}))
        self.embedded = settings.database_url.startswith("sqlite")
        self.sessions = SqlStore.connect(settings.database_url, pool_size=1)
        self.objects = S3Store(config)
        self.rules = BucketRules(config)
        self._url = settings.database_url

    async def schema_is_current(self) -> bool:
        """Whether the schema is the one of this version. Raises: StateUnavailable."""
        return await asyncio.to_thread(schema_is_current, self._url)

    async def aclose(self) -> None:
        """Ends all connections."""
        await self.rules.aclose()
        await self.objects.aclose()
        await self.sessions.aclose()
