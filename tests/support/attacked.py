"""One life of a server process under attack: engine, leases and reaper on ports that fail.

It dies as a whole, at any call of any port, and leaves disk, database and store behind.
"""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.faults import Faults, FaultyObjects, FaultySessions, FaultyTails, end_leases
from tests.support.memory_store import MemoryStore
from tests.support.reaping import GRACE, RETENTION, Clock
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.engine import UploadEngine
from tusd_reaper.actions import Tools
from tusd_reaper.leader import Leader
from tusd_reaper.reaper import Reaper
from tusd_reaper.sweeps import Area, Sweeps
from tusd_storage.leases import LeaseManager
from tusd_storage.partplan import StoreLimits
from tusd_storage.records import Protocol
from tusd_storage.sql import SqlStore
from tusd_storage.tail import NodeTails

LEASE = timedelta(seconds=30)
BUCKET = "b"


class Process:
    """One process of the node `name`; `folder` is that node's disk."""

    count = 0

    def __init__(
        self,
        name: str,
        sessions: SqlStore,
        objects: MemoryStore,
        folder: Path,
        *,
        clock: Clock,
        robbed: set[str],
        met: Counter[str],
        part_size: int,
    ) -> None:
        Process.count += 1
        self.name = name
        self.faults = Faults()
        self.faults.robbed, self.faults.met = robbed, met
        self.instance = str(Process.count)
        self.tails = NodeTails(folder, fsync=True)
        state: Any = FaultySessions(sessions, self.faults)
        store: Any = FaultyObjects(objects, self.faults)
        tails = FaultyTails(self.tails, self.faults)
        self.leases = LeaseManager(
            state,
            node=name,
            instance=self.instance,
            ttl=LEASE,
            now=clock,
            is_dead=self._is_dead,
            keep_s=2.0,
        )
        self.engine = UploadEngine(
            config=UploadConfig(bucket=BUCKET, node=name, limits=StoreLimits(part_size=part_size)),
            sessions=state,
            objects=store,
            tails=tails,
            leases=self.leases,
            now=clock,
        )
        tools = Tools(
            sessions=state,
            listings=state,
            sweeps=state,
            objects=store,
            tails=tails,
            leases=self.leases,
            finishers={Protocol.TUS: self.engine.finish},
            node=name,
            now=clock,
            grace=GRACE,
        )
        sweeps = Sweeps(
            tools,
            areas=[Area(bucket=BUCKET, prefix="")],
            retention=RETENTION,
            is_dead=self._is_dead,
            page=3,
        )
        leader = Leader(state, holder=f"{name}/{self.instance}", now=clock)
        self.reaper = Reaper(sweeps, leader, node=name, now=clock)

    def _is_dead(self, instance: str) -> bool:
        return instance != self.instance

    async def end(self) -> None:
        """Frees what a dead process would not hold any more."""
        await self.engine.aclose()
        await end_leases(self.leases)
        await self.tails.aclose()
