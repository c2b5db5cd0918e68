"""Calls from the event loop to threads, and their answers back.

Owns the hand-over: one hop to a thread, one hop home, whatever the number of statements between;
and whose turn has come too late. Knows no database.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from tusd_storage.errors import StateOverloaded, StateUnavailable

T = TypeVar("T")

MOST_WAITING = 4096
"""Calls that wait for a thread; one that may be refused is not added to as many."""

_GROW_S = 1.0  # a database that gave no further connection is not asked for one all the time


class Cursor(Protocol):
    """What sqlite3 and psycopg cursors have in common, as far as it is used here."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """A driver connection as a piece of work sees it."""

    def execute(
        self, sql: str, params: Mapping[str, object] | Sequence[object] = ..., /
    ) -> Cursor: ...


Work = Callable[[Connection], T]


@dataclass(slots=True)
class Call(Generic[T]):
    """One piece of work and the future that waits for it."""

    work: Work[T]
    future: "asyncio.Future[T]"
    atomic: bool = False
    flush: bool = True
    refusable: bool = False
    """Nothing was done for its request yet: refused rather than made to wait for long."""
    queued_at: float = 0.0
    """Seconds of the monotonic clock, where it had to wait."""
    before: Callable[[], None] | None = None
    """To be done once, before the work."""

    def prepare(self) -> "Answer | None":
        """Does what comes before the work; an answer where that failed. Call it once."""
        try:
            if self.before is not None:
                self.before()
        except Exception as error:
            return Answer(self, error=error)
        return None

    async def end(self) -> T:
        """The answer. A cancelled caller waits for what the thread does on its behalf."""
        if self.before is None:
            return await self.future
        try:
            return await asyncio.shield(self.future)
        except asyncio.CancelledError:
            self.future.add_done_callback(_forget)
            while not self.future.done():  # whoever is cancelled once may be so again
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([self.future])
            raise

    @property
    def abandoned(self) -> bool:
        """Cancelled before it began: nobody waits, nothing has to happen."""
        return self.future.cancelled()


def _forget(future: "asyncio.Future[Any]") -> None:
    """Nobody is there any more whom an error could be told."""
    if not future.cancelled():
        future.exception()


@dataclass(slots=True)
class Answer:
    """The end of a call, on its way home."""

    call: Call[Any]
    value: object = None
    error: Exception | None = None
    begun: bool = True
    """False when there was no connection to begin on."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long calls that may be refused wait for their turn."""

    wait_s: float = math.inf

    def check(self, waiting: int, since: float | None) -> None:
        """For a new call behind `waiting` others, of which the first waits since then.

        Raises: StateOverloaded.
        """
        if waiting >= MOST_WAITING or (since is not None and monotonic() - since > self.wait_s):
            raise _overloaded()

    def sift(self, calls: Iterable[Call[Any]]) -> list[Call[Any]]:
        """The calls to be run now. The abandoned are dropped; who waited too long is told so."""
        latest = monotonic() - self.wait_s
        wanted, late = [], []
        for call in calls:
            if call.refusable and call.queued_at < latest:
                late.append(Answer(call, error=_overloaded()))
            elif not call.abandoned:
                wanted.append(call)
        resolve(late)
        return wanted


def _overloaded() -> StateOverloaded:
    return StateOverloaded("too much waits for the database already")


def resolve(answers: Sequence[Answer]) -> None:
    """Brings answers home: one wake-up for each event loop. Called from a thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer.call.future.get_loop(), []).append(answer)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set, group)
        except RuntimeError:
            continue  # that loop is closed: nobody waits any more


def _set(answers: Iterable[Answer]) -> None:
    for answer in answers:
        future = answer.call.future
        if future.done():
            continue
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.value)


class Worker(Protocol):
    """What a thread of `Threads` runs: owns a connection, and nothing else touches that."""

    def run(self, call: Call[Any]) -> Answer:
        """Does the work, or says that it has no connection to begin on. Raises nothing."""
        ...

    def close(self) -> None:
        """Ends the connection; last call."""
        ...


class Threads:
    """At most `size` threads, each with its own worker, begun when needed.

    The one that was idle last works first: few connections stay warm instead of all lukewarm.
    One that gets no connection leaves its call to those that have one, and ends.
    """

    def __init__(
        self,
        name: str,
        size: int,
        make_worker: Callable[[], Worker],
        patience: Patience | None = None,
    ) -> None:
        self._name = name
        self._size = size
        self._make_worker = make_worker
        self._patience = patience or Patience()
        self._lock = Lock()
        self._idle: list[_Inbox] = []
        self._backlog: deque[Call[Any]] = deque()
        self._threads: list[Thread] = []
        self._able: set[_Inbox] = set()
        self._grow_at = -math.inf
        self._closed = False

    def submit(self, call: Call[Any]) -> bool:
        """Gives the call to a thread; False after `close`.

        Raises: StateOverloaded, StateUnavailable; then nothing is done.
        """
        with self._lock:
            if self._closed:
                return False
            if self._idle:
                self._idle.pop().put(call)
            else:
                self._queue(call)
        return True

    def check_room(self) -> None:
        """Raises: StateOverloaded when a call that may be refused would be."""
        with self._lock:
            if self._backlog:
                self._patience.check(len(self._backlog), self._backlog[0].queued_at)

    def _queue(self, call: Call[Any]) -> None:
        if call.refusable and self._backlog:
            self._patience.check(len(self._backlog), self._backlog[0].queued_at)
        call.queued_at = monotonic()
        if len(self._threads) < self._size and call.queued_at >= self._grow_at:
            self._start()
        self._backlog.append(call)

    def close(self) -> list[Thread]:
        """No call comes in any more; the threads, which end when the backlog is done."""
        with self._lock:
            self._closed = True
            while self._idle:
                inbox = self._idle.pop()
                self._able.discard(inbox)
                inbox.put(None)
            return list(self._threads)

    def _start(self) -> None:
        """One more thread. Where the system grants none, those that are there do the work."""
        name = f"{self._name}-{len(self._threads)}"
        try:
            self._threads.append(started(self._serve, name))
        except StateUnavailable:
            if not self._threads:
                raise
            self._grow_at = monotonic() + _GROW_S

    def _next(self, inbox: "_Inbox") -> Call[Any] | None:
        with self._lock:
            if self._backlog:
                return self._backlog.popleft()
            if self._closed:
                self._able.discard(inbox)
                return None
            self._idle.append(inbox)
        return inbox.get()

    def _serve(self) -> None:
        inbox = _Inbox()
        worker = self._make_worker()
        while (call := self._next(inbox)) is not None:
            if not self._wants(call):
                continue
            answer = worker.run(call)
            if answer.begun:
                self._able.add(inbox)
            elif self._left_to_others(call, inbox):
                break
            resolve([answer])
        worker.close()

    def _wants(self, call: Call[Any]) -> bool:
        """Whether the call, which may have waited, is to be run."""
        return bool(self._patience.sift((call,))) if call.queued_at else not call.abandoned

    def _left_to_others(self, call: Call[Any], inbox: "_Inbox") -> bool:
        """Whether threads that have a connection take the call over; then this one may end."""
        with self._lock:
            self._able.discard(inbox)
            if not self._able:
                return False
            self._grow_at = monotonic() + _GROW_S
            self._threads.remove(current_thread())
            call.queued_at = call.queued_at or monotonic()
            if self._idle:
                self._idle.pop().put(call)
            else:
                self._backlog.appendleft(call)
        return True


class _Inbox:
    """Hands one call to the waiting thread."""

    __slots__ = ("_call", "_full")

    def __init__(self) -> None:
        self._call: Call[Any] | None = None
        self._full = Lock()
        self._full.acquire()

    def put(self, call: Call[Any] | None) -> None:
        self._call = call
        self._full.release()

    def get(self) -> Call[Any] | None:
        self._full.acquire()
        call, self._call = self._call, None
        return call


def started(run: Callable[[], None], name: str) -> Thread:
    """A thread that runs. Raises: StateUnavailable where the system grants none."""
    thread = Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise StateUnavailable("the system grants no thread for the database") from error
    return thread


async def join(threads: Sequence[Thread]) -> None:
    """Waits for threads to end without blocking the loop."""
    if not threads:
        return
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def wait() -> None:
        for thread in threads:
            thread.join()
        loop.call_soon_threadsafe(finish)

    Thread(target=wait, name="sql-join", daemon=True).start()
    await done
