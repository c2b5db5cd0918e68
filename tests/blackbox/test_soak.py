"""Two nodes, HAProxy, PostgreSQL, SeaweedFS; nodes, clients and connections are killed at random.

At the end every completed upload is identical, every abandoned one is gone from store, disk and
database, and nothing that lived was touched by the sweeps that ran all the time.

    SOAK_SECONDS    how long things are killed; the default is the short form for every run
    SOAK_SEED       repeats the plan of a run: what is uploaded, and who is killed when
    SOAK_TAIL_LOSS  fail: a killed node comes back with its disk. rewind: often without it

    SOAK_SECONDS=900 SOAK_SEED=7 python -m pytest -s tests/blackbox/test_soak.py
"""

import asyncio
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.balancers import HAProxy
from tests.support.cluster import Cluster
from tests.support.engines import Engine
from tests.support.persistent import Forgotten, PersistentClient, Upload
from tests.support.process import ServerProcess, run_program
from tusd_storage.partplan import MIB

SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
TAIL_LOSS = os.environ.get("SOAK_TAIL_LOSS", "fail")

CLIENTS = 8
EXPIRES_S = 120
"""An abandoned upload lives so long. A live one moves within it, though nodes that come back slowly
on a busy machine are killed again and again."""
GRACE_S = 5
SWEPT_S = 120.0


@dataclass
class Diary:
    """What happened."""

    completed: list[Upload] = field(default_factory=list)
    abandoned: list[Upload] = field(default_factory=list)
    kills: int = 0
    terminations: int = 0
    lost_disks: int = 0
    dropped: int = 0
    sweeps: int = 0

    def __str__(self) -> str:
        rewound = sum(len(upload.rewound) for upload in self.completed)
        size = sum(len(upload.data) for upload in self.completed)
        return (
            f"seed {SEED}, {SECONDS:.0f} s, tail_loss {TAIL_LOSS}: {len(self.completed)} completed "
            f"({size / MIB:.0f} MiB), {len(self.abandoned)} abandoned, {self.kills} nodes killed, "
            f"{self.lost_disks} disks lost, {self.terminations} restarts, {self.dropped} "
            f"connections cut, {rewound} steps back, {self.sweeps} sweeps"
        )


class Soak:
    """The people and the accidents, each with a chance of its own from one seed."""

    def __init__(self, cluster: Cluster, balancer: HAProxy) -> None:
        self.diary = Diary()
        self._cluster = cluster
        self._endpoint = balancer.uploads_url
        self._clients: set[PersistentClient] = set()
        self._ends = time.monotonic() + SECONDS

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._ends

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._person(random.Random(f"{SEED} person {number}")))
            tasks.create_task(self._node_accidents(random.Random(f"{SEED} nodes")))
            tasks.create_task(self._cuts(random.Random(f"{SEED} cuts")))
            tasks.create_task(self._sweeper(random.Random(f"{SEED} sweeps")))

    async def _person(self, chance: random.Random) -> None:
        while not self.over:
            data = chance.randbytes(chance.choice([0, 1, 70_000, 3 * MIB, 5 * MIB, 11 * MIB + 3]))
            chunk = chance.choice([None, None, 2 * MIB, 6 * MIB]) if TAIL_LOSS == "fail" else None
            rate = chance.choice([0.7e6, 1.5e6, 3e6])
            client = PersistentClient(self._endpoint, rate=rate)
            upload = Upload(data)
            self._clients.add(client)
            try:
                if len(data) > 1 and chance.random() < 0.25:
                    await self._give_up(client, upload, chance.random())
                else:
                    await client.run(upload, chunk=chunk)
                    self.diary.completed.append(upload)
            finally:
                self._clients.discard(client)

    async def _give_up(self, client: PersistentClient, upload: Upload, share: float) -> None:
        """A client that is killed somewhere in its upload."""
        task = asyncio.create_task(client.run(upload))
        try:
            while not task.done() and upload.sent <= share * len(upload.data):
                await asyncio.wait([task], timeout=0.02)
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):
            raise error
        (self.diary.completed if upload.finished else self.diary.abandoned).append(upload)

    async def _node_accidents(self, chance: random.Random) -> None:
        while not self.over:
            await asyncio.sleep(chance.uniform(4, 12))  # accidents have no condition to wait for
            name = chance.choice(sorted(self._cluster.nodes))
            node = self._cluster[name]
            if chance.random() < 0.3:
                self.diary.terminations += 1
                await asyncio.to_thread(node.terminate)
            else:
                self.diary.kills += 1
                await asyncio.to_thread(node.kill)
                if TAIL_LOSS == "rewind" and chance.random() < 0.5:
                    self.diary.lost_disks += 1
                    self._cluster.lose_disk(name)
            await asyncio.to_thread(node.start)

    async def _cuts(self, chance: random.Random) -> None:
        while not self.over:
            await asyncio.sleep(chance.uniform(0.2, 2))
            if self._clients:
                unlucky = chance.choice(sorted(self._clients, key=id))
                self.diary.dropped += unlucky.drop_connections()

    async def _sweeper(self, chance: random.Random) -> None:
        """Sweeps on both nodes while uploads run; what is live must not notice."""
        while not self.over:
            await asyncio.sleep(chance.uniform(2, 6))
            for node in self._cluster.nodes.values():
                await asyncio.to_thread(reap, node)
                self.diary.sweeps += 1


def reap(node: ServerProcess) -> dict[str, Any]:
    """One run of the sweeps, as a timer on that node would do it."""
    done = run_program(
        "reap", "--apply", "--json", extra_env=node.environment, cwd=node.folder, timeout_s=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert not report["failed"], report
    return report


def let_time_pass(cluster: Cluster) -> None:
    """Nobody uploads any more: what is open was abandoned, and is due now instead of later."""
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        connection.execute(
            f"UPDATE upload_sessions SET expires_at = updated_at WHERE state IN {OPEN}"
        )


OPEN = "('initialized', 'signed', 'resuming', 'uploading', 'uploaded', 'verifying')"


def left_over(cluster: Cluster) -> dict[str, object]:
    """What is still there and should not be; empty values when all is clean."""
    owned = {
        row[0]
        for row in cluster.rows("SELECT object_key FROM upload_sessions WHERE state = 'completed'")
    }
    listed = cluster.bucket.keys()
    keys = {cluster.bucket.prefix + key for key in listed}
    return {
        "open": cluster.rows(f"SELECT id, state FROM upload_sessions WHERE state IN {OPEN}"),
        "ended": cluster.rows(
            "SELECT id, state FROM upload_sessions "
            "WHERE state <> 'completed' OR lease_holder IS NOT NULL"
        ),
        "parts": cluster.rows(
            "SELECT session_id FROM upload_parts JOIN upload_sessions s ON s.id = session_id "
            "WHERE s.state <> 'completed'"
        ),
        "multiparts": cluster.bucket.multiparts(),
        "strange objects": sorted(keys - owned),
        "missing objects": sorted(owned - keys),
        "tails": [str(tail) for name in cluster.nodes for tail in cluster.tails(name)],
    }


@pytest.mark.timeout(SECONDS * 2 + 400)
async def test_soak(seaweed: Engine, tmp_path: Path) -> None:
    settings = {
        "TUSD_EXPIRES_IN": f"{EXPIRES_S}s",
        "TUSD_MAX_LIFETIME": "1h",
        "TUSD_LEASE_TTL": "3s",
        "TUSD_REAP_GRACE": f"{GRACE_S}s",
        "TUSD_RETENTION": "1s",
        "TUSD_REAP_INTERVAL": "3s",
    }
    with (
        Cluster(tmp_path, seaweed, tail_loss=TAIL_LOSS, extra_env=settings) as cluster,
        HAProxy(tmp_path / "lb", cluster.ports, tail_loss=TAIL_LOSS) as balancer,
    ):
        soak = Soak(cluster, balancer)
        try:
            await soak.run()
        except* (AssertionError, Forgotten) as failed:
            raise AssertionError(f"{soak.diary}\n{failed.exceptions}\n{cluster.logs()}") from failed
        diary = soak.diary
        sys.stdout.write(f"{diary}\n")
        check_completed(cluster, diary)
        steps = [step for upload in diary.completed for step in upload.rewound]
        assert all(step < 5 * MIB for step in steps), steps  # less than a part
        assert TAIL_LOSS == "rewind" or not steps, steps
        let_time_pass(cluster)
        deadline = time.monotonic() + SWEPT_S
        while any((left := left_over(cluster)).values()) and time.monotonic() < deadline:
            for node in cluster.nodes.values():
                await asyncio.to_thread(reap, node)
        assert not any(left.values()), f"{diary}\n{left}\n{cluster.logs()}"
        check_completed(cluster, diary)  # the sweeps have taken none of them
        check_abandoned(cluster, diary)
        assert diary.completed and diary.abandoned and diary.kills and diary.dropped, diary


def check_completed(cluster: Cluster, diary: Diary) -> None:
    for upload in diary.completed:
        assert cluster.bucket.read(upload.url) == upload.data, (upload.url, str(diary))


def check_abandoned(cluster: Cluster, diary: Diary) -> None:
    """Gone; or finished, when the client was killed behind its last byte."""
    known = {row[0] for row in cluster.rows("SELECT id FROM upload_sessions")}
    for upload in diary.abandoned:
        if not upload.url:
            continue
        if upload.url.rpartition("/")[2] in known:
            assert cluster.bucket.read(upload.url) == upload.data, upload.url
        else:
            assert cluster.bucket.read(upload.url) is None, upload.url
