"""The state tables are closed, and say exactly what the design says."""

from itertools import product

import pytest

from tusd_storage import lifecycle
from tusd_storage.lifecycle import ASSET_EDGES, OPEN, SESSION_EDGES, TERMINAL
from tusd_storage.records import AssetState, SessionState

DESIGN = """
initialized → signed | aborted | expired | failed
signed → resuming | uploading | uploaded | verifying | aborted | expired | failed
resuming → uploading | aborted | expired | failed
uploading → uploaded | verifying | aborted | expired | failed
uploaded → verifying
verifying → completed | failed
completed →
aborted →
expired →
failed →
"""


def test_the_table_is_the_designs() -> None:
    table = {}
    for line in DESIGN.strip().splitlines():
        source, _, targets = line.partition("→")
        names = [name.strip() for name in targets.split("|") if name.strip()]
        table[SessionState(source.strip())] = {SessionState(name) for name in names}
    assert table == SESSION_EDGES


def test_the_tables_are_closed() -> None:
    assert set(SESSION_EDGES) == set(SessionState)
    assert set(ASSET_EDGES) == set(AssetState)
    assert all(targets <= set(SessionState) for targets in SESSION_EDGES.values())
    assert all(targets <= set(AssetState) for targets in ASSET_EDGES.values())
    assert all(state not in targets for state, targets in SESSION_EDGES.items())


def test_every_state_is_open_or_terminal() -> None:
    assert set(SessionState) == OPEN | TERMINAL and not OPEN & TERMINAL
    assert {"completed", "aborted", "expired", "failed"} == TERMINAL


@pytest.mark.parametrize("state", SessionState)
def test_every_state_can_be_reached_and_left_to_an_end(state: SessionState) -> None:
    assert state is SessionState.INITIALIZED or lifecycle.sources_of(state)
    seen, todo = {state}, [state]
    while todo:
        for target in SESSION_EDGES[todo.pop()] - seen:
            seen.add(target)
            todo.append(target)
    assert seen & TERMINAL


@pytest.mark.parametrize(("source", "target"), list(product(SessionState, repeat=2)))
def test_transitions(source: SessionState, target: SessionState) -> None:
    assert (source in lifecycle.sources_of(target)) == (target in SESSION_EDGES[source])
