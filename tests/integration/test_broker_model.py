"""Random calls of the broker against a model, with faults at any call to store and database.

Whatever happens in whatever order: states move along the table only, an object that is recorded is
there and is the client's, an asset is promoted once, and after enough sweeps nothing is left that
no completed session owns.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from tests.support.direct import DirectMemoryStore, broker_on
from tests.support.faults import Death, Faults, FaultyObjects, FaultySessions, Trouble
from tests.support.reaping import GRACE, IDLE, Clock, ReapedNode, quick_store
from tusd_py.broker.errors import BrokerError
from tusd_py.broker.parts import PartName
from tusd_py.broker.profiles import Profile
from tusd_py.protocol.errors import ProtocolError
from tusd_storage import lifecycle
from tusd_storage.errors import AccessDenied, StorageError, StoreRefused, StoreUnavailable
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.records import (
    AssetState,
    MultipartUpload,
    Protocol,
    SessionState,
    Strategy,
    UploadSession,
)
from tusd_storage.sql import SqlStore

PREFIX = "up/"
PARTS = {1: b"1" * MIN_PART_SIZE, 2: b"2" * 1000}
WHOLE = b"whole file"
REFUSALS = (BrokerError, StorageError, ProtocolError)
CALM: list[Trouble] = []
TROUBLES = st.one_of(
    st.just(CALM),
    st.just(CALM),
    st.builds(
        lambda calm, trouble: [Trouble.NONE] * calm + [trouble],
        st.integers(0, 9),
        st.sampled_from(Trouble),
    ),
)
"""None, or one at any of the coming calls."""
SELDOM = st.integers(0, 7).map(lambda number: number == 7)


def reachable(source: SessionState) -> set[SessionState]:
    """Every state that may follow, in any number of steps."""
    found = {source}
    while more := {to for state in found for to in lifecycle.SESSION_EDGES[state]} - found:
        found |= more
    return found


class FaultyStore(FaultyObjects):
    """With the listing that sweeps read."""

    async def list_multipart(self, *args: Any) -> AsyncIterator[MultipartUpload]:
        """Fails before the first entry."""
        trouble = self._faults.next()
        if trouble in {Trouble.DIE_BEFORE, Trouble.DIE_AFTER}:
            raise self._faults.die()
        if trouble in {Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER}:
            raise StoreUnavailable("the store is away")
        async for upload in self._inner.list_multipart(*args):
            yield upload


class BrokerMachine(RuleBasedStateMachine):
    """One database, one bucket, one process that may die and come back as another."""

    sessions: Bundle[str] = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.memory = DirectMemoryStore(now=self.clock)
        self.states: dict[str, SessionState] = {}
        self.urls: dict[str, tuple[str, dict[str, str]]] = {}
        self.names: dict[str, dict[int, str]] = {}
        self.events: list[Any] = []
        self.processes = 0

    @initialize()
    def begin(self) -> None:
        self.store: SqlStore = self.run(
            self.stack.enter_async_context(quick_store(Path(self.folder.name)))
        )
        self.run(self.start())

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def start(self) -> None:
        """Another process: the one before is dead, and its leases run out."""
        self.processes += 1
        self.clock.forward(timedelta(minutes=1))
        name = f"n{self.processes}"
        self.faults = Faults()
        sessions: Any = FaultySessions(self.store, self.faults)
        objects: Any = FaultyStore(self.memory, self.faults)
        self.finishers: dict[Protocol, Any] = {}
        self.node = ReapedNode(
            sessions,
            objects,
            Path(self.folder.name) / name,
            clock=self.clock,
            name=name,
            prefix=PREFIX,
            finishers=self.finishers,
        )
        self.stack.push_async_callback(self.node.aclose)
        self.broker = broker_on(
            self.node,
            sessions,
            objects,
            self.events,
            profiles=[Profile(name="default", bucket="bucket", prefix=PREFIX)],
            now=self.clock,
        )
        self.finishers |= {Protocol.TUS: self.node.engine.finish, Protocol.S3: self.broker.finish}

    def attempt(self, call: Callable[[], Awaitable[Any]], plan: list[Trouble]) -> Any:
        """One call under faults: what it returned, or None when it was refused or died."""
        self.faults.plan = list(plan)
        try:
            return self.run(call())
        except REFUSALS:
            return None
        except Death:
            self.run(self.start())
            return None
        finally:
            if self.faults.dead:
                self.run(self.start())
            self.faults.plan = []

    @rule(target=sessions, strategy=st.sampled_from(["put", "multipart", "tus"]), plan=TROUBLES)
    def create(self, strategy: str, plan: list[Trouble]) -> Any:
        size = len(WHOLE)
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "put": lambda: self.broker.initiate_session("default", size=size),
            "multipart": lambda: self.broker.initiate_multipart_session("default"),
            "tus": lambda: self.broker.initiate_resumable_session("default", size=size),
        }
        made = self.attempt(calls[strategy], plan)
        if made is None:
            return multiple()
        return made.id if isinstance(made, UploadSession) else made.session.id

    @rule(session_id=sessions, plan=TROUBLES)
    def sign(self, session_id: str, plan: list[Trouble]) -> None:
        signed = self.attempt(lambda: self.broker.sign_url(session_id), plan)
        if signed is not None:
            self.urls[session_id] = (signed.presigned.url, signed.presigned.headers)

    @rule(session_id=sessions)
    def put(self, session_id: str) -> None:
        if session_id in self.urls:
            url, headers = self.urls[session_id]
            with suppress(StoreRefused):  # 412: it is there already
                self.memory.deliver(url, WHOLE, headers)

    @rule(session_id=sessions, number=st.sampled_from([1, 2]), plan=TROUBLES)
    def send_part(self, session_id: str, number: int, plan: list[Trouble]) -> None:
        signed = self.attempt(lambda: self.broker.sign_multipart_part(session_id, number), plan)
        if signed is None:
            return
        try:
            etag = self.memory.deliver(signed.presigned.url, PARTS[number])
        except (AccessDenied, StorageError):
            return
        self.names.setdefault(session_id, {})[number] = etag

    @rule(session_id=sessions)
    def deliver(self, session_id: str) -> None:
        """A client that has all it needs and sends everything but the word that it did."""
        strategy = self.run(self.broker.find(session_id)).strategy
        if strategy is Strategy.PRESIGNED_PUT:
            self.sign(session_id, CALM)
            self.put(session_id)
        elif strategy is Strategy.MULTIPART:
            self.send_part(session_id, 1, CALM)
            self.send_part(session_id, 2, CALM)
        else:
            self.patch(session_id, 0, CALM)

    @rule(session_id=sessions, plan=TROUBLES)
    def finish(self, session_id: str, plan: list[Trouble]) -> None:
        """The last word of a client, whatever its strategy."""
        strategy = self.run(self.broker.find(session_id)).strategy
        last = {Strategy.MULTIPART: self.complete, Strategy.PRESIGNED_PUT: self.verify}
        if strategy is Strategy.RESUMABLE:
            self.patch(session_id, 4, plan)
        else:
            last[strategy](session_id, plan)

    @rule(session_id=sessions, plan=TROUBLES)
    def complete(self, session_id: str, plan: list[Trouble]) -> None:
        names = [PartName(n, etag) for n, etag in self.names.get(session_id, {}).items()]
        self.attempt(lambda: self.broker.complete_multipart_upload(session_id, names), plan)

    @rule(session_id=sessions, plan=TROUBLES)
    def verify(self, session_id: str, plan: list[Trouble]) -> None:
        self.attempt(lambda: self.broker.verify_completion(session_id), plan)

    @rule(session_id=sessions, offset=st.sampled_from([0, 4]), plan=TROUBLES)
    def patch(self, session_id: str, offset: int, plan: list[Trouble]) -> None:
        data = WHOLE[:4] if offset == 0 else WHOLE[4:]
        self.attempt(lambda: self.node.patch(session_id, offset, data), plan)

    @rule(session_id=sessions, plan=TROUBLES)
    def status(self, session_id: str, plan: list[Trouble]) -> None:
        before = self.run(self.store.get(session_id))
        self.attempt(lambda: self.broker.resumable_session_status(session_id), plan)
        assert self.run(self.store.get(session_id)) == before

    @rule(session_id=sessions, plan=TROUBLES, really=SELDOM)
    def cancel(self, session_id: str, plan: list[Trouble], really: bool) -> None:
        if not really:
            return
        self.attempt(lambda: self.broker.cancel_session(session_id), plan)

    @rule(plan=TROUBLES)
    def sweep(self, plan: list[Trouble]) -> None:
        self.attempt(lambda: self.node.reaper.run(apply=True), plan)

    @rule(really=SELDOM)
    def a_day_passes(self, really: bool) -> None:
        if not really:
            return
        self.clock.forward(IDLE + timedelta(minutes=1))
        self.urls.clear()  # no URL outlives its session

    @invariant()
    def what_is_recorded_is_true(self) -> None:
        if not hasattr(self, "store"):
            return
        rows = self.run(self.store.list_sessions(limit=1000))
        jobs = [job.subject for job in self.run(self.store.jobs(limit=1000))]
        assert len(jobs) == len(set(jobs)), "promoted twice"
        for row in rows:
            before = self.states.get(row.id, SessionState.INITIALIZED)
            assert row.state in reachable(before), (before, row.state)
            self.states[row.id] = row.state
            self.check_row(row, jobs)
        assert sum(event.name == "upload.stop" for event in self.events) <= len(jobs)

    def check_row(self, row: UploadSession, jobs: list[str]) -> None:
        completed = row.state is SessionState.COMPLETED
        assert (row.asset_id in jobs) is completed
        asset = self.run(self.store.asset(row.asset_id or ""))
        assert asset.state is (AssetState.VALIDATING if completed else AssetState.STAGED)
        if completed:
            stored = self.memory.objects[row.bucket, row.object_key]
            assert stored.spec.token == row.token and len(stored.data) == asset.size
            assert stored.data in {WHOLE, PARTS[1], PARTS[1] + PARTS[2], PARTS[2]}

    def teardown(self) -> None:
        """No faults any more, and time passes: every session ends, and nothing is left over."""
        try:
            if hasattr(self, "store"):
                self.faults.plan = []
                for _ in range(4):
                    self.clock.forward(IDLE + GRACE + timedelta(minutes=1))
                    self.run(self.node.reaper.run(apply=True))
                self.what_is_recorded_is_true()
                self.nothing_is_left_over()
        finally:
            self.run(self.stack.aclose())
            self.loop.close()
            self.folder.cleanup()

    def nothing_is_left_over(self) -> None:
        rows = self.run(self.store.list_sessions(limit=1000))
        assert {row.state for row in rows} <= lifecycle.TERMINAL, [row.state for row in rows]
        assert [row.id for row in rows if row.cleanup_reason] == []
        completed = {
            (row.bucket, row.object_key) for row in rows if row.state is SessionState.COMPLETED
        }
        assert set(self.memory.objects) == completed
        assert self.memory.uploads == {}


BrokerMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestBroker = BrokerMachine.TestCase
