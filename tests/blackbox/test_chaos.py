"""The short form of `make chaos`: the real program under all faults at once, from a fixed seed.

Takes about two minutes. `docs/chaos.md` tells what goes wrong and what must hold.
"""

import os
from pathlib import Path

import pytest

from tests.chaos.run import Plan, run, text_of
from tests.support.engines import Engine

PLANS = {
    "postgresql": Plan(seed=1, seconds=40, database="postgresql", every_s=0.8),
    "sqlite": Plan(seed=2, seconds=20, database="sqlite", every_s=0.8),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", PLANS)
def test_a_short_chaos_run_is_clean(database: str, seaweed: Engine, tmp_path: Path) -> None:
    report = run(PLANS[database], seaweed, tmp_path / "run")
    assert report["clean"], text_of(report)
    assert report["faults_happened"] >= 10, text_of(report)
    assert report["restarts"] >= 2, text_of(report)
    assert report["uploads"]["completed and identical"] >= 5, text_of(report)
    assert not report["impossible_here"] or os.environ.get("CI") != "true", text_of(report)
