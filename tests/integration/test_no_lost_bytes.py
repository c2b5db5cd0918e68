"""A machine that attacks the engine: any history of requests, faults and deaths, against a model.

Two nodes on one database and one store, several clients, the reaper, a clock that runs ahead. The
model is what the clients were told. After every step:
* the offset never passes below what a client was told (nothing acknowledged is lost);
* 100 % is told only when the object is in the store and equals the client's bytes;
* an upload is gone only when its client ended it, its time was over, or the store lost its parts;
* the stored state is consistent: ledger, offset and tail.
At the end every upload that was not given up is finished, without faults, and compared; then time
passes, and after enough sweeps nothing is left that belongs to no complete upload.

`TUSD_TEST_STEPS` sets how much of it is run, `TUSD_TEST_SEED` which part.
"""

import asyncio
import base64
import hashlib
import inspect
import os
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support import memory_store
from tests.support.attacked import LEASE, Process
from tests.support.faults import Death, Disk, DiskTrouble, Trouble
from tests.support.harness import ScriptedBody, create_request, patch_request
from tests.support.reaping import GRACE, IDLE, Clock
from tusd_py.protocol.errors import (
    ChecksumMismatch,
    OffsetMismatch,
    ProtocolError,
    UploadGone,
    UploadNotFound,
)
from tusd_py.uploads import appender, memory
from tusd_py.uploads.body import Interrupted
from tusd_storage import copyplan
from tusd_storage.errors import LeaseHeld, StorageError
from tusd_storage.leases import manager
from tusd_storage.lifecycle import OPEN
from tusd_storage.records import Kind, SessionState, UploadSession
from tusd_storage.sql import SqlStore, migrate
from tusd_storage.tail import files, store, tail

PART = 64
"""Bytes of a part here: the same paths as with 5 MiB, a hundred thousand times cheaper."""

STEPS = int(os.environ.get("TUSD_TEST_STEPS", "1500"))
SEED = int(os.environ.get("TUSD_TEST_SEED", "0"))
STEPS_PER_RUN = 30
PHASES = [phase for phase in Phase if phase is not Phase.shrink or "TUSD_TEST_SHRINK" in os.environ]

TROUBLES = st.builds(
    lambda calls, troubles: [Trouble.NONE] * calls + troubles,
    st.integers(0, 12),
    st.lists(st.sampled_from([Trouble.NONE, Trouble.NONE, Trouble.NONE, *Trouble]), max_size=5),
)
"""Some calls that work, and then a bad time: every call of every request is reached."""
DISK_TROUBLES = st.lists(st.sampled_from([DiskTrouble.NONE, *DiskTrouble]), max_size=4)
NODES = st.sampled_from(["a", "a", "a", "b"])
FINISH_TRIES = 50
WHICH = st.integers(0, 50)
DISK = Disk()


class Client:
    """One file a client wants to upload, and what it was told about it."""

    def __init__(self, name: str, data: bytes, row: UploadSession, *, deferred: bool) -> None:
        self.name = name
        self.data = data
        self.id = row.id
        self.key = row.object_key
        self.kind = row.kind
        self.deferred = deferred
        self.told = 0
        self.gone = False
        self.doomed = False
        """Its end was begun: whether it came is not known."""
        self.over = False
        """It ended by itself, as it may have."""

    @property
    def length(self) -> int:
        return len(self.data)


class Attack(RuleBasedStateMachine):
    """Clients, processes that die, a disk, a store and a database that fail."""

    template: Path
    steps = 0
    met: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="attack-"))
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.objects = memory_store.MemoryStore(now=self.clock)
        self.clients: list[Client] = []
        self.contents: dict[str, bytes] = {}
        """By name, also of uploads whose creation was never answered."""
        self.robbed: set[str] = set()
        self.nodes: dict[str, Process] = {}
        self.random = random.Random(7)

    @initialize()
    def start(self) -> None:
        self.database = self.folder / "state.db"
        shutil.copy(self.template, self.database)
        self.sessions = SqlStore.connect(f"sqlite:///{self.database}", synchronous="NORMAL")
        for name in ("a", "b"):
            self.nodes[name] = self._new_process(name)
        for length, partial in [(2 * PART + 5, False), (7 * PART, False), (PART + 9, True)]:
            self._create(length, 0, False, partial, "a", [], [])
        Attack.steps -= 1

    def teardown(self) -> None:
        try:
            DISK.begin(())
            for process in self.nodes.values():
                process.faults.plan = []
            if self.nodes:
                self.run(self._finish_all())
                self.run(self._sweep_all())
            for process in self.nodes.values():
                self.run(process.end())
            if self.nodes:
                self.run(self.sessions.aclose())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def _new_process(self, name: str) -> Process:
        async def make() -> Process:
            return Process(
                name,
                self.sessions,
                self.objects,
                self.folder / name,
                clock=self.clock,
                robbed=self.robbed,
                met=Attack.met,
                part_size=PART,
            )

        made: Process = self.run(make())
        return made

    def _attempt(
        self,
        process: Process,
        work: Coroutine[Any, Any, Any],
        troubles: list[Trouble],
        disk: list[DiskTrouble] | None = None,
    ) -> Any:
        """Runs a request under faults. Returns its result, or the exception it ended with."""
        process.faults.plan = list(troubles)
        DISK.begin(disk or ())
        try:
            return self.run(_shielded(work))
        except Death:
            return None
        finally:
            process.faults.plan = []
            DISK.begin(())
            self._bury()

    def _bury(self) -> None:
        """Dead processes start again; what they held runs out, for the other node."""
        for name, process in list(self.nodes.items()):
            if process.faults.dead:
                self.run(process.end())
                self.clock.forward(LEASE + timedelta(seconds=1))
                self.nodes[name] = self._new_process(name)

    def _client(self, which: int, *, writes: bool = False) -> Client | None:
        wanted = [c for c in self.clients if not (c.gone or (writes and c.kind is Kind.FINAL))]
        return wanted[which % len(wanted)] if wanted else None

    # What clients do

    @rule(
        length=st.one_of(
            st.sampled_from([0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 7]),
            st.integers(0, 8 * PART),
        ),
        first=st.one_of(st.just(0), st.integers(0, 3 * PART)),
        deferred=st.booleans(),
        partial=st.booleans(),
        node=NODES,
        troubles=TROUBLES,
        disk=DISK_TROUBLES,
    )
    def create(
        self,
        length: int,
        first: int,
        deferred: bool,
        partial: bool,
        node: str,
        troubles: list[Trouble],
        disk: list[DiskTrouble],
    ) -> None:
        self._create(length, first, deferred, partial, node, troubles, disk)

    def _create(
        self,
        length: int,
        first: int,
        deferred: bool,
        partial: bool,
        node: str,
        troubles: list[Trouble],
        disk: list[DiskTrouble],
    ) -> None:
        data = self.random.randbytes(length)
        name, headers = self._named(data)
        if partial:
            headers["upload_concat"] = "partial"
        body = data[:first]
        if body:
            headers["content_length"] = str(len(body))
            headers["content_type"] = "application/offset+octet-stream"
        request = create_request(None if deferred else length, **headers)
        process = self.nodes[node]
        creating = process.engine.creator.create(request, ScriptedBody([body]), owner=None)
        done = self._attempt(process, creating, troubles, disk)
        if isinstance(done, UploadSession):
            client = Client(name, data, done, deferred=deferred)
            self.clients.append(client)
            self._heard(client, done)

    def _named(self, data: bytes) -> tuple[str, dict[str, str]]:
        name = f"f{len(self.contents)}"
        self.contents[name] = data
        return name, {"upload_metadata": "filename " + base64.b64encode(name.encode()).decode()}

    @rule(
        which=WHICH,
        node=NODES,
        size=st.one_of(st.integers(0, 3 * PART), st.just(10_000)),
        piece=st.integers(1, PART * 2),
        cut=st.one_of(st.none(), st.integers(0, 4 * PART)),
        checksum=st.sampled_from(["none", "none", "right", "wrong"]),
        troubles=TROUBLES,
        disk=DISK_TROUBLES,
    )
    def patch(
        self,
        which: int,
        node: str,
        size: int,
        piece: int,
        cut: int | None,
        checksum: str,
        troubles: list[Trouble],
        disk: list[DiskTrouble],
    ) -> None:
        client = self._client(which, writes=True)
        if client is None or client.over:
            return
        before = self._offset(client)
        process = self.nodes[node]
        patching = self._patch(process, client, before, size, piece, cut, checksum)
        done = self._attempt(process, patching, troubles, disk)
        self._heard(client, done)
        if isinstance(done, ChecksumMismatch):
            assert self._offset(client) == before, "a body with a wrong checksum left something"

    @rule(which=WHICH, size=st.integers(1, 2 * PART), disk=DISK_TROUBLES)
    def patch_in_peace(self, which: int, size: int, disk: list[DiskTrouble]) -> None:
        """Nothing but the disk may fail, so that uploads get on."""
        self.patch(which, "a", size, 20, None, "none", [], disk)

    async def _patch(
        self,
        process: Process,
        client: Client,
        offset: int,
        size: int,
        piece: int,
        cut: int | None = None,
        checksum: str = "none",
        body: ScriptedBody | None = None,
    ) -> UploadSession:
        data = client.data[offset : offset + size]
        headers: dict[str, str] = {}
        if client.deferred and offset + len(data) == client.length:
            headers["upload_length"] = str(client.length)
        if checksum != "none":
            digest = hashlib.sha1(data if checksum == "right" else data + b"x").digest()
            headers["upload_checksum"] = "sha1 " + base64.b64encode(digest).decode()
        sent = data if cut is None else data[:cut]
        body = body or ScriptedBody(_pieces(sent, piece), gone=len(sent) < len(data))
        return await process.engine.patch(
            client.id, patch_request(offset, len(data), **headers), body
        )

    @rule(which=WHICH, size=st.integers(1, 3 * PART), troubles=TROUBLES)
    def patch_twice_at_once(self, which: int, size: int, troubles: list[Trouble]) -> None:
        client = self._client(which, writes=True)
        if client is None or client.over:
            return
        offset, process = self._offset(client), self.nodes["a"]

        async def both() -> list[Any]:
            return await asyncio.gather(
                self._patch(process, client, offset, size, 10),
                self._patch(process, client, offset, size * 2, 33, size),
                return_exceptions=True,
            )

        self._heard_all(client, self._attempt(process, both(), troubles))

    @rule(which=WHICH, taker=NODES, size=st.integers(1, 3 * PART), troubles=TROUBLES)
    def overtake(self, which: int, taker: str, size: int, troubles: list[Trouble]) -> None:
        """A process stands still in a body for longer than its lease; another takes over.

        Of the same node (`a`), or of the other. Then the first goes on.
        """
        client = self._client(which, writes=True)
        if client is None or client.over:
            return
        slow, quick = self.nodes["a"], self.nodes["b"]
        if taker == "a":
            quick = self.nodes["a"] = self._new_process("a")
        offset = self._offset(client)

        async def both() -> list[Any]:
            gate = asyncio.Event()
            data = client.data[offset : offset + size]
            body = ScriptedBody(_pieces(data, 10), gate=gate)
            first = asyncio.create_task(
                self._patch(slow, client, offset, size, 10, body=body), name="slow"
            )
            while not first.done() and body.given < len(data):
                await asyncio.sleep(0)
            self.clock.forward(LEASE + timedelta(seconds=1))
            row = await self.sessions.get(client.id)
            assert row is not None
            second = asyncio.create_task(
                self._patch(quick, client, row.offset, 2 * size, 33), name="quick"
            )
            await asyncio.wait([second])
            gate.set()
            return await asyncio.gather(first, second, return_exceptions=True)

        done = self._attempt(slow, both(), troubles)
        if slow is not self.nodes["a"]:
            self.run(slow.end())
        self._heard_all(client, done)

    @rule(which=WHICH, node=NODES, troubles=TROUBLES)
    def head(self, which: int, node: str, troubles: list[Trouble]) -> None:
        client = self._client(which)
        if client is None:
            return
        process = self.nodes[node]

        async def ask() -> UploadSession:
            return await process.engine.status(await process.engine.find(client.id))

        self._heard(client, self._attempt(process, ask(), troubles))

    @rule(which=WHICH, node=NODES, troubles=TROUBLES)
    def terminate(self, which: int, node: str, troubles: list[Trouble]) -> None:
        client = self.clients[which % len(self.clients)]
        done = self._attempt(self.nodes[node], self._terminate(self.nodes[node], client), troubles)
        if done != "terminated":
            client.doomed = True
        client.gone = True

    async def _terminate(self, process: Process, client: Client) -> str:
        await process.engine.terminate(client.id)
        return "terminated"

    @rule(picks=st.lists(WHICH, min_size=1, max_size=4), node=NODES, troubles=TROUBLES)
    def concatenate(self, picks: list[int], node: str, troubles: list[Trouble]) -> None:
        partials = [c for c in self.clients if c.kind is Kind.PARTIAL and not c.gone]
        if not partials:  # no precondition: what threads do may differ when a history is repeated
            return
        chosen = [partials[pick % len(partials)] for pick in picks]
        names = " ".join(f"/files/{client.id}" for client in chosen)
        data = b"".join(client.data for client in chosen)
        name, headers = self._named(data)
        request = create_request(None, upload_concat=f"final;{names}", **headers)
        process = self.nodes[node]
        creating = process.engine.creator.create(request, ScriptedBody([]), owner=None)
        done = self._attempt(process, creating, troubles)
        if isinstance(done, UploadSession):
            final = Client(name, data, done, deferred=False)
            self.clients.append(final)
            self._heard(final, done)

    # What happens to them

    @rule(node=NODES)
    def kill(self, node: str) -> None:
        self.nodes[node].faults.dead = True
        self._bury()

    @rule(hours=st.sampled_from([0.02, 0.02, 0.5, 2.0, 2.0, 2.0, 2.0, 25.0]))
    def time_passes(self, hours: float) -> None:
        self.clock.forward(timedelta(hours=hours))

    @rule(node=NODES, troubles=TROUBLES)
    def sweep(self, node: str, troubles: list[Trouble]) -> None:
        process = self.nodes[node]
        self._attempt(process, process.reaper.run(apply=True), troubles)

    # What must hold

    def _heard_all(self, client: Client, done: Any) -> None:
        for one in done if isinstance(done, list) else []:
            self._heard(client, one)

    def _heard(self, client: Client, done: Any) -> None:
        if isinstance(done, UploadSession):
            assert done.offset >= client.told, "an acknowledged byte was taken back"
            assert done.offset <= client.length, "bytes that nobody sent"
            client.told = done.offset
            if done.length is not None and done.offset == done.length:
                assert done.state is SessionState.COMPLETED, "100 % was told too early"
                self._check_object(done, client.data)
        elif isinstance(done, OffsetMismatch):
            assert done.offset >= client.told, "an acknowledged byte was taken back"
        elif isinstance(done, (UploadGone, UploadNotFound)):
            assert self._may_be_gone(client), "an upload that lives was told to be gone"
        elif isinstance(done, BaseException) and not isinstance(done, Death):
            assert isinstance(done, (StorageError, Interrupted, ProtocolError)), repr(done)

    def _may_be_gone(self, client: Client) -> bool:
        row = self.run(self.sessions.get(client.id))
        if row is None or client.doomed or client.gone or client.over:
            return True
        if client.key in self.robbed or client.kind is Kind.FINAL:
            return True
        return row.expires_at is not None and row.expires_at <= self.clock()

    def _check_object(self, done: UploadSession, data: bytes) -> None:
        stored = self.objects.objects.get((done.bucket, done.object_key))
        assert stored is not None, "the object is not there"
        assert stored.data == data, "the object differs"

    def _offset(self, client: Client) -> int:
        row = self.run(self.sessions.get(client.id))
        assert row is not None
        offset: int = row.offset
        return offset

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        Attack.steps += 1
        for client in self.clients:
            if client.doomed or client.over:
                continue
            row = self.run(self.sessions.get(client.id))
            if client.gone:
                assert (
                    row is None
                    or row.deleted_at
                    or row.state
                    in {
                        SessionState.ABORTED,
                        SessionState.EXPIRED,
                    }
                )
                continue
            if row is None or row.deleted_at or row.state is SessionState.EXPIRED:
                assert row is not None and row.expires_at is not None, "a row went too early"
                assert row.expires_at <= self.clock(), "it expired too early"
                client.over = True
                continue
            if row.state is SessionState.FAILED:
                assert client.key in self.robbed, row.failure
                client.over = True
                continue
            if row.received and row.state is not SessionState.COMPLETED:
                Attack.met["received and unfinished"] += 1
            assert row.offset >= client.told
            parts = self.run(self.sessions.parts(client.id))
            assert [part.number for part in parts] == list(range(1, len(parts) + 1))
            assert sum(part.size for part in parts) == row.parts_size <= row.offset

    async def _finish_all(self) -> None:
        # A lease that could not be given back runs out; another node has to wait for that.
        self.clock.forward(LEASE + timedelta(seconds=1))
        for client in self.clients:
            row = await self.sessions.get(client.id)
            if client.gone or client.over or client.doomed or row is None:
                continue
            if client.kind is Kind.FINAL or client.key in self.robbed:
                continue
            if row.state is not SessionState.COMPLETED:
                if row.expires_at is not None and row.expires_at <= self.clock():
                    continue
                process = self.nodes[row.tail_node or "a"]
                row = await self._finish(process, client)
            assert row.state is SessionState.COMPLETED
            self._check_object(row, client.data)

    async def _finish(self, process: Process, client: Client) -> UploadSession:
        """A slow disk is no failure: who is told that the lease is held comes again."""
        for _ in range(FINISH_TRIES):
            row = await process.engine.find(client.id)
            try:
                if not row.received:
                    row = await self._patch(process, client, row.offset, 10_000, 50)
                return await process.engine.status(row)
            except OffsetMismatch:
                pytest.fail("the row's own offset was refused")
            except LeaseHeld:
                continue
        pytest.fail(f"nobody can go on with {client.id}")

    async def _sweep_all(self) -> None:
        """Time passes, nobody comes back: only complete uploads stay."""
        self.clock.forward(IDLE + GRACE)
        for _ in range(6):
            for process in self.nodes.values():
                await process.reaper.run(apply=True)
            self.clock.forward(2 * GRACE)
            if not any((left := self._left()).values()):
                break
        assert not any(left.values()), left

    def _left(self) -> dict[str, Any]:
        """What is there and should not be."""
        states = ", ".join(f"'{state}'" for state in OPEN)
        database = sqlite3.connect(self.database)
        try:
            owned = database.execute(
                "SELECT object_key, filename FROM upload_sessions "
                "WHERE state = 'completed' AND deleted_at IS NULL"
            ).fetchall()
            rows = database.execute(
                "SELECT id, state, kind, lease_holder, cleanup_reason FROM upload_sessions "
                f"WHERE state IN ({states}) OR lease_holder IS NOT NULL "
                "OR cleanup_reason IS NOT NULL"
            ).fetchall()
        finally:
            database.close()
        objects = {key: stored.data for (_, key), stored in self.objects.objects.items()}
        wanted = {key: self.contents[name] for key, name in owned}
        return {
            "rows": rows,
            "multipart uploads": list(self.objects.uploads),
            "tails": list(self.folder.glob("*/tus/*.tail")),
            "objects without an upload": sorted(objects.keys() - wanted.keys()),
            "uploads without an object": sorted(wanted.keys() - objects.keys()),
            "different": [k for k, data in wanted.items() if objects.get(k, data) != data],
        }


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


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
    monkeypatch.setattr(manager, "POLL_S", 0.02)
    hold = inspect.unwrap(manager.LeaseManager.hold)
    monkeypatch.setitem(hold.__kwdefaults__, "patience_s", 0.2)
    for module in (files, store, tail):
        monkeypatch.setattr(module, "os", DISK)
    Attack.template = tmp_path / "template.db"
    migrate(f"sqlite:///{Attack.template}")


def test_no_history_loses_a_byte() -> None:
    run_state_machine_as_test(
        seed(SEED)(Attack) if SEED else Attack,
        settings=settings(
            phases=PHASES,
            max_examples=max(1, STEPS // STEPS_PER_RUN),
            stateful_step_count=STEPS_PER_RUN,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    met = {str(kind): n for kind, n in (Attack.met + DISK.met).items() if kind != "none"}
    sys.stdout.write(f"{Attack.steps} steps, seed {SEED}, faults met: {met}\n")
