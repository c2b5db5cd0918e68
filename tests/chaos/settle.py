"""The end of a run: nothing goes wrong any more, time passes, and what is left must be right.

Every complete upload is what its client wanted, whether or not the client learned of it; of all
others nothing is left in the store, on the disks and in the database.
"""

import asyncio
import base64
import hashlib
import json
import time
from typing import Any

from tests.chaos.clients import Tally
from tests.chaos.world import Broken, Content, Node, World
from tests.support.process import run_program
from tusd_storage.lifecycle import OPEN

SETTLED_S = 180.0
OPEN_STATES = "(" + ", ".join(f"'{state}'" for state in sorted(OPEN)) + ")"


async def settle(world: World, tally: Tally) -> None:
    """Raises: Broken."""
    for node in world.nodes.values():
        if not node.server.alive():
            await asyncio.to_thread(node.server.restart)
        await asyncio.to_thread(node.server.wait_ready)
    failed = world.query("SELECT id, failure FROM upload_sessions WHERE state = 'failed'")
    if failed:
        raise Broken(f"uploads were given up: {failed[:10]}")
    await asyncio.to_thread(compare_all, world, tally)
    world.query(
        "UPDATE upload_sessions SET expires_at = updated_at "
        f"WHERE state IN {OPEN_STATES} OR kind = 'partial'"
    )
    deadline = time.monotonic() + SETTLED_S
    while any((left := left_over(world)).values()):
        if time.monotonic() > deadline:
            found = {what: things[:10] for what, things in left.items() if things}
            raise Broken(f"something is left behind: {found}")
        for node in world.nodes.values():
            await asyncio.to_thread(sweep, world, node)
            tally.counts["sweeps at the end"] += 1
    await asyncio.to_thread(compare_all, world, tally)
    for path, name in world.kept.items():
        if await asyncio.to_thread(world.bucket.read, path) is None:
            raise Broken(f"{name} was complete, and its object is gone: {path}")


def sweep(world: World, node: Node) -> None:
    """One run of the reaper on that node, for which everything is old. Raises: Broken."""
    environment = world.environment(node, TUSD_REAP_GRACE="0s", TUSD_RETENTION="0s")
    done = run_program(
        "reap", "--apply", "--json", extra_env=environment, cwd=node.server.folder, timeout_s=120
    )
    if done.returncode != 0 or json.loads(done.stdout)["failed"]:
        raise Broken(f"a sweep failed: {done.stdout}{done.stderr}")


def left_over(world: World) -> dict[str, list[Any]]:
    """What is there and should not be; empty lists when all is clean."""
    owned = {key for (key,) in world.query(f"SELECT object_key {COMPLETE}")}
    listed = world.bucket.keys()
    keys = {world.bucket.prefix + key for key in listed}
    return {
        "rows": world.query(
            "SELECT id, state, kind FROM upload_sessions WHERE state <> 'completed' "
            "OR deleted_at IS NOT NULL OR lease_holder IS NOT NULL OR kind = 'partial'"
        ),
        "ledgers": world.query(
            "SELECT session_id FROM upload_parts LEFT JOIN upload_sessions s ON s.id = session_id "
            "WHERE s.id IS NULL OR s.state <> 'completed'"
        ),
        "jobs": world.query("SELECT id, kind, state, error FROM jobs WHERE state <> 'done'"),
        "multipart uploads": world.bucket.multiparts(),
        "objects without an upload": sorted(keys - owned),
        "uploads without an object": sorted(owned - keys),
        "tails": world.tails(),
    }


COMPLETE = "FROM upload_sessions WHERE state = 'completed' AND deleted_at IS NULL"


def compare_all(world: World, tally: Tally) -> None:
    """Holds every complete upload against its name's content. Raises: Broken."""
    for session_id, header, length in world.query(f"SELECT id, metadata, length {COMPLETE}"):
        content = world.contents[_filename(header)]
        stored = world.bucket.read(f"/{session_id}")
        if stored is None:
            if not world.query(f"SELECT id {COMPLETE} AND id = '{session_id}'"):
                continue  # a partial upload, whose time was over while we compared
            raise Broken(f"{session_id} is complete, and there is no object")
        found = Content(len(stored), hashlib.sha256(stored).digest())
        if found != content or length != content.length:
            raise Broken(f"{session_id}: {len(stored)} bytes differ from {content.length} sent")
        tally.counts["compared at the end"] += 1


def _filename(header: str) -> str:
    encoded = next(pair for pair in header.split(",") if pair.startswith("filename "))
    return base64.b64decode(encoded.split(" ")[1]).decode()
