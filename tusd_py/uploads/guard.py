"""The guard before a tail: acknowledged bytes must be on this node, or nothing is accepted.

What happens when they are not is the operator's choice. `fail`: the request is refused and changes
nothing; sticky routing brings the client home. `rewind`: the offset steps back to what the store
has, less than a part and never more than one, and the client is told.
"""

from collections.abc import Callable

import structlog

from tusd_py.protocol.errors import OffsetMismatch
from tusd_py.telemetry.events import Event, TailLost
from tusd_py.uploads.ledger import Ledger
from tusd_storage.errors import TailMissing
from tusd_storage.ports import Tail, TailStore

log = structlog.get_logger(__name__)


class Guard:
    """Opens tails, or says what is wrong with them."""

    def __init__(
        self, tails: TailStore, *, node: str, rewinds: bool, emit: Callable[[Event], None]
    ) -> None:
        self._tails = tails
        self._node = node
        self._rewinds = rewinds
        self._emit = emit

    async def open(self, ledger: Ledger, *, new: bool = False) -> Tail:
        """The tail as the row describes it. Close it after use. `new`: see `TailStore.open`.

        Raises: TailMissing, or OffsetMismatch with the new offset after a rewind; DiskFull,
        LeaseLost, StateUnavailable.
        """
        try:
            return await self._open(ledger, new)
        except TailMissing as missing:
            session = ledger.session
            log.error("tus_tail_missing", upload=session.id, reason=missing.reason)
            if not self._rewinds:
                self._emit(TailLost(reason=missing.reason, rewound_bytes=None))
                raise
            await self._rewind(ledger)
            lost = session.offset - ledger.session.offset
            log.warning("upload_rewound", upload=session.id, lost=lost)
            self._emit(TailLost(reason=missing.reason, rewound_bytes=lost))
            raise OffsetMismatch(ledger.session.offset) from missing

    async def _open(self, ledger: Ledger, new: bool) -> Tail:
        session = ledger.session
        fresh = session.offset == 0
        if not fresh and session.tail_node != self._node:
            raise TailMissing(session.id, "other_node")
        return await self._tails.open(
            session.id,
            size=session.tail_size,
            crc32=session.tail_crc32,
            fresh=fresh,
            steal=session.lease_stolen,
            fence=ledger.lease.fence,
            untouched=ledger.lease.stayed,
            new=new,
        )

    async def _rewind(self, ledger: Ledger) -> None:
        """Makes an empty tail here, then moves the offset back to the ledger's parts."""
        tail = await self._tails.open(
            ledger.session.id,
            size=0,
            crc32=0,
            fresh=True,
            steal=False,
            fence=ledger.lease.fence,
        )
        try:
            await tail.append((), crc32=0).ahead()
        finally:
            await tail.aclose()
        await ledger.rewind()
