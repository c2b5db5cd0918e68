"""A machine that attacks the engine: any history of requests, faults and deaths, against a model.

The model is what the clients were told. After every step:
* the offset never passes below what a client was told (nothing acknowledged is lost);
* 100 % is told only when the object is in the store and equals the client's bytes;
* the stored state is consistent: ledger, offset and tail.
At the end every upload that was not given up is finished, without faults, and compared.

`TUSD_TEST_STEPS` sets how much of it is run.
"""

import asyncio
import os
import random
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.support import memory_store
from tests.support.faults import (
    Death,
    Faults,
    FaultyObjects,
    FaultySessions,
    FaultyTails,
    Trouble,
)
from tests.support.harness import ScriptedBody, create_request, patch_request
from tusd_py.app import utc_now
from tusd_py.protocol.errors import ChecksumMismatch, OffsetMismatch, ProtocolError
from tusd_py.uploads import appender, memory
from tusd_py.uploads.body import Interrupted
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.engine import UploadEngine
from tusd_storage import copyplan
from tusd_storage.errors import StorageError
from tusd_storage.leases import LeaseManager
from tusd_storage.partplan import StoreLimits
from tusd_storage.records import SessionState, UploadSession
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.tail import NodeTails

PART = 64
"""Bytes of a part here: the same paths as with 5 MiB, a hundred thousand times cheaper."""

STEPS = int(os.environ.get("TUSD_TEST_STEPS", "1500"))
STEPS_PER_RUN = 30
PHASES = [phase for phase in Phase if phase is not Phase.shrink or "TUSD_TEST_SHRINK" in os.environ]

TROUBLES = st.lists(
    st.sampled_from(
        [Trouble.NONE] * 6
        + [Trouble.FAIL_BEFORE, Trouble.FAIL_AFTER, Trouble.DIE_BEFORE, Trouble.DIE_AFTER]
    ),
    max_size=8,
)


class Client:
    """One file a client wants to upload, and what it was told about it."""

    def __init__(self, data: bytes, session_id: str, *, deferred: bool, partial: bool) -> None:
        self.data = data
        self.id = session_id
        self.deferred = deferred
        self.partial = partial
        self.told = 0
        self.gone = False
        self.doomed = False

    @property
    def length(self) -> int:
        return len(self.data)


class Process:
    """One life of the server process: dies as a whole, and leaves its disk behind."""

    count = 0

    def __init__(self, sessions: SqlStore, objects: memory_store.MemoryStore, folder: Path) -> None:
        Process.count += 1
        self.faults = Faults()
        self.instance = str(Process.count)
        self.tails = NodeTails(folder, fsync=False)
        faulty = FaultySessions(sessions, self.faults)
        self.leases = LeaseManager(
            faulty,  # type: ignore[arg-type]
            node="a",
            instance=self.instance,
            ttl=timedelta(seconds=30),
            now=utc_now,
            is_dead=lambda instance: instance != self.instance,
        )
        self.engine = UploadEngine(
            config=UploadConfig(bucket="b", node="a", limits=StoreLimits(part_size=PART)),
            sessions=faulty,  # type: ignore[arg-type]
            objects=FaultyObjects(objects, self.faults),  # type: ignore[arg-type]
            tails=FaultyTails(self.tails, self.faults),
            leases=self.leases,
            now=utc_now,
        )

    async def end(self) -> None:
        await self.engine.aclose()
        await self.leases.aclose()
        await self.tails.aclose()


class Attack(RuleBasedStateMachine):
    """Clients, a process that dies, a store and a database that fail."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="attack-"))
        self.runner = asyncio.Runner()
        self.objects = memory_store.MemoryStore()
        self.clients: list[Client] = []
        self.random = random.Random(7)

    @initialize()
    def start(self) -> None:
        database = self.folder / "state.db"
        shutil.copy(self.template, database)
        self.sessions = SqlStore.connect(f"sqlite:///{database}", synchronous="NORMAL")
        self.process = self._new_process()

    def teardown(self) -> None:
        try:
            self.process.faults.plan = []
            self.run(self._finish_all())
            self.run(self.process.end())
            self.run(self.sessions.aclose())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def _new_process(self) -> Process:
        async def make() -> Process:
            return Process(self.sessions, self.objects, self.folder / "tmp")

        made: Process = self.run(make())
        return made

    def _attempt(self, work: Any, troubles: list[Trouble]) -> Any:
        """Runs a request under faults. Returns its result, or the exception it ended with."""
        self.process.faults.plan = list(troubles)
        try:
            return self.run(_shielded(work))
        except Death:
            return self._after_death()
        finally:
            self.process.faults.plan = []
            if self.process.faults.dead:
                self._after_death()

    def _after_death(self) -> None:
        if self.process.faults.dead:
            self.run(self.process.end())
            self.process = self._new_process()

    # What clients do

    @rule(
        length=st.one_of(
            st.sampled_from([0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 7]),
            st.integers(0, 8 * PART),
        ),
        deferred=st.booleans(),
        partial=st.booleans(),
        troubles=TROUBLES,
    )
    def create(self, length: int, deferred: bool, partial: bool, troubles: list[Trouble]) -> None:
        headers = {"upload_concat": "partial"} if partial else {}
        request = create_request(None if deferred else length, **headers)
        done = self._attempt(
            self.process.engine.create(request, ScriptedBody([]), owner=None), troubles
        )
        if isinstance(done, UploadSession):
            data = self.random.randbytes(length)
            self.clients.append(Client(data, done.id, deferred=deferred, partial=partial))

    @precondition(lambda self: self.clients)
    @rule(
        which=st.integers(0, 50),
        size=st.one_of(st.integers(0, 3 * PART), st.just(10_000)),
        piece=st.integers(1, PART * 2),
        cut=st.one_of(st.none(), st.integers(0, 4 * PART)),
        checksum=st.sampled_from(["none", "right", "wrong"]),
        troubles=TROUBLES,
    )
    def patch(
        self,
        which: int,
        size: int,
        piece: int,
        cut: int | None,
        checksum: str,
        troubles: list[Trouble],
    ) -> None:
        client = self.clients[which % len(self.clients)]
        if client.gone:
            return
        before = self._offset(client)
        done = self._attempt(self._patch(client, before, size, piece, cut, checksum), troubles)
        self._heard(client, done)
        if isinstance(done, ChecksumMismatch):
            assert self._offset(client) == before, "a body with a wrong checksum left something"

    async def _patch(
        self, client: Client, offset: int, size: int, piece: int, cut: int | None, checksum: str
    ) -> UploadSession:
        data = client.data[offset : offset + size]
        headers: dict[str, str] = {}
        if client.deferred and offset + len(data) == client.length:
            headers["upload_length"] = str(client.length)
        if checksum != "none":
            import base64
            import hashlib

            digest = hashlib.sha1(data if checksum == "right" else data + b"x").digest()
            headers["upload_checksum"] = "sha1 " + base64.b64encode(digest).decode()
        sent = data if cut is None else data[:cut]
        body = ScriptedBody(
            [sent[i : i + piece] for i in range(0, len(sent), piece)], gone=len(sent) < len(data)
        )
        return await self.process.engine.patch(
            client.id, patch_request(offset, len(data), **headers), body
        )

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50), size=st.integers(1, 3 * PART), troubles=TROUBLES)
    def patch_twice_at_once(self, which: int, size: int, troubles: list[Trouble]) -> None:
        client = self.clients[which % len(self.clients)]
        if client.gone:
            return
        offset = self._offset(client)

        async def both() -> list[Any]:
            return await asyncio.gather(
                self._patch(client, offset, size, 10, None, "none"),
                self._patch(client, offset, size * 2, 33, size, "none"),
                return_exceptions=True,
            )

        done = self._attempt(both(), troubles)
        for one in done if isinstance(done, list) else []:
            self._heard(client, one)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50), troubles=TROUBLES)
    def head(self, which: int, troubles: list[Trouble]) -> None:
        client = self.clients[which % len(self.clients)]
        if client.gone:
            return

        async def ask() -> UploadSession:
            engine = self.process.engine
            return await engine.status(await engine.find(client.id))

        self._heard(client, self._attempt(ask(), troubles))

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50), troubles=TROUBLES)
    def terminate(self, which: int, troubles: list[Trouble]) -> None:
        client = self.clients[which % len(self.clients)]
        done = self._attempt(self._terminate(client), troubles)
        if done != "terminated":
            client.doomed = True  # its end was begun: whether it came is not known
        client.gone = True

    async def _terminate(self, client: Client) -> str:
        await self.process.engine.terminate(client.id)
        return "terminated"

    @precondition(lambda self: any(c.partial and not c.gone for c in self.clients))
    @rule(picks=st.lists(st.integers(0, 50), min_size=1, max_size=4), troubles=TROUBLES)
    def concatenate(self, picks: list[int], troubles: list[Trouble]) -> None:
        partials = [c for c in self.clients if c.partial and not c.gone]
        chosen = [partials[pick % len(partials)] for pick in picks]
        names = " ".join(f"/files/{client.id}" for client in chosen)
        request = create_request(None, upload_concat=f"final;{names}")
        done = self._attempt(
            self.process.engine.create(request, ScriptedBody([]), owner=None), troubles
        )
        if isinstance(done, UploadSession) and done.state is SessionState.COMPLETED:
            self._check_object(done, b"".join(client.data for client in chosen))

    @rule()
    def kill(self) -> None:
        self.process.faults.dead = True
        self._after_death()

    # What must hold

    def _heard(self, client: Client, done: Any) -> None:
        if isinstance(done, UploadSession):
            assert done.offset >= client.told, "an acknowledged byte was taken back"
            client.told = done.offset
            if done.length is not None and done.offset == done.length:
                assert done.state is SessionState.COMPLETED, "100 % was told too early"
                self._check_object(done, client.data)
        elif isinstance(done, OffsetMismatch):
            assert done.offset >= client.told, "an acknowledged byte was taken back"
        elif isinstance(done, BaseException) and not isinstance(done, Death):
            assert isinstance(done, (StorageError, Interrupted, ProtocolError)), repr(done)

    def _check_object(self, done: UploadSession, data: bytes) -> None:
        stored = self.objects.objects.get((done.bucket, done.object_key))
        assert stored is not None, "the object is not there"
        assert stored.data == data, "the object differs"

    def _row(self, client: Client) -> UploadSession:
        row = self.run(self.sessions.get(client.id))
        assert row is not None
        return row

    def _offset(self, client: Client) -> int:
        return self._row(client).offset

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        for client in self.clients:
            row = self._row(client)
            if client.doomed:
                continue
            if client.gone:
                assert row.deleted_at or row.state is SessionState.ABORTED
                continue
            assert row.offset >= client.told
            assert row.state is not SessionState.FAILED, row.failure
            parts = self.run(self.sessions.parts(client.id))
            assert [part.number for part in parts] == list(range(1, len(parts) + 1))
            assert sum(part.size for part in parts) == row.parts_size <= row.offset

    async def _finish_all(self) -> None:
        for client in self.clients:
            row = await self.sessions.get(client.id)
            assert row is not None
            if client.gone or row.state in {SessionState.ABORTED, SessionState.FAILED}:
                continue
            if row.deleted_at is not None:
                continue
            if row.state is not SessionState.COMPLETED:
                if row.offset < client.length or client.deferred:
                    try:
                        row = await self._patch(client, row.offset, 10_000, 50, None, "none")
                    except OffsetMismatch:
                        pytest.fail("the row's own offset was refused")
                row = await self.process.engine.status(await self.process.engine.find(client.id))
            assert row.state is SessionState.COMPLETED
            self._check_object(row, client.data)


async def _shielded(work: Any) -> Any:
    try:
        return await work
    except Exception as error:
        return error


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory_store, "MIN_PART_SIZE", PART)
    monkeypatch.setattr(copyplan, "MIN_PART_SIZE", PART)
    monkeypatch.setattr(appender, "FAST_READ", 8)
    monkeypatch.setattr(memory, "SLAB_SIZE", 24)
    Attack.template = tmp_path / "template.db"
    migrate(f"sqlite:///{Attack.template}")


def test_no_history_loses_a_byte() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Attack,
        settings=settings(
            phases=PHASES,
            max_examples=max(1, STEPS // STEPS_PER_RUN),
            stateful_step_count=STEPS_PER_RUN,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
