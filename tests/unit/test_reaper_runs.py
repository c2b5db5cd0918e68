"""Runs of the reaper: dry ones, several at once; and what changes between look and act."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.reaping import (
    GRACE,
    IDLE,
    SECOND,
    Clock,
    ReapedNode,
    World,
    clean_sweep,
    counters,
    large,
    node,
    partial,
    sweep,
    world,
)
from tusd_reaper.actions import Actions
from tusd_reaper.report import Sweep
from tusd_storage.errors import StoreRefused, StoreUnavailable
from tusd_storage.partplan import MIB
from tusd_storage.records import SessionState, UploadSession

__all__ = ["node", "world"]


async def test_a_dry_run_tells_and_changes_nothing(world: World, node: ReapedNode) -> None:
    upload = await large(node)
    world.tail(node, "a~unknown").write_bytes(b"x")
    await world.orphan("up/orphan")
    world.clock.forward(IDLE + GRACE + SECOND)
    before = await world.row(upload)
    report = await sweep(node, apply=False)
    assert not report.applied
    assert counters(report) == {
        "expire": {"due": 1, "expire": 1},
        "tails": {"due": 1, "delete": 1},
        "multiparts": {"due": 1, "abort": 1},
    }
    assert await world.row(upload) == before
    assert len(world.memory.uploads) == 2
    assert world.tail(node, "a~unknown").exists()
    assert node.reports == []


async def test_only_what_was_asked_for_runs(world: World, node: ReapedNode) -> None:
    await large(node)
    world.clock.forward(IDLE + SECOND)
    report = await sweep(node, Sweep.TAILS)
    assert [one.sweep for one in report.sweeps] == [Sweep.TAILS]
    assert world.memory.uploads


async def test_a_report_is_published_after_a_run(world: World, node: ReapedNode) -> None:
    report = await sweep(node)
    assert node.reports == [report]
    assert [one.sweep for one in report.sweeps] == list(Sweep)


async def test_one_node_leads_and_each_sweeps_its_own_disk(world: World) -> None:
    a, b = world.node("a"), world.node("b")
    for one in (a, b):
        world.tail(one, "a~unknown").write_bytes(b"x")
    upload = await large(a)
    world.clock.forward(IDLE + GRACE + SECOND)
    gate = world.objects.hold("abort_multipart")
    first = asyncio.create_task(sweep(a))
    while not world.objects.calls["abort_multipart"]:
        await asyncio.sleep(0)
    second = await sweep(b)
    assert counters(second) == {"tails": {"due": 1, "deleted": 1}}
    assert {one.sweep for one in second.sweeps if one.skipped} == set(Sweep) - {Sweep.TAILS}
    gate.set()
    assert (await first).failed == 0
    assert (await world.row(upload)).state is SessionState.EXPIRED
    assert all(one.skipped is None for one in (await sweep(b)).sweeps), "the leader resigned"


async def test_two_runs_at_once_do_no_harm(world: World, node: ReapedNode) -> None:
    """Without a leader: a process that hung does not know that its time is over."""
    uploads = [await large(node) for _ in range(6)]
    world.clock.forward(IDLE + SECOND)
    other = world.node("b")
    other.reaper._leader = _Everybody()  # type: ignore[assignment]
    reports = await asyncio.gather(sweep(node, Sweep.EXPIRE), sweep(other, Sweep.EXPIRE))
    done = [counters(report)["expire"].get("expired", 0) for report in reports]
    assert sum(done) == len(uploads)
    assert sum(report.failed for report in reports) == 0
    assert not world.memory.uploads


class _Everybody:
    """Gives everybody the lead."""

    def term(self, _name: str) -> "_Everybody":
        return self

    leads = True

    async def __aenter__(self) -> "_Everybody":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


async def test_a_run_that_lost_the_lead_stops(world: World, node: ReapedNode) -> None:
    for _ in range(30):
        await node.create(9)
    world.clock.forward(IDLE + SECOND)
    term = _Everybody()

    class Losing:
        def term(self, _name: str) -> _Everybody:
            return term

    node.reaper._leader = Losing()  # type: ignore[assignment]
    real = node.sessions.close

    async def close(*args: object, **kwargs: object) -> UploadSession:
        term.leads = False
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    node.sessions.close = close  # type: ignore[method-assign]
    report = await sweep(node, Sweep.EXPIRE)
    assert report.sweeps[0].skipped
    assert 0 < report.sweeps[0].counters["expired"] < 30


@pytest.mark.parametrize("later_s", [0, 0.3], ids=["while it looks", "while it only acts"])
async def test_a_cancelled_run_leaves_no_lease(
    later_s: float, world: World, node: ReapedNode
) -> None:
    upload = await large(node)
    world.clock.forward(IDLE + SECOND)
    gate = world.objects.hold("abort_multipart")
    run = asyncio.create_task(sweep(node, Sweep.EXPIRE))
    while not world.objects.calls["abort_multipart"]:
        await asyncio.sleep(0)
    await asyncio.sleep(later_s)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    async with asyncio.timeout(10):
        while node.leases.held:
            await asyncio.sleep(0.01)
    assert (await world.row(upload)).lease_holder is None
    gate.set()
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "expired": 1}}


async def test_a_refusal_is_told_with_its_subject(world: World, node: ReapedNode) -> None:
    await world.orphan("up/orphan")
    world.clock.forward(GRACE + SECOND)
    world.objects.fail("abort_multipart", StoreRefused("Odd", "no"))
    report = await sweep(node, Sweep.MULTIPARTS)
    [failure] = report.sweeps[0].failures
    assert (failure.subject, failure.reason) == ("up/orphan", "StoreRefused: no")


def test_the_clock_of_files_is_the_real_one(tmp_path: Path) -> None:
    """What the grace of tails stands on in these tests."""
    path = tmp_path / "x"
    path.touch()
    assert abs(path.stat().st_mtime - Clock()().timestamp()) < 5


# -- Between the look and the act


async def test_every_action_looks_again_before_it_acts(world: World, node: ReapedNode) -> None:
    """Whatever a listing said: by now the upload lives."""
    live, done = await large(node), await partial(node, b"done")
    actions = Actions(node.tools)
    before = [await world.row(session) for session in (live, done)]
    assert await actions.expire(live) is None
    assert await actions.clean(live) is None
    assert await actions.sweep_ended(live) is None
    assert await actions.forget(live) is None
    assert await actions.delete_partial(live) is None
    assert await actions.delete_tail(live.id, moved=True) is None
    assert await actions.end_lease(live, world.clock()) is None
    for act in (actions.clean, actions.sweep_ended, actions.forget):
        assert await act(done) is None
    for session, was in zip((live, done), before, strict=True):
        assert replace(await world.row(session), lease_epoch=was.lease_epoch) == was
    assert world.tail(node, live.id).exists()
    await node.patch(live, 5 * MIB + 4, b"more")
    assert await node.content(done) == b"done"


async def test_what_got_its_last_byte_meanwhile_is_not_expired(
    world: World, node: ReapedNode
) -> None:
    upload = await node.create(10)
    listed = await node.patch(upload, 0, b"half ")
    world.objects.fail("put", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await node.patch(upload, 5, b"whole")
    world.clock.forward(IDLE + SECOND)
    assert await Actions(node.tools).expire(listed) is None
    assert await clean_sweep(node, Sweep.EXPIRE) == {"expire": {"due": 1, "finished": 1}}
