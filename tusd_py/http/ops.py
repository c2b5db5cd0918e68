"""Health and readiness, for load balancers and supervisors. They name nothing that is secret."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

log = structlog.get_logger(__name__)

_TIMEOUT_S = 5.0

Probe = Callable[[], Awaitable[None]]
"""Raises when the thing it asks is out of reach."""


def routes(probes: Mapping[str, Probe]) -> list[BaseRoute]:
    """`/health`: the process answers. `/ready`: so does everything behind it."""

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> JSONResponse:
        results = await asyncio.gather(*(_ask(name, probe) for name, probe in probes.items()))
        checks = dict(zip(probes, results, strict=True))
        good = all(checks.values())
        body = {
            "status": "ok" if good else "unavailable",
            "checks": {name: "ok" if works else "failed" for name, works in checks.items()},
        }
        return JSONResponse(body, status_code=200 if good else 503)

    return [Route("/health", health), Route("/ready", ready)]


async def _ask(name: str, probe: Probe) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await probe()
    except Exception as error:  # whatever a probe raises means the same here
        log.warning("not_ready", check=name, error=type(error).__name__)
        return False
    return True
