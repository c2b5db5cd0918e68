"""What executes a piece of work on a database: the port between the stores and the two engines.

Owns the promise below and the choice of the engine. Knows no table and no driver.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Engine

from tusd_storage.ports import Writing
from tusd_storage.sql.calls import Connection, Patience
from tusd_storage.sql.engine import SQLITE

T = TypeVar("T")


class Executor(Protocol):
    """Runs functions on driver connections, in threads of its own.

    The work is a plain function of a connection. It must not keep the connection, and it may be
    run again from its start when the database rolled it back: no effects beside the database.
    Driver errors come out as the taxonomy; what the work itself raises comes out as it is.
    """

    async def read(self, work: Callable[[Connection], T], *, refusable: bool = False) -> T:
        """Statements that change nothing.

        What is `refusable`, here and below, comes before anything was done for its request: it
        raises StateOverloaded where it would wait too long for its turn.
        """
        ...

    async def write(
        self,
        work: Callable[[Connection], T],
        *,
        flush: bool = True,
        refusable: bool = False,
        before: Writing | None = None,
    ) -> T:
        """One changing statement, perhaps with reads behind it.

        `before` is done once, before the work begins and outside its transaction; if it fails, the
        work is not done. A cancelled caller waits until both are over.

        Without `flush` a power loss may undo it, unless something flushed came later; the end of a
        process never does. For leases: a power loss ends their holders, too.
        """
        ...

    async def transaction(
        self,
        work: Callable[[Connection], T],
        *,
        refusable: bool = False,
        before: Writing | None = None,
    ) -> T:
        """Several changing statements: all happen or none."""
        ...

    def check_room(self) -> None:
        """Whether a refusable write would be taken now. Costs next to nothing.

        Raises: StateOverloaded.
        """
        ...

    async def aclose(self) -> None:
        """Work under way finishes first; later calls raise StateUnavailable."""
        ...


def make_executor(engine: Engine, *, pool_size: int, patience: Patience) -> Executor:
    """The executor for the engine's database."""
    if engine.dialect.name == SQLITE:
        from tusd_storage.sql.sqlite import SqliteExecutor

        return SqliteExecutor(engine, patience)
    from tusd_storage.sql.postgresql import PostgresExecutor

    return PostgresExecutor(engine, pool_size=pool_size, patience=patience)
