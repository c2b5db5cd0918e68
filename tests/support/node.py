"""Node programs of `tests/clients/node`, run as processes that print JSON events.

Owns finding Node, starting, listening and ending. Knows nothing of tus. A missing Node or a missing
`node_modules` skips the test with its reason, or fails it under `CI=true`.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.engines import missing

CLIENTS = Path(__file__).parents[1] / "clients" / "node"
WAIT_S = 60.0

Event = dict[str, Any]


def require_node() -> str:
    """The path of Node; the JavaScript clients are installed."""
    node = shutil.which("node")
    if node is None:
        missing("Node is not installed")
    if not (CLIENTS / "node_modules" / "tus-js-client").is_dir():
        missing("the JavaScript clients are missing: run `npm ci` in tests/clients/node")
    return node


class NodeProgram:
    """One running program. As a context manager it is killed at the end, if it still runs."""

    def __init__(self, script: str, options: Mapping[str, object]) -> None:
        self._process = subprocess.Popen(
            [require_node(), CLIENTS / script, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=CLIENTS,
        )
        self._events: list[Event] = []
        self._said = ""
        self._changed = threading.Condition()
        self._open = 2
        self._threads = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._overhear, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def events(self) -> list[Event]:
        """Everything printed so far."""
        with self._changed:
            return list(self._events)

    def named(self, name: str) -> list[Event]:
        """The events of one kind so far."""
        return [event for event in self.events if event["event"] == name]

    def requests(self, method: str) -> list[Event]:
        """The requests with this method so far."""
        return [event for event in self.named("request") if event["method"] == method]

    def wait_for(
        self,
        name: str,
        condition: Callable[[Event], bool] = lambda _: True,
        *,
        timeout_s: float = WAIT_S,
    ) -> Event:
        """The first event of this kind that fits. Raises: AssertionError, also when it ended."""
        deadline = time.monotonic() + timeout_s
        looked = 0
        with self._changed:
            while True:
                for event in self._events[looked:]:
                    if event["event"] == name and condition(event):
                        return event
                looked = len(self._events)
                left = deadline - time.monotonic()
                assert self._open and left > 0, f"no {name!r} came: {self._report()}"
                self._changed.wait(left)

    def say(self, command: str) -> None:
        """One line to its standard input."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(f"{command}\n".encode())
        stdin.flush()

    def tell(self, facts: Mapping[str, object]) -> None:
        """A JSON object on one line to its standard input."""
        self.say(json.dumps(facts))

    def finish(self, *, timeout_s: float = WAIT_S) -> None:
        """Waits for its end. Raises: AssertionError when it failed or hangs."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running: {self._report()}") from None
        for thread in self._threads:
            thread.join(timeout_s)
        assert code == 0, self._report()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        for thread in self._threads:
            thread.join(10)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            with self._changed:
                self._events.append(event)
                self._changed.notify_all()
        self._ended()

    def _overhear(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said += line.decode(errors="replace")
        self._ended()

    def _ended(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def _report(self) -> str:
        last = [event for event in self._events if event["event"] != "progress"][-20:]
        return f"{last}\n{self._said}"
