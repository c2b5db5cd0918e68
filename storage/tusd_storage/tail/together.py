"""Small blocking works of many callers in one hand-over to a thread.

To wake a thread, and to be woken by it, costs more than to write a few kilobytes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Asked:
    work: Callable[[], Any]
    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None

    def attempt(self) -> None:
        """In the thread."""
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error

    def tell(self) -> None:
        """In the event loop."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Together:
    """What is asked for in one turn of the event loop is done by one thread, in that order."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._asked: list[_Asked] = []

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """The outcome of `work`. To cancel it does not keep the work from being done."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._hand_over, loop)
        self._asked.append(_Asked(work, future))
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        asked, self._asked = self._asked, []
        try:
            self._threads.submit(_do, loop, asked)
        except RuntimeError as error:  # the threads have ended
            for one in asked:
                one.error = error
                one.tell()


def _do(loop: asyncio.AbstractEventLoop, asked: list[_Asked]) -> None:
    for one in asked:
        one.attempt()
    loop.call_soon_threadsafe(_tell, asked)


def _tell(asked: list[_Asked]) -> None:
    for one in asked:
        one.tell()
