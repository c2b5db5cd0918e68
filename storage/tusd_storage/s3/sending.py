"""PutObject and UploadPart: bodies on their way to the store.

Owns how many are sent at once, and that no byte of a body is in flight once its call is over. Knows
nothing of what the objects mean.
"""

import asyncio
from collections.abc import Callable

from tusd_storage.errors import StoreRefused
from tusd_storage.records import Body
from tusd_storage.s3 import faults
from tusd_storage.s3.config import Observe
from tusd_storage.s3.retry import Repeat, Retry
from tusd_storage.s3.signing import Signer
from tusd_storage.s3.threads import Threads
from tusd_storage.s3.transmit import Answer, BodyTooShort
from tusd_storage.s3.wire import Abort, Aborted, Request, StaleConnection, Wire


class Sender:
    """Sends bodies, `connections` at a time; others wait for their turn in order."""

    def __init__(
        self,
        *,
        signer: Signer,
        wire: Wire,
        connections: int,
        retry: Retry,
        observe: Observe,
        clock: Callable[[], float],
    ) -> None:
        self._signer = signer
        self._wire = wire
        self._threads = Threads("send", connections)
        # Taken for all tries of a call: the deadline then counts no time in a queue, and a store
        # that asks for less gets less.
        self._slots = asyncio.Semaphore(connections)
        self._retry = retry
        self._observe = observe
        self._clock = clock

    async def put(
        self,
        operation: str,
        bucket: str,
        key: str,
        body: Body,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Sends `body`, with repeats, and returns the ETag.

        Cancelled, it breaks the connection and raises once the sending thread has ended.

        Raises: the taxonomy of `tusd_storage.errors`.
        """

        async def attempt() -> Answer:
            abort = Abort()

            def once() -> Answer:
                try:
                    request = self._signer.put(bucket, key, body, query=query, headers=headers)
                    return self._send(operation, request, body, abort)
                except BodyTooShort as error:
                    message = f"{operation}: the file is shorter than its range"
                    raise StoreRefused("BodyTooShort", message) from error
                except faults.FOREIGN as error:
                    raise faults.from_exception(operation, error) from error

            return await self._threads.run_to_the_end(once, abort)

        async with self._slots:
            answer = await self._retry.run(attempt, Repeat.IDEMPOTENT)
        etag = answer.headers.get("etag")
        if etag is None:
            raise StoreRefused("NoETag", f"{operation}: the store answered without an ETag")
        return etag

    def _send(self, operation: str, request: Request, body: Body, abort: Abort) -> Answer:
        try:
            return self._observed(operation, request, body, abort, fresh=False)
        except StaleConnection:
            return self._observed(operation, request, body, abort, fresh=True)

    def _observed(
        self, operation: str, request: Request, body: Body, abort: Abort, *, fresh: bool
    ) -> Answer:
        started = self._clock()
        outcome = "unavailable"
        try:
            answer = self._wire.send(request, body.segments, abort, fresh=fresh)
            outcome = "ok"
            if not 200 <= answer.status < 300:
                fault = faults.from_answer(operation, answer.status, faults.code_of(answer.body))
                outcome = faults.outcome(fault)
                raise fault
            return answer
        except StaleConnection:
            outcome = "stale"
            raise
        except Aborted:
            outcome = "aborted"
            raise
        finally:
            self._observe(operation, outcome, self._clock() - started)

    async def aclose(self) -> None:
        """Waits for what is under way, then closes all connections."""
        await self._threads.aclose()
        self._wire.close()
