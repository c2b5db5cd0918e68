"""Calls from the event loop to threads, and their answers back.

Owns the hand-over: one hop to a thread, one hop home, whatever the number of statements between.
Knows no database.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Cursor(Protocol):
    """What sqlite3 and psycopg cursors have in common, as far as it is used here."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """A driver connection as a piece of work sees it."""

    def execute(self, sql: str, params: Mapping[str, object] = ..., /) -> Cursor: ...


Work = Callable[[Connection], T]


@dataclass(slots=True)
class Call(Generic[T]):
    """One piece of work and the future that waits for it."""

    work: Work[T]
    future: "asyncio.Future[T]"
    atomic: bool = False
    flush: bool = True

    @property
    def abandoned(self) -> bool:
        """Cancelled before it began: nobody waits, nothing has to happen."""
        return self.future.cancelled()


@dataclass(slots=True)
class Answer:
    """The end of a call, on its way home."""

    call: Call[Any]
    value: object = None
    error: Exception | None = None


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
        """Does the work. Raises nothing."""
        ...

    def close(self) -> None:
        """Ends the connection; last call."""
        ...


class Threads:
    """At most `size` threads, each with its own worker, begun when needed.

    The one that was idle last works first: few connections stay warm instead of all lukewarm.
    """

    def __init__(self, name: str, size: int, make_worker: Callable[[], Worker]) -> None:
        self._name = name
        self._size = size
        self._make_worker = make_worker
        self._lock = Lock()
        self._idle: list[_Inbox] = []
        self._backlog: deque[Call[Any]] = deque()
        self._threads: list[Thread] = []
        self._closed = False

    def submit(self, call: Call[Any]) -> bool:
        """Gives the call to a thread; False after `close`."""
        with self._lock:
            if self._closed:
                return False
            if self._idle:
                self._idle.pop().put(call)
            else:
                self._backlog.append(call)
                if len(self._threads) < self._size:
                    self._start()
        return True

    def close(self) -> list[Thread]:
        """No call comes in any more; the threads, which end when the backlog is done."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().put(None)
            return list(self._threads)

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = Thread(target=self._serve, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _next(self, inbox: "_Inbox") -> Call[Any] | None:
        with self._lock:
            if self._backlog:
                return self._backlog.popleft()
            if self._closed:
                return None
            self._idle.append(inbox)
        return inbox.get()

    def _serve(self) -> None:
        inbox = _Inbox()
        worker = self._make_worker()
        while (call := self._next(inbox)) is not None:
            if not call.abandoned:
                resolve([worker.run(call)])
        worker.close()


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
