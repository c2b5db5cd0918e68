"""`/ready` as anybody may ask for it, as often as they like."""

import asyncio

import httpx
from starlette.applications import Starlette

from tusd_py.http import ops
from tusd_storage.errors import StoreUnavailable


async def test_callers_at_the_same_time_share_one_question() -> None:
    asked = 0
    go = asyncio.Event()

    async def store() -> None:
        nonlocal asked
        asked += 1
        await go.wait()
        if asked == 1:
            raise StoreUnavailable("down")

    transport = httpx.ASGITransport(app=Starlette(routes=ops.routes({"store": store})))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        first = asyncio.create_task(client.get("/ready"))
        others = [asyncio.create_task(client.get("/ready")) for _ in range(50)]
        while not asked:
            await asyncio.sleep(0)
        first.cancel()
        go.set()
        answers = await asyncio.gather(*others)
        assert {answer.status_code for answer in answers} == {503}
        assert asked == 1, "one that went away ends nothing for the others"
        async with asyncio.timeout(20):
            while (await client.get("/ready")).status_code != 200:
                await asyncio.sleep(0.05)
        assert asked == 2
