"""Pages of rows: what sweeps, administration and the job worker read and settle.

Same rules as in `ports`: async, short transactions, only the taxonomy of `errors`. Pages are
keyset pages: stable while rows come and go, and as fast at the end as at the beginning.
"""

from collections.abc import AsyncGenerator, Collection
from datetime import datetime
from typing import Protocol

from tusd_storage.frozen import record
from tusd_storage.records import Asset, AssetState, SessionState, UploadSession


@record(frozen=True, slots=True, kw_only=True)
class Node:
    """One row of `nodes`: a process that serves uploads, as it last reported itself."""

    name: str
    instance: str
    """The process instance; a new one after each start."""
    started_at: datetime
    seen_at: datetime


class SessionListing(Protocol):
    """Pages of sessions, at most `limit` rows each; an empty page is the end."""

    async def list_sessions(
        self,
        *,
        state: SessionState | None = None,
        owner: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[UploadSession]:
        """In order of id; `after` is the last id of the page before."""
        ...

    async def list_expired(
        self, *, now: datetime, after: UploadSession | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Sessions that may still expire (`lifecycle`) and whose `expires_at` has passed.

        Longest expired first; `after` is the last row of the page before.
        """
        ...

    async def list_cleanup(
        self, *, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Sessions with a `cleanup_reason`, in order of id."""
        ...

    async def list_stuck(
        self, *, now: datetime, after: str | None = None, limit: int = 100
    ) -> list[UploadSession]:
        """Sessions in `uploaded` or `verifying` without a live lease, in order of id.

        They never expire: whoever was finishing them is gone, and somebody has to go on.
        """
        ...


class KeyListing(Protocol):
    """The keys of a bucket, for `tusd-py import-tusd`; serving uploads lists no objects."""

    def list_keys(self, bucket: str, prefix: str) -> AsyncGenerator[str, None]:
        """Every key under the prefix, page by page; in byte order where the store keeps to S3."""
        ...


class AssetSettling(Protocol):
    """The end of an asset's way, for whoever validates it."""

    async def settle_asset(
        self, asset_id: str, *, state: AssetState, reason: str | None, now: datetime
    ) -> Asset:
        """Moves a `validating` asset to `available` or `quarantined`.

        An asset that is in that state already is returned as it is. Raises: Rejected when there is
        no such asset, InvalidTransition.
        """
        ...

    async def settle_unquestioned(
        self, *, profiles: Collection[str], now: datetime, limit: int
    ) -> int:
        """Makes `validating` assets `available` that nobody has a question about; how many.

        Those of tus uploads in the profiles, for which no content type was promised. Their jobs, of
        which the first `limit` that are due are looked at, are done with it.
        """
        ...


class NodeRegistry(Protocol):
    """Which nodes exist and when they were last alive."""

    async def seen(self, node: Node) -> None:
        """Inserts or replaces the row of this name."""
        ...

    async def nodes(self) -> list[Node]:
        """All nodes in order of name."""
        ...
