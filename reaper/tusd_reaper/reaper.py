"""One run of the sweeps: in order, a few actions at a time, each failure counted and survived.

Owns who runs what: sweeps of the database and the bucket by one process of all, those of a node's
disk by one process of the node. Knows nothing of what is due.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing
from datetime import datetime

import structlog

from tusd_reaper.actions import NOT_NOW
from tusd_reaper.leader import Leader, Term
from tusd_reaper.report import Report, Sweep, SweepReport, Tally
from tusd_reaper.sweeps import Due, Stream, Sweeps
from tusd_storage.errors import StorageError

log = structlog.get_logger(__name__)

PARALLEL = 8
"""Actions of one sweep under way at once: most of their time is waiting for the store."""

EVERYWHERE = "reaper"
"""Who leads this name sweeps the database and the bucket."""

_ANOTHER = "another process does it now"


class Reaper:
    """Runs sweeps. `publish` gets the report of every run that changed things."""

    def __init__(
        self,
        sweeps: Sweeps,
        leader: Leader,
        *,
        node: str,
        now: Callable[[], datetime],
        publish: Callable[[Report], None] | None = None,
        parallel: int = PARALLEL,
    ) -> None:
        self._leader = leader
        self._node = node
        self._now = now
        self._publish = publish
        self._parallel = parallel
        self._shared: dict[Sweep, Callable[[], Stream]] = {
            Sweep.STUCK: sweeps.stuck,
            Sweep.EXPIRE: sweeps.expire,
            Sweep.MULTIPARTS: sweeps.multiparts,
            Sweep.OBJECTS: sweeps.objects,
            Sweep.ROWS: sweeps.rows,
        }
        self._local: dict[Sweep, Callable[[], Stream]] = {
            Sweep.STUCK: sweeps.stuck_here,
            Sweep.TAILS: sweeps.tails,
        }

    async def run(self, only: Collection[Sweep] = tuple(Sweep), *, apply: bool) -> Report:
        """Runs the sweeps that are asked for; without `apply` it changes nothing.

        Raises: StateUnavailable, when the database does not even say who leads.
        """
        started_at, started = self._now(), time.monotonic()
        tallies = {sweep: Tally(sweep) for sweep in Sweep if sweep in only}
        for name, streams in ((f"node-{self._node}", self._local), (EVERYWHERE, self._shared)):
            wanted = {sweep: streams[sweep] for sweep in tallies if sweep in streams}
            if not wanted:
                continue
            if not apply:
                await self._sweep(wanted, tallies, None)
                continue
            async with self._leader.term(name) as term:
                await self._sweep(wanted, tallies, term)
        report = Report(
            applied=apply,
            started_at=started_at,
            seconds=round(time.monotonic() - started, 3),
            sweeps=tuple(tally.report() for tally in tallies.values()),
        )
        self._tell(report)
        return report

    def _tell(self, report: Report) -> None:
        if report.applied and self._publish is not None:
            self._publish(report)
        for sweep in report.sweeps:
            _log(sweep, applied=report.applied)

    async def _sweep(
        self,
        streams: dict[Sweep, Callable[[], Stream]],
        tallies: dict[Sweep, Tally],
        term: Term | None,
    ) -> None:
        for sweep, stream in streams.items():
            if term is not None and not term.leads:
                tallies[sweep].skipped(_ANOTHER)
                continue
            tally, started = tallies[sweep], time.monotonic()
            try:
                await self._drain(stream(), tally, term)
            except (StorageError, OSError) as error:
                tally.failed("", error)
            tally.took(time.monotonic() - started)

    async def _drain(self, stream: Stream, tally: Tally, term: Term | None) -> None:
        """Does what is due; what has begun is finished, or cancelled with this call."""
        acting: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(stream):
                async for due in stream:
                    if term is not None and not term.leads:
                        tally.skipped(_ANOTHER)
                        break
                    tally.due()
                    if term is None:
                        tally.did(due.action)
                        continue
                    if len(acting) >= self._parallel:
                        done, acting = await asyncio.wait(
                            acting, return_when=asyncio.FIRST_COMPLETED
                        )
                        _raise_bugs(done)
                    acting.add(asyncio.create_task(self._act(due, tally)))
            await _ended(acting)
        except asyncio.CancelledError:
            for task in acting:
                task.cancel()
            raise
        finally:
            await _ended(acting)
        _raise_bugs(acting)

    @staticmethod
    async def _act(due: Due, tally: Tally) -> None:
        try:
            tally.did(await due.act())
        except NOT_NOW:
            tally.did(None)
        except (StorageError, OSError) as error:
            tally.failed(due.subject, error)


async def _ended(acting: Collection[asyncio.Task[None]]) -> None:
    if acting:
        await asyncio.wait(acting)


def _raise_bugs(ended: Iterable[asyncio.Task[None]]) -> None:
    """What `_act` does not expect is not counted and forgotten."""
    for task in ended:
        task.result()


def _log(sweep: SweepReport, *, applied: bool) -> None:
    done = {name: n for name, n in sweep.counters.items() if n}
    if not done and sweep.skipped is None:
        return
    level = log.warning if sweep.counters.get("failed") else log.info
    level("sweep", sweep=sweep.sweep.value, applied=applied, skipped=sweep.skipped, **done)
