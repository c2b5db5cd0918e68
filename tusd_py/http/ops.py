"""Health and readiness, for load balancers and supervisors. They name nothing that is secret."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

log = structlog.get_logger(__name__)

_TIMEOUT_S = 5.0
_SHARED_S = 1.0
"""For so long an answer counts: whoever asks costs the store one request a second, not each one."""

Probe = Callable[[], Awaitable[None]]
"""Raises when the thing it asks is out of reach."""


def routes(probes: Mapping[str, Probe]) -> list[BaseRoute]:
    """`/health`: the process answers. `/ready`: so does everything behind it."""

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    shared = _Shared(probes)

    async def ready(_: Request) -> JSONResponse:
        checks = await shared.checks()
        good = all(checks.values())
        body = {
            "status": "ok" if good else "unavailable",
            "checks": {name: "ok" if works else "failed" for name, works in checks.items()},
        }
        return JSONResponse(body, status_code=200 if good else 503)

    return [Route("/health", health), Route("/ready", ready)]


class _Shared:
    """Asks once for all who want to know at the same time, and gives the answer for a while."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self._asking: asyncio.Task[dict[str, bool]] | None = None
        self._answered_at = 0.0

    async def checks(self) -> dict[str, bool]:
        """Whether each works. A caller that goes away ends nothing for the others."""
        asking = self._asking
        if asking is None or (asking.done() and time.monotonic() - self._answered_at >= _SHARED_S):
            asking = self._asking = asyncio.create_task(self._ask_all(), name="ready")
        return await asyncio.shield(asking)

    async def _ask_all(self) -> dict[str, bool]:
        results = await asyncio.gather(*(_ask(name, one) for name, one in self._probes.items()))
        self._answered_at = time.monotonic()
        return dict(zip(self._probes, results, strict=True))


async def _ask(name: str, probe: Probe) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await probe()
    except Exception as error:  # whatever a probe raises means the same here
        log.warning("not_ready", check=name, error=type(error).__name__)
        return False
    return True
