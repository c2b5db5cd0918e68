"""Whether another process of this node lives, and how it may not be mistaken for a dead one."""

import fcntl
from pathlib import Path

import pytest

from tusd_storage.locks import ProcessLock


def test_the_living_are_told_from_the_dead(tmp_path: Path) -> None:
    one, other = ProcessLock(tmp_path, "1"), ProcessLock(tmp_path, "2")
    assert not one.is_dead("2") and not other.is_dead("1")
    assert one.is_dead("3")
    other.close()
    assert one.is_dead("2")
    one.close()


def test_what_a_dead_one_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "0.alive").touch()
    ProcessLock(tmp_path, "1").close()
    assert not list(tmp_path.iterdir())


def test_one_that_starts_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sibling finds its file in the moment before it is locked."""
    lock, siblings = fcntl.flock, []

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        siblings.append(ProcessLock(tmp_path, "2"))
        assert not (tmp_path / "1.alive").exists()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    one = ProcessLock(tmp_path, "1")
    [sibling] = siblings
    assert not sibling.is_dead("1")
    sibling.close()
    one.close()
