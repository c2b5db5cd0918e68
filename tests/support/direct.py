"""A broker inside the test's own process, on any session store and object store.

Owns the putting together, and a memory store that clients may be sent to. Knows no test.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.harness import Node
from tests.support.memory_store import Grant, MemoryStore, check_headers
from tusd_py.broker.parts import PartName
from tusd_py.broker.profiles import Profile, Profiles
from tusd_py.broker.service import Broker, BrokerParts
from tusd_py.clock import utc_now
from tusd_py.telemetry.commits import TellingSessions
from tusd_py.telemetry.events import Event
from tusd_storage.partplan import MIN_PART_SIZE
from tusd_storage.ports.direct import Capability, PresignedForm
from tusd_storage.records import ObjectSpec


class DirectMemoryStore(MemoryStore):
    """`MemoryStore` as a `DirectStore`: forms too, as strict as S3 about them."""

    capabilities = frozenset(Capability)

    async def presign_post(
        self, spec: ObjectSpec, *, expires_in_s: int, min_size: int, max_size: int
    ) -> PresignedForm:
        """A form that `post` takes."""
        check_headers(spec)
        fields = {"key": spec.key, "x-amz-meta-tusd-token": spec.token}
        if spec.content_type is not None:
            fields["Content-Type"] = spec.content_type

        def accept(data: bytes) -> str:
            assert min_size <= len(data) <= max_size, "EntityTooLarge"
            return self._store(spec, data)

        url = self._url(spec.bucket, spec.key)
        self._grants[url] = Grant(accept, fields, None)
        return PresignedForm(url=url, fields=dict(fields))


class Clock:
    """A time that only tests move."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        """Lets time pass."""
        self.now += by


@dataclass
class BrokerNode:
    """A broker with what it stands on."""

    broker: Broker
    node: Node
    sessions: Any
    """The bare store, for looking at rows."""
    events: list[Event] = field(default_factory=list)

    def told(self) -> list[str]:
        """Names of the events so far."""
        return [event.name for event in self.events]


@asynccontextmanager
async def broker_node(
    store: Any,
    objects: Any,
    folder: Path,
    *,
    name: str = "a",
    bucket: str = "bucket",
    profiles: Sequence[Profile] | None = None,
    capabilities: Collection[Capability] = frozenset(Capability),
    now: Any = utc_now,
    bare: Any = None,
    ttl: timedelta = timedelta(seconds=15),
) -> AsyncIterator[BrokerNode]:
    """A broker that ends with the block. `bare`: the store behind faults, if `store` has some."""
    events: list[Event] = []
    node = Node(
        TellingSessions(store, events.append),
        objects,
        folder,
        name=name,
        bucket=bucket,
        ttl=ttl,
    )
    broker = broker_on(
        node,
        store,
        objects,
        events,
        profiles=profiles or [Profile(name="default", bucket=bucket)],
        capabilities=capabilities,
        now=now,
    )
    try:
        yield BrokerNode(broker=broker, node=node, sessions=bare or store, events=events)
    finally:
        await node.aclose()


def broker_on(
    node: Node,
    store: Any,
    objects: Any,
    events: list[Event],
    *,
    profiles: Sequence[Profile],
    capabilities: Collection[Capability] = frozenset(Capability),
    now: Any = utc_now,
) -> Broker:
    """A broker beside a node's engine, on the same leases."""
    return Broker(
        Profiles(profiles, capabilities=capabilities),
        BrokerParts(
            sessions=TellingSessions(store, events.append),
            direct=store,
            objects=objects,
            tails=node.tails,
            leases=node.leases,
            resumables=node.engine,
            uploads=node.config,
            session_uri=lambda session_id: f"/files/{session_id}",
            emit=events.append,
            now=now,
        ),
    )


async def upload_parts(
    broker: Broker, objects: MemoryStore, session_id: str, data: bytes
) -> list[PartName]:
    """What a client does with a multipart session on a memory store: signs and sends every part."""
    names = []
    for number, start in enumerate(range(0, len(data), MIN_PART_SIZE), start=1):
        signed = await broker.sign_multipart_part(session_id, number)
        etag = objects.deliver(signed.presigned.url, data[start : start + MIN_PART_SIZE])
        names.append(PartName(number, etag))
    return names
