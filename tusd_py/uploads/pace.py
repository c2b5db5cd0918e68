"""How many parts of one body should be on their way to the store at once.

As many as arrive while one is sent: with fewer the client waits for a store that could take more,
more would only hold memory. A store that is near needs three, one that is far away a dozen.
"""

import math
from collections import deque

SEEN = 8
"""Parts that are remembered: a network changes."""
SPARE = 2
"""Parts beyond those that arrive while one is sent: nothing comes at even times."""
FIRST = 4
"""Parts while nothing is known of the store."""


class Pace:
    """For one body. Times are seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._received: deque[float] = deque(maxlen=SEEN)
        self._sent: deque[float] = deque(maxlen=SEEN)
        self._answer_s: float | None = None

    def received(self, seconds: float) -> None:
        """A part came in so many."""
        self._received.append(seconds)

    def sent(self, seconds: float) -> None:
        """A part was sent and answered in so many."""
        self._sent.append(seconds)

    def answered(self, seconds: float) -> None:
        """The store answered a request without a body in so many: no part will take less."""
        self._answer_s = seconds

    @property
    def parts(self) -> int:
        """So many may be on their way."""
        if self._sent:
            # The quickest: what the store needs, without parts that stood in each other's way.
            wanted = self._while(min(self._sent))
        elif self._answer_s is not None:
            wanted = max(FIRST, self._while(self._answer_s))
        else:
            wanted = FIRST
        return min(self._most, wanted)

    def _while(self, seconds: float) -> int:
        """The parts that keep coming for so long."""
        each = sum(self._received) / max(1, len(self._received))
        return self._most if each <= 0 else SPARE + math.ceil(seconds / each)
