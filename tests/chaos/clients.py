"""Clients that upload as people do, and keep the model: the bytes that each was told are safe.

A client never trusts: every answer is held against what it was told before and what it has sent,
every finished upload against the object in the store, byte for byte.
"""

import asyncio
import base64
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urljoin, urlsplit

from tests.chaos.world import Broken, Content, Node, World
from tests.support.persistent import NO_BODY, PersistentClient, Upload
from tests.support.tus import OFFSET_MEDIA_TYPE, metadata
from tests.support.wire import Answer
from tusd_storage.partplan import MIB

PART = 5 * MIB
PATIENCE_S = 240.0
"""An upload that does not move for so long stands still, whatever goes wrong meanwhile."""
RETRY_S = (0.1, 0.6)
SIZES = (0, 1, 1000, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 77, 3 * PART - 1)
RATES = (300e3, 700e3, 1.5e6, 4e6)


class Fate(StrEnum):
    """How a client ends with an upload."""

    FINISH = "finish"
    ABANDON = "abandon"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One upload, or several that become one. A plan follows from the seed and its number alone."""

    sizes: tuple[int, ...]
    """More than one: partial uploads, concatenated."""
    deferred: bool
    with_body: bool
    fate: Fate
    fate_share: float
    rate: float
    tidy: bool
    """Whether the finished upload is deleted, after it was compared."""

    @classmethod
    def draw(cls, chance: random.Random) -> "Plan":
        parts = chance.choice([2, 3, 4]) if chance.random() < 0.12 else 1
        sizes = tuple(_size(chance) for _ in range(parts))
        fates = [Fate.FINISH] * 7 + [Fate.ABANDON, Fate.DELETE]
        return cls(
            sizes=sizes,
            deferred=chance.random() < 0.2,
            with_body=chance.random() < 0.25,
            fate=chance.choice(fates) if parts == 1 and sizes[0] > 1 else Fate.FINISH,
            fate_share=chance.random(),
            rate=chance.choice(RATES),
            tidy=chance.random() < 0.9,
        )


def _size(chance: random.Random) -> int:
    kind = chance.random()
    if kind < 0.3:
        return chance.choice(SIZES)
    if kind < 0.6:
        return chance.randrange(1, 400_000)
    return chance.randrange(1, int(3.5 * PART))


@dataclass
class File:
    """One tus upload and all that is known about it."""

    name: str
    data: bytes
    node: Node
    deferred: bool = False
    partial: bool = False
    path: str = ""
    told: int = 0
    """Bytes a server called safe: the model."""
    reach: int = 0
    """Bytes that ever left for a server, counted from the beginning of the file."""

    @property
    def url(self) -> str:
        return urljoin(self.node.endpoint, self.path)

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return (
            f"{self.name} {self.id or '(no id)'} at {self.node.name}: "
            f"told {self.told}, sent {self.reach}, length {len(self.data)}"
        )


@dataclass
class Tally:
    """What the clients did and met."""

    counts: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """As in "PATCH 204"; "PATCH -" had no answer."""
    bytes_uploaded: int = 0
    """Of finished uploads that were compared."""
    bytes_sent: int = 0


class Client:
    """One person with one file after the other."""

    def __init__(self, world: World, seed: int, number: int, tally: Tally) -> None:
        self._world = world
        self._seed = seed
        self._number = number
        self._tally = tally
        self._chance = random.Random(f"{seed} client {number} pauses")
        self._line = PersistentClient("", rate=None)

    async def run(self, over: Callable[[], bool]) -> None:
        """Until it is over, and the upload under way then is done. Raises: Broken."""
        count = 0
        while not over():
            name = f"client {self._number} upload {count}"
            chance = random.Random(f"{self._seed} {name}")
            plan = Plan.draw(chance)
            self._line = PersistentClient("", rate=plan.rate)
            await self._carry_out(plan, name, chance)
            count += 1

    async def _carry_out(self, plan: Plan, name: str, chance: random.Random) -> None:
        node = chance.choice(list(self._world.nodes.values()))
        files = [
            File(
                f"{name} file {number}",
                chance.randbytes(size),
                node,
                deferred=plan.deferred,
                partial=len(plan.sizes) > 1,
            )
            for number, size in enumerate(plan.sizes)
        ]
        for file in files:
            self._world.contents[file.name] = Content.of(file.data)
        uploads = [self._upload(file, plan, random.Random(chance.random())) for file in files]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(upload) for upload in uploads]
        whole = files[0]
        if len(files) > 1:
            whole = await self._concatenate(files, name)
        elif not running[0].result():
            return
        await self._compare(whole)
        for file in files if len(files) > 1 else []:
            await self._expire(file)
        if plan.tidy:
            await self._delete(whole)
            self._tally.counts["deleted when finished"] += 1
        else:
            self._world.kept[whole.path] = whole.name

    async def _upload(self, file: File, plan: Plan, chance: random.Random) -> bool:
        """Whether it was carried to its end."""
        size = len(file.data)
        stop = size if plan.fate is Fate.FINISH else int(size * plan.fate_share)
        await self._create(file, _piece(chance, size) if plan.with_body else 0)
        patience = time.monotonic() + PATIENCE_S
        while file.told < size and file.told <= stop:
            before = file.told
            piece = min(_piece(chance, size), size - file.told)
            if plan.fate is Fate.ABANDON and file.told + piece > stop:
                await self._drop(file, piece)
                return False
            if plan.fate is Fate.DELETE and file.told + piece > stop:
                break
            await self._patch(file, piece, chance.random())
            if file.told > before:
                patience = time.monotonic() + PATIENCE_S
            elif time.monotonic() > patience:
                raise Broken(f"stands still: {file}")
        if plan.fate is Fate.DELETE:
            await self._delete(file)
            self._tally.counts["deleted before the end"] += 1
            return False
        if plan.fate is Fate.ABANDON and file.told < size:
            await self._abandon(file)
            return False
        if file.deferred and size == 0:
            await self._tell_length(file)
        await self._until(file, lambda: self._head(file), lambda: file.told == size)
        return True

    async def _create(self, file: File, body_size: int) -> None:
        size = len(file.data)
        headers = {"Upload-Metadata": metadata({"filename": file.name})}
        if file.partial:
            headers["Upload-Concat"] = "partial"
        if file.deferred:
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(size)
        body = NO_BODY
        if body_size and not (file.deferred and body_size >= size):
            body = memoryview(file.data)[:body_size]
            headers["Content-Type"] = OFFSET_MEDIA_TYPE
        headers["Content-Length"] = str(len(body))

        async def post() -> None:
            file.reach, file.told = 0, 0
            answer, handed = await self._ask(file, "POST", file.node.endpoint, headers, body)
            if answer is not None and answer.status == 201:
                file.path = urlsplit(answer["Location"]).path
                file.reach = handed
                self._hear(file, answer)
            elif answer is not None and answer.status < 500 and answer.status != 423:
                raise Broken(f"creation answered {answer.status} {answer.body!r}: {file}")

        if body:  # without an answer nobody can go on from there: once is enough
            await post()
            body = NO_BODY
            headers["Content-Length"] = "0"
        if not file.path:
            await self._until(file, post, lambda: bool(file.path))

    async def _patch(self, file: File, size: int, draw: float) -> None:
        """One PATCH, and a HEAD unless it went well."""
        body = memoryview(file.data)[file.told : file.told + size]
        headers = {
            "Upload-Offset": str(file.told),
            "Content-Type": OFFSET_MEDIA_TYPE,
            "Content-Length": str(size),
        }
        if file.deferred and file.told + size == len(file.data):
            headers["Upload-Length"] = str(len(file.data))
        checked, wrong = draw < 0.2, draw < 0.04
        if checked:
            digest = hashlib.sha1(b"x" if wrong else body).digest()
            headers["Upload-Checksum"] = "sha1 " + base64.b64encode(digest).decode()
        start = file.told
        answer, handed = await self._ask(file, "PATCH", file.url, headers, body)
        if handed == size or not checked:
            file.reach = max(file.reach, start + (0 if wrong else handed))
        if answer is not None and answer.status == 204:
            if wrong:
                raise Broken(f"a wrong checksum was accepted: {file}")
            self._hear(file, answer)
            return
        await self._after_failure(file, answer, wrong)

    async def _after_failure(self, file: File, answer: Answer | None, wrong: bool) -> None:
        if answer is not None:
            if answer.status == 409 and "Upload-Offset" in answer:
                self._hear(file, answer)
            elif answer.status == 460 and wrong:
                self._tally.counts["wrong checksums refused"] += 1
            elif answer.status not in {409, 423} and answer.status < 500:
                raise Broken(f"PATCH answered {answer.status} {answer.body!r}: {file}")
            elif b"tus_tail_missing" in answer.body:
                self._tally.counts["sent to the wrong node"] += 1
        await self._until(file, lambda: self._head(file), None)

    async def _head(self, file: File) -> bool:
        """Whether it told the offset. Any node may be asked."""
        answer, _ = await self._ask(file, "HEAD", self._some_url(file))
        if answer is None or answer.status == 423:
            return False
        if answer.status != 200:
            raise Broken(f"HEAD answered {answer.status}, a client would begin again: {file}")
        self._hear(file, answer)
        return True

    def _some_url(self, file: File) -> str:
        nodes = list(self._world.nodes.values())
        node = self._chance.choice(nodes) if self._chance.random() < 0.1 else file.node
        return urljoin(node.endpoint, file.path)

    async def _tell_length(self, file: File) -> None:
        """An empty PATCH: the length of an upload that has none yet."""

        async def patch() -> None:
            headers = {
                "Upload-Offset": "0",
                "Upload-Length": "0",
                "Content-Type": OFFSET_MEDIA_TYPE,
                "Content-Length": "0",
            }
            answer, _ = await self._ask(file, "PATCH", file.url, headers)
            sent.append(answer is not None and answer.status == 204)
            if answer is not None and answer.status == 409:
                sent.append(True)  # an answer before was lost

        sent: list[bool] = []
        await self._until(file, patch, lambda: any(sent))

    async def _concatenate(self, files: list[File], name: str) -> File:
        whole = File(f"{name} whole", b"".join(file.data for file in files), files[0].node)
        whole.reach = len(whole.data)
        self._world.contents[whole.name] = Content.of(whole.data)
        headers = {
            "Upload-Metadata": metadata({"filename": whole.name}),
            "Upload-Concat": "final;" + " ".join(file.path for file in files),
            "Content-Length": "0",
        }

        async def post() -> None:
            answer, _ = await self._ask(whole, "POST", whole.node.endpoint, headers)
            if answer is not None and answer.status == 201:
                whole.path = urlsplit(answer["Location"]).path
            elif answer is not None and answer.status < 500 and answer.status != 423:
                raise Broken(f"concatenation answered {answer.status} {answer.body!r}: {whole}")

        await self._until(whole, post, lambda: bool(whole.path))
        await self._until(whole, lambda: self._head(whole), lambda: whole.told == whole.reach)
        self._tally.counts["concatenated"] += 1
        return whole

    async def _compare(self, file: File) -> None:
        """100 % was told: the object is there, and is what was sent."""
        stored = await asyncio.to_thread(self._world.bucket.read, file.path)
        if stored is None:
            raise Broken(f"100 % was told, and there is no object: {file}")
        if hashlib.sha256(stored).digest() != hashlib.sha256(file.data).digest():
            raise Broken(f"the object differs, it has {len(stored)} bytes: {file}")
        self._tally.counts["completed and identical"] += 1
        self._tally.bytes_uploaded += len(file.data)

    async def _delete(self, file: File) -> None:
        """Until it is gone, and HEAD says so."""
        gone: list[int] = []

        async def ask(method: str, accepted: set[int]) -> None:
            answer, _ = await self._ask(file, method, file.url)
            if answer is not None and answer.status in accepted:
                gone.append(answer.status)
            elif answer is not None and answer.status < 500 and answer.status not in {409, 423}:
                raise Broken(f"{method} of a deleted upload answered {answer.status}: {file}")

        await self._until(file, lambda: ask("DELETE", {204, 404, 410}), lambda: bool(gone))
        gone.clear()
        await self._until(file, lambda: ask("HEAD", {404, 410}), lambda: bool(gone))

    async def _drop(self, file: File, piece: int) -> None:
        """A client that is gone in the middle of its request."""
        task = asyncio.create_task(self._patch(file, piece, 1.0))
        await asyncio.wait([task], timeout=self._chance.uniform(0.05, 3))
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        await self._abandon(file)

    async def _abandon(self, file: File) -> None:
        self._tally.counts["abandoned"] += 1
        await self._expire(file)

    async def _expire(self, file: File) -> None:
        """Nobody needs it any more: due now instead of in a day."""
        sql = f"UPDATE upload_sessions SET expires_at = updated_at WHERE id = '{file.id}'"
        try:
            await asyncio.to_thread(self._world.query, sql)
        except Exception:
            return  # the database is down; what is left is due at the end of the run

    async def _until(
        self,
        file: File,
        work: Callable[[], Awaitable[object]],
        done: Callable[[], bool] | None,
    ) -> None:
        """Again and again, until `done` (None: until it returns something true). Raises: Broken."""
        patience = time.monotonic() + PATIENCE_S
        while True:
            result = await work()
            if result if done is None else done():
                return
            if time.monotonic() > patience:
                raise Broken(f"no way on: {file}")
            await asyncio.sleep(self._chance.uniform(*RETRY_S))

    async def _ask(
        self,
        file: File,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: memoryview = NO_BODY,
    ) -> tuple[Answer | None, int]:
        """The answer, if there was one, and how many bytes of the body went out."""
        counted = Upload(b"")
        answer = await self._line.request(method, url, headers, body, counted)
        self._tally.answers[f"{method} {answer.status if answer else '-'}"] += 1
        self._tally.bytes_sent += counted.sent
        if answer is not None and answer.status == 500:
            raise Broken(f"{method} answered 500 {answer.body!r}: {file}")
        return answer, counted.sent

    def _hear(self, file: File, answer: Answer) -> None:
        """Holds an offset against the model."""
        if "Upload-Offset" not in answer:
            return
        offset = int(answer["Upload-Offset"])
        if offset < file.told:
            raise Broken(f"acknowledged bytes are lost, the offset is {offset}: {file}")
        if offset > file.reach:
            raise Broken(f"bytes that nobody sent, the offset is {offset}: {file}")
        file.told = offset


def _piece(chance: random.Random, size: int) -> int:
    """Of a body: often all that is left, sometimes almost nothing."""
    kind = chance.random()
    if kind < 0.4:
        return max(size, 1)
    if kind < 0.6:
        return chance.randrange(1, 5000)
    return chance.randrange(1, 9 * MIB)
