"""The tails: acknowledged bytes on this node that are not yet a part."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tusd_storage.records import FileRange, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class TailFile:
    """A tail file as the reaper finds it."""

    session_id: str
    size: int
    modified_at: datetime


class Writing(Protocol):
    """Bytes on their way into a tail: to be flushed before the commit that counts them."""

    def __call__(self) -> None:
        """Does it, in the thread that calls. Raises what `ahead` raises."""
        ...

    async def ahead(self) -> None:
        """Does it in a thread of the tails. Raises: DiskFull, LeaseLost."""
        ...


class Tail(Protocol):
    """The open tail of one upload, held by the one writer that has its lease.

    All writes go through the file handle that `TailStore.open` returned, so a writer that lost its
    lease can never touch the file of the one that took over.
    """

    @property
    def exists(self) -> bool:
        """Whether there is a file; a fresh tail has none until `append` or `replace`."""
        ...

    def range(self) -> FileRange:
        """The committed bytes, for reading; valid until `drop` or `aclose`."""
        ...

    def append(self, segments: Sequence[Segment], *, crc32: int) -> Writing:
        """Adds bytes behind the committed ones and flushes them; makes the file if there is none.

        Nothing happens before the result is called, once. `crc32` is that of the whole tail
        afterwards. On any failure the committed prefix is as it was.
        """
        ...

    def drop(self) -> None:
        """The tail is empty from now on: the part that contains its bytes is in the ledger.

        Nothing on the disk changes; what is appended next may be written over them.
        """
        ...

    async def aclose(self) -> None:
        """Closes the handle; the file stays."""
        ...


class Spool(Protocol):
    """An anonymous file for bytes that wait for the rest of their part. Gone when closed."""

    size: int

    async def write(self, segments: Sequence[Segment]) -> None:
        """Appends. Raises DiskFull."""
        ...

    def range(self) -> FileRange:
        """All bytes written so far."""
        ...

    def close(self) -> None:
        """Frees the file at once."""
        ...


class TailStore(Protocol):
    """Tails of this node: one file per upload. A tail changes only at a commit point."""

    async def open(
        self,
        session_id: str,
        *,
        size: int,
        crc32: int,
        fresh: bool,
        steal: bool,
        fence: Callable[[], None],
        untouched: bool = False,
        new: bool = False,
    ) -> Tail:
        """The guard. Opens the tail and proves that it holds the `size` committed bytes.

        Longer is the residue of a crash and is cut back. `fresh` (offset 0): nothing is expected,
        and the file is made when the first bytes come. `steal`: the previous holder did not
        release its lease; the bytes move to a new file so that its handle points nowhere.
        `untouched`: the lease has stayed with this process since it closed the tail, or since the
        upload is there. Anything else than what it left may be the work of somebody who has the
        lease now, whatever our clock says: it raises StaleLease and changes nothing.
        `new`: fresh, and the upload's id was made within this request, so that nothing has ever
        stood there. Nobody looks before the first bytes come, and finds the lease lost if it does.
        `fence` raises LeaseLost when the lease has run out; it is called, perhaps in a thread,
        right before anything on disk is changed.

        Raises: TailMissing, DiskFull, StaleLease.
        """
        ...

    async def spool(self) -> Spool:
        """A new anonymous file on the same disk. Raises DiskFull."""
        ...

    async def delete(self, session_id: str) -> bool:
        """Removes the tail; False when there was none."""
        ...

    def scan(self) -> Iterator[TailFile]:
        """Every tail on this node; foreign file names are left out."""
        ...
