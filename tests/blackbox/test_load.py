"""Many uploads at once: none is lost and the memory stays bounded. What is slow is not judged here;
`make bench-load` measures it."""

import asyncio

import pytest

from tests.blackbox.conftest import Site, open_site
from tests.blackbox.test_limits import patch_head, resident
from tests.support.engines import Engine
from tests.support.metrics import scrape

MIB = 2**20
SLOW, STEP, STEPS = 300, 8 * 1024, 12
FAST_SIZE = 16 * MIB
SENDERS, SENT = 60, 8 * MIB
BUDGET = 16 * MIB
"""Of memory, for the bodies of all senders."""


async def send(site: Site, url: str, pieces: list[bytes], pause_s: float) -> bytes:
    """The status line of the answer to one PATCH."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(patch_head(url, sum(map(len, pieces))))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_s)
    line = await reader.readline()
    writer.close()
    return line


async def test_many_slow_uploads_and_a_fast_one(site: Site) -> None:
    before = resident(site)
    urls = [site.tus.create(STEP * STEPS) for _ in range(SLOW)]
    fast = site.tus.create(FAST_SIZE)
    piece = bytes(range(256)) * (STEP // 256)
    slow = [asyncio.create_task(send(site, url, [piece] * STEPS, 0.4)) for url in urls]
    await asyncio.sleep(1)
    assert b" 204 " in await send(site, fast, [bytes(MIB)] * (FAST_SIZE // MIB), 0)
    peak = 0
    while not all(task.done() for task in slow):
        peak = max(peak, resident(site))
        await asyncio.sleep(0.2)
    assert all(b" 204 " in task.result() for task in slow)
    assert peak - before < 100 * MIB, peak
    for url in urls[::50]:
        assert site.bucket.read(url) == piece * STEPS
    assert site.bucket.read(fast) == bytes(FAST_SIZE)


async def timed(site: Site, url: str, pieces: list[bytes]) -> float:
    """Seconds until the whole body was acknowledged. Raises: AssertionError."""
    begun = asyncio.get_running_loop().time()
    assert b" 204 " in await send(site, url, pieces, 0)
    return asyncio.get_running_loop().time() - begun


async def test_a_slow_store_slows_its_senders(
    seaweed: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One part at a time goes to the store: the others wait in bounded memory, and none fails."""
    settings = {"TUSD_S3_MAX_CONNECTIONS": "1", "TUSD_MEMORY_BUDGET": str(BUDGET)}
    for site in open_site(seaweed, tmp_path_factory, settings):
        pieces = [bytes([number]) * MIB for number in range(SENT // MIB)]
        alone = await timed(site, site.tus.create(SENT), pieces)
        urls = [site.tus.create(SENT) for _ in range(SENDERS)]
        before, peak, held = resident(site), 0, 0.0
        tasks = [asyncio.create_task(timed(site, url, pieces)) for url in urls]
        while not all(task.done() for task in tasks):
            peak = max(peak, resident(site))
            scraped = await asyncio.to_thread(scrape, site.server.url)
            held = max(held, scraped.value("tusd_py_memory_budget_used_bytes"))
            await asyncio.sleep(0.05)
        seconds = sorted(task.result() for task in tasks)
        assert peak - before < 120 * MIB, (peak - before) / MIB
        # A body that has its turn fills the slab at hand before it gives way.
        assert BUDGET / 2 < held < 2 * BUDGET, held / MIB
        assert seconds[SENDERS // 2] > 5 * alone, (alone, seconds)
        for url in urls[:: SENDERS // 4]:
            assert site.bucket.read(url) == b"".join(pieces)
