"""What is still read of a body that was refused, so that its sender sees the answer.

A client that only sends until it has sent all would otherwise see a broken connection.
"""

from tusd_py.http.body import AsgiBody
from tusd_py.uploads.body import ClientGone
from tusd_py.uploads.deadlines import Deadlines

DRAIN_SIZE = 32 * 1024 * 1024
DRAIN_S = 3.0
MAX_DRAINS = 64
"""Bodies that are read to no purpose at the same time; more are just cut off."""


class Drains:
    """All of them in the process; none holds up its end."""

    def __init__(self) -> None:
        self._deadlines = Deadlines()

    async def drain(self, body: AsgiBody) -> None:
        """Reads a little more of a body nobody wants, and drops it."""
        if len(self._deadlines) >= MAX_DRAINS:
            return
        left = DRAIN_SIZE
        try:
            async with self._deadlines.within(DRAIN_S):
                while left > 0 and not body.ended:
                    left -= len(await body.read())
        except (TimeoutError, ClientGone):
            return

    def stop(self) -> None:
        """Ends all, and lets none begin."""
        self._deadlines.expire()
