"""Connections of this process, counted: two additions for each connection, none for a request."""

import asyncio
from typing import ClassVar

from tusd_py.http.connection import Connection


class CountedConnection(Connection):
    """As `Connection`; `open` says how many there are."""

    open: ClassVar[int] = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        CountedConnection.open += 1
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        CountedConnection.open -= 1
        super().connection_lost(exc)
