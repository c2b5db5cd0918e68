"""PutObject and UploadPart: bodies on their way to the store.

Owns how many are sent at once, and that no byte of a body is in flight once its call is over. Knows
nothing of what the objects mean.
"""

import asyncio
from collections.abc import Callable, Sequence

from tusd_storage.errors import StorageError, StoreRefused
from tusd_storage.records import Body, FileRange
from tusd_storage.s3 import faults
from tusd_storage.s3.config import Observe
from tusd_storage.s3.retry import Repeat, Retry
from tusd_storage.s3.signing import Signer
from tusd_storage.s3.threads import Threads
from tusd_storage.s3.transmit import Answer, BodyTooShort
from tusd_storage.s3.wire import Abort, Aborted, Request, StaleConnection, Wire

AT_ONCE = 256 * 1024
"""Bodies in memory of up to so many bytes are sent from the event loop: a thread costs more."""


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
        fence: Callable[[], None] | None = None,
    ) -> str:
        """Sends `body`, with repeats, and returns the ETag; `fence` may raise before each try.

        Cancelled, it breaks the connection and raises once the sending thread has ended.

        Raises: the taxonomy of `tusd_storage.errors`.
        """

        def sign() -> Request:
            return self._signer.put(bucket, key, body, query=query, headers=headers)

        async def attempt() -> Answer:
            if fence is not None:
                fence()
            buffers = _in_memory(body)
            if buffers is not None and self._signer.ready(bucket):
                answer = await self._send_at_once(operation, sign, buffers)
                if answer is not None:
                    return answer
            abort = Abort()

            def once() -> Answer:
                try:
                    return self._send(operation, sign(), body, abort)
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

    async def _send_at_once(
        self, operation: str, sign: Callable[[], Request], buffers: Sequence[bytes | memoryview]
    ) -> Answer | None:
        """Over a connection that is open already; None where a thread has to open one."""
        outcome: str | None = "unavailable"
        started = self._clock()
        try:
            answer = await self._wire.send_at_once(sign(), buffers)
            if answer is None:
                outcome = None
                return None
            outcome, fault = _judged(operation, answer)
        except StaleConnection:
            outcome = "stale"
            return None
        except asyncio.CancelledError:
            outcome = "aborted"
            raise
        except faults.FOREIGN as error:
            raise faults.from_exception(operation, error) from error
        finally:
            if outcome is not None:
                self._observe(operation, outcome, self._clock() - started)
        if fault is not None:
            raise fault
        return answer

    def _send(self, operation: str, request: Request, body: Body, abort: Abort) -> Answer:
        try:
            return self._try(operation, request, body, abort, fresh=False)
        except StaleConnection:
            return self._try(operation, request, body, abort, fresh=True)

    def _try(
        self, operation: str, request: Request, body: Body, abort: Abort, *, fresh: bool
    ) -> Answer:
        outcome = "unavailable"
        started = self._clock()
        try:
            answer = self._wire.send(request, body.segments, abort, fresh=fresh)
            outcome, fault = _judged(operation, answer)
        except StaleConnection:
            outcome = "stale"
            raise
        except Aborted:
            outcome = "aborted"
            raise
        finally:
            self._observe(operation, outcome, self._clock() - started)
        if fault is not None:
            raise fault
        return answer

    async def aclose(self) -> None:
        """Waits for what is under way, then closes all connections."""
        await self._threads.aclose()
        self._wire.close()


def _judged(operation: str, answer: Answer) -> tuple[str, StorageError | None]:
    """How an exchange ended, in the observer's word, and the error it is."""
    if 200 <= answer.status < 300:
        return "ok", None
    fault = faults.from_answer(operation, answer.status, faults.code_of(answer.body))
    return faults.outcome(fault), fault


def _in_memory(body: Body) -> list[bytes | memoryview] | None:
    """The bytes of a body that is small and has none in a file."""
    if body.size > AT_ONCE:
        return None
    buffers = [segment for segment in body.segments if not isinstance(segment, FileRange)]
    return buffers if len(buffers) == len(body.segments) else None
