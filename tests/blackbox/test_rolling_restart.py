"""Both nodes restarted in turn, as a new version is rolled out, under fifty live uploads.

Through HAProxy as `deploy/` configures it. Every upload ends with the bytes it began with.
"""

import asyncio
import random
from pathlib import Path

from tests.support.balancers import HAProxy
from tests.support.cluster import Cluster
from tests.support.engines import Engine
from tests.support.persistent import PersistentClient, Upload
from tests.support.process import ServerProcess
from tests.support.tus import poll
from tusd_storage.partplan import MIB

UPLOADS = 50
RATE = 400_000
"""Bytes a second and upload: slow enough that all are under way at each restart."""


async def test_every_upload_survives_a_rolling_restart(seaweed: Engine, tmp_path: Path) -> None:
    chance = random.Random(4)
    with (
        Cluster(tmp_path, seaweed) as cluster,
        HAProxy(tmp_path / "lb", cluster.ports) as balancer,
    ):
        uploads = [
            Upload(chance.randbytes(chance.randint(2 * MIB, 6 * MIB))) for _ in range(UPLOADS)
        ]
        client = PersistentClient(balancer.uploads_url, rate=RATE)
        async with asyncio.timeout(240), asyncio.TaskGroup() as tasks:
            for upload in uploads:
                tasks.create_task(client.run(upload))
            for number, node in enumerate(cluster.nodes.values(), start=1):
                mark = number * UPLOADS * MIB
                await asyncio.to_thread(poll, lambda mark=mark: sent(uploads) > mark, timeout_s=60)
                await asyncio.to_thread(restart, node)
        hit = [upload for upload in uploads if upload.broken or set(upload.statuses) - {204}]
        assert len(hit) >= UPLOADS // 2, "the restarts disturbed hardly anybody"
        assert not any(upload.rewound for upload in uploads)
        for upload in uploads:
            assert cluster.bucket.read(upload.url) == upload.data, upload.url
        assert cluster.bucket.multiparts() == []
        assert [cluster.tails(name) for name in cluster.nodes] == [[], []]


def sent(uploads: list[Upload]) -> int:
    return sum(upload.sent for upload in uploads)


def restart(node: ServerProcess) -> None:
    """As an operator does it: SIGTERM, a clean end, a start."""
    assert node.terminate() == 0
    node.start()
