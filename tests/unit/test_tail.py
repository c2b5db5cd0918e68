"""The tail of a node: path, guard, append, drop, theft, and what a crash leaves."""

import asyncio
import errno
import os
import resource
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_storage.errors import DiskFull, LeaseLost, TailMissing
from tusd_storage.records import FileRange
from tusd_storage.tail import NodeTails, store, tail_path
from tusd_storage.tail.paths import DEFAULT_ROOT, session_id_of
from tusd_storage.tail.tail import NodeTail

ID = "n-1~AbC_-9"


def alive() -> None:
    """A fence that holds."""


def lost() -> None:
    raise LeaseLost(ID)


@pytest.fixture
async def tails(tmp_path: Path) -> AsyncIterator[NodeTails]:
    node_tails = NodeTails(tmp_path)
    yield node_tails
    await node_tails.aclose()


async def opened(tails: NodeTails, data: bytes, *, steal: bool = False) -> NodeTail:
    return await tails.open(
        ID, size=len(data), crc32=zlib.crc32(data), fresh=False, steal=steal, fence=alive
    )


async def fresh(tails: NodeTails) -> NodeTail:
    return await tails.open(ID, size=0, crc32=0, fresh=True, steal=False, fence=alive)


async def written(tails: NodeTails, data: bytes) -> None:
    tail = await fresh(tails)
    await tail.append([data], crc32=zlib.crc32(data)).ahead()
    await tail.aclose()


def test_the_path_is_the_unpadded_url_safe_base64_of_the_id() -> None:
    assert tail_path("a") == DEFAULT_ROOT / "tus" / "YQ.tail"
    assert tail_path("a?>", root=Path("x")) == Path("x/tus/YT8-.tail")


@given(st.text(min_size=1, max_size=60))
def test_no_id_names_a_file_elsewhere_and_every_path_leads_back(session_id: str) -> None:
    try:
        session_id.encode()
    except UnicodeEncodeError:
        return
    path = tail_path(session_id, root=Path("r"))
    assert path.parent == Path("r/tus")
    assert session_id_of(path) == session_id


@pytest.mark.parametrize("name", ["x", "YQ", "YQ==.tail", "!.tail", "YQ.tail2", "_w.tail"])
def test_foreign_files_are_nobodys(name: str) -> None:
    assert session_id_of(Path(name)) is None


async def test_appended_bytes_are_found_again(tails: NodeTails, tmp_path: Path) -> None:
    await written(tails, b"hello")
    tail = await opened(tails, b"hello")
    await tail.append([b" ", b"world"], crc32=zlib.crc32(b"hello world")).ahead()
    await tail.aclose()
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello world"
    await (await opened(tails, b"hello world")).aclose()


async def test_a_fresh_tail_makes_no_file_before_it_has_bytes(
    tails: NodeTails, tmp_path: Path
) -> None:
    tail = await fresh(tails)
    assert not tail.exists
    await tail.aclose()
    assert not tail_path(ID, root=tmp_path).exists()
    await written(tails, b"")
    assert tail_path(ID, root=tmp_path).read_bytes() == b""


async def test_residue_at_offset_zero_is_replaced(tails: NodeTails, tmp_path: Path) -> None:
    tail_path(ID, root=tmp_path).write_bytes(b"from a process that died")
    await written(tails, b"new")
    assert tail_path(ID, root=tmp_path).read_bytes() == b"new"


async def test_who_was_overtaken_before_the_first_byte_leaves_the_new_tail_alone(
    tails: NodeTails,
) -> None:
    """Its own clock may still say that it has the lease: that of the machine was put forward."""
    overtaken = await fresh(tails)
    await written(tails, b"acknowledged")
    with pytest.raises(LeaseLost):
        await overtaken.append([b"late"], crc32=zlib.crc32(b"late")).ahead()
    await overtaken.aclose()
    tail = await opened(tails, b"acknowledged")
    await tail.aclose()


async def test_what_is_longer_is_cut_back(tails: NodeTails, tmp_path: Path) -> None:
    path = tail_path(ID, root=tmp_path)
    path.write_bytes(b"hello and more")
    await (await opened(tails, b"hello")).aclose()
    assert path.read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "absent"), (b"hell", "short"), (b"", "short"), (b"hallo", "damaged")],
)
async def test_what_is_not_there_is_told(
    tails: NodeTails, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tail_path(ID, root=tmp_path)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TailMissing) as missing:
        await opened(tails, b"hello")
    assert missing.value.reason == reason
    assert (path.read_bytes() if path.exists() else None) == content


async def test_damage_after_our_own_write_is_noticed(tails: NodeTails, tmp_path: Path) -> None:
    await written(tails, b"hello")
    path = tail_path(ID, root=tmp_path)
    before = path.stat()
    deadline = time.monotonic() + 5
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of files is a coarse one
        assert time.monotonic() < deadline
        path.write_bytes(b"hallo")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(TailMissing):
        await opened(tails, b"hello")


async def test_what_is_dropped_is_written_over(tails: NodeTails, tmp_path: Path) -> None:
    path = tail_path(ID, root=tmp_path)
    await written(tails, b"a part's bytes")
    tail = await opened(tails, b"a part's bytes")
    before = path.stat()
    tail.drop()
    assert tail.exists
    assert tail.range().size == 0
    await tail.append([b"rest"], crc32=zlib.crc32(b"rest")).ahead()
    await tail.append([b", and"], crc32=zlib.crc32(b"rest, and")).ahead()
    await tail.aclose()
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)
    again = await opened(tails, b"rest, and")
    held = again.range()
    assert os.pread(held.fd, held.size, held.offset) == b"rest, and"
    await again.aclose()
    after_a_restart = NodeTails(tmp_path)
    await (await opened(after_a_restart, b"rest, and")).aclose()
    await after_a_restart.aclose()
    assert path.read_bytes() == b"rest, and"


async def test_a_tail_that_was_only_dropped_is_known_as_empty(
    tails: NodeTails, tmp_path: Path
) -> None:
    """Also for a lease that stayed; and opening it does nothing to the disk."""
    await written(tails, b"hello")
    tail = await opened(tails, b"hello")
    tail.drop()
    await tail.aclose()
    before = tail_path(ID, root=tmp_path).stat()
    tail = await tails.open(
        ID, size=0, crc32=0, fresh=False, steal=False, fence=alive, untouched=True
    )
    assert tail.exists
    await tail.aclose()
    assert tail_path(ID, root=tmp_path).stat().st_ctime_ns == before.st_ctime_ns


async def test_what_was_dropped_does_not_come_back(tails: NodeTails, tmp_path: Path) -> None:
    """It may stay behind the new bytes, in a file that is longer than its tail."""
    await written(tails, b"hello")
    tail = await opened(tails, b"hello")
    tail.drop()
    await tail.append([b"jel"], crc32=zlib.crc32(b"jel")).ahead()
    await tail.aclose()
    for missing in (b"hello", b"hel"):
        with pytest.raises(TailMissing, match="damaged"):
            await opened(tails, missing)
    await (await opened(tails, b"jel")).aclose()


async def test_a_write_over_what_was_dropped_that_fails_leaves_an_empty_file(
    tails: NodeTails, tmp_path: Path
) -> None:
    await written(tails, b"hello")
    tail = await opened(tails, b"hello")
    nowhere = FileRange(fd=tail.range().fd, offset=100, size=10)  # cannot be read whole
    tail.drop()
    with pytest.raises(DiskFull):
        await tail.append([b"jel", nowhere], crc32=0).ahead()
    assert tail.range().size == 0
    await tail.append([b"rest"], crc32=zlib.crc32(b"rest")).ahead()
    await tail.aclose()
    assert tail_path(ID, root=tmp_path).read_bytes() == b"rest"


async def test_a_thief_leaves_the_old_holder_with_a_file_nobody_reads(
    tails: NodeTails, tmp_path: Path
) -> None:
    await written(tails, b"hello")
    old = await opened(tails, b"hello")
    new = await opened(tails, b"hello", steal=True)
    await old.append([b" from the past"], crc32=0).ahead()
    await new.append([b" world"], crc32=zlib.crc32(b"hello world")).ahead()
    await old.aclose()
    await new.aclose()
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello world"


async def test_nothing_is_written_once_the_lease_is_lost(tails: NodeTails, tmp_path: Path) -> None:
    await written(tails, b"hello")
    tail = await tails.open(ID, size=0, crc32=0, fresh=True, steal=False, fence=lost)
    with pytest.raises(LeaseLost):
        await tail.append([b"x"], crc32=0).ahead()
    with pytest.raises(LeaseLost):
        await tails.open(
            ID, size=5, crc32=zlib.crc32(b"hello"), fresh=False, steal=False, fence=lost
        )
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello"


async def test_a_write_that_fails_leaves_the_committed_bytes(
    tails: NodeTails, tmp_path: Path
) -> None:
    await written(tails, b"hello")
    tail = await opened(tails, b"hello")
    nowhere = FileRange(fd=tail.range().fd, offset=100, size=10)  # cannot be read whole
    with pytest.raises(DiskFull):
        await tail.append([b" world", nowhere], crc32=0).ahead()
    await tail.aclose()
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello"


async def test_a_process_without_open_files_left_has_lost_no_tail(
    tails: NodeTails, tmp_path: Path
) -> None:
    """Neither a tail that is missing nor a fault of the server: try again later."""
    await written(tails, b"hello")
    other = NodeTails(tmp_path)  # has nothing open
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, limits[1]))
    try:
        with suppress(OSError):  # those below that happen to be free
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(DiskFull):
            await opened(other, b"hello")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)
    tail = await opened(other, b"hello")
    await tail.aclose()
    await other.aclose()


async def test_a_new_tail_whose_name_cannot_be_flushed_stays_open_for_nobody(
    tails: NodeTails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one open file left each new tail took that for good."""

    def none_left(_: Path) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("tusd_storage.tail.tail.sync_folder", none_left)
    tail = await tails.open(ID, size=0, crc32=0, fresh=True, steal=False, fence=alive)
    with pytest.raises(DiskFull):
        await tail.append([b"hello"], crc32=0).ahead()
    assert open_files(tmp_path) == 0
    await tail.aclose()


async def test_who_stood_still_over_the_copy_of_a_tail_replaces_none(
    tails: NodeTails, tmp_path: Path
) -> None:
    """Somebody has taken it over meanwhile, and acknowledged more."""
    await written(tails, b"hello")
    before, asked = tail_path(ID, root=tmp_path).stat().st_ino, []

    def lost_meanwhile() -> None:
        asked.append(None)
        if len(asked) > 1:
            raise LeaseLost(ID)

    other = NodeTails(tmp_path)
    crc32 = zlib.crc32(b"hello")
    with pytest.raises(LeaseLost):
        await other.open(ID, size=5, crc32=crc32, fresh=False, steal=True, fence=lost_meanwhile)
    assert tail_path(ID, root=tmp_path).stat().st_ino == before
    assert len(list(tail_path(ID, root=tmp_path).parent.iterdir())) == 1
    await other.aclose()


def open_files(folder: Path) -> int:
    """How many files below the folder this process has open, also deleted ones."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # it has ended meanwhile
            count += str(folder) in str(link.readlink())
    return count


async def all_closed(folder: Path) -> None:
    async with asyncio.timeout(10):
        while open_files(folder):
            await asyncio.sleep(0.02)


async def test_a_tail_stays_open_for_the_next_request(tails: NodeTails, tmp_path: Path) -> None:
    await written(tails, b"hello")
    assert open_files(tmp_path) == 1
    tail = await opened(tails, b"hello")
    await tail.append([b" world"], crc32=zlib.crc32(b"hello world")).ahead()
    await tail.aclose()
    assert open_files(tmp_path) == 1
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello world"
    await tails.delete(ID)
    await all_closed(tmp_path)


async def test_a_deleted_tail_is_not_kept_open(tails: NodeTails, tmp_path: Path) -> None:
    await written(tails, b"hello")
    tail = await opened(tails, b"hello")
    await tails.delete(ID)
    await tail.aclose()
    await all_closed(tmp_path)


async def test_a_lost_lease_leaves_no_file_open(tmp_path: Path) -> None:
    tails = NodeTails(tmp_path)
    await written(tails, b"hello")
    crc32 = zlib.crc32(b"hello")
    with pytest.raises(LeaseLost):
        await tails.open(ID, size=5, crc32=crc32, fresh=False, steal=False, fence=lost)
    first, second = await opened(tails, b"hello"), await opened(tails, b"hello")
    await first.aclose()
    await second.aclose()
    await tails.aclose()
    assert open_files(tmp_path) == 0


async def test_an_open_tail_that_lost_its_name_is_missing(tails: NodeTails, tmp_path: Path) -> None:
    """Bytes written to a file without a name would be acknowledged and gone."""
    await written(tails, b"hello")
    tail_path(ID, root=tmp_path).unlink()
    with pytest.raises(TailMissing):
        await opened(tails, b"hello")
    assert open_files(tmp_path) == 0


async def test_an_open_tail_that_another_process_wrote_is_read_again(
    tails: NodeTails, tmp_path: Path
) -> None:
    await written(tails, b"hello")
    tail_path(ID, root=tmp_path).write_bytes(b"jello")
    with pytest.raises(TailMissing, match="damaged"):
        await opened(tails, b"hello")
    await written_by_another(tmp_path, b"hello, too")
    tail = await opened(tails, b"hello, too")
    await tail.aclose()


async def test_a_lease_that_stayed_trusts_only_its_own_tail(
    tails: NodeTails, tmp_path: Path
) -> None:
    """A sibling may have taken the upload over, by a clock that jumped: its bytes stay."""
    await written(tails, b"hello")
    again = await untouched(tails, b"hello")
    await again.aclose()
    thief = NodeTails(tmp_path)
    stolen = await opened(thief, b"hello", steal=True)
    await stolen.append([b" world"], crc32=zlib.crc32(b"hello world")).ahead()
    await stolen.aclose()
    await thief.aclose()
    with pytest.raises(LeaseLost):
        await untouched(tails, b"hello")
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello world"


async def test_a_lease_that_stayed_replaces_no_new_tail(tails: NodeTails, tmp_path: Path) -> None:
    await written_by_another(tmp_path, b"hello")
    with pytest.raises(LeaseLost):
        await untouched(tails, b"")
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello"


async def test_what_stands_where_a_new_upload_begins_is_left_alone(
    tails: NodeTails, tmp_path: Path
) -> None:
    await written_by_another(tmp_path, b"hello")
    tail = await tails.open(
        ID, size=0, crc32=0, fresh=True, steal=False, fence=alive, untouched=True, new=True
    )
    with pytest.raises(LeaseLost):
        await tail.append([b"new"], crc32=zlib.crc32(b"new")).ahead()
    await tail.aclose()
    assert tail_path(ID, root=tmp_path).read_bytes() == b"hello"


async def untouched(tails: NodeTails, data: bytes) -> NodeTail:
    return await tails.open(
        ID,
        size=len(data),
        crc32=zlib.crc32(data),
        fresh=not data,
        steal=False,
        fence=alive,
        untouched=True,
    )


async def written_by_another(root: Path, data: bytes) -> None:
    other = NodeTails(root)
    await written(other, data)
    await other.aclose()


async def test_few_tails_stay_open_and_not_for_long(
    tails: NodeTails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_MOST_OPEN", 2)
    monkeypatch.setattr(store, "_OPEN_S", 0.05)
    for name in ("one", "two", "three"):
        tail = await tails.open(name, size=0, crc32=0, fresh=True, steal=False, fence=alive)
        await tail.append([b"x"], crc32=zlib.crc32(b"x")).ahead()
        await tail.aclose()
    assert open_files(tmp_path) == 2
    await all_closed(tmp_path)


async def test_what_stays_open_is_closed_with_the_store(tmp_path: Path) -> None:
    await written_by_another(tmp_path, b"hello")
    assert open_files(tmp_path) == 0


async def test_a_spool_is_anonymous_and_keeps_order(tails: NodeTails, tmp_path: Path) -> None:
    spool = await tails.spool()
    await spool.write([b"one", b"two"])
    await spool.write([b"three"])
    held = spool.range()
    assert os.pread(held.fd, held.size, held.offset) == b"onetwothree"
    assert list((tmp_path / "tus").iterdir()) == []
    spool.close()


async def test_the_scan_names_tails_and_nothing_else(tails: NodeTails, tmp_path: Path) -> None:
    await written(tails, b"hello")
    (tmp_path / "tus" / "README").write_text("not a tail")
    (found,) = tails.scan()
    assert (found.session_id, found.size) == (ID, 5)
    assert await tails.delete(ID)
    assert not await tails.delete(ID)
    assert list(tails.scan()) == []


async def test_what_a_dead_thief_left_is_removed_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "tus"
    folder.mkdir()
    old, new = folder / ".steal-old", folder / ".steal-new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    store = NodeTails(tmp_path)
    await store.aclose()
    assert not old.exists()
    assert new.exists()
