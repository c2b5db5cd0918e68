"""The state of uploads: rows, leases, the ledger, commit points."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from tusd_storage.ports.tails import Writing
from tusd_storage.records import Append, Asset, Completion, Part, SessionState, UploadSession


class SessionStore(Protocol):
    """The authoritative state. Each method is one short transaction of its own.

    Writes that carry an `epoch` MUST compare-and-swap on it and raise LeaseLost, changing nothing,
    when it is not the row's current one. State changes MUST follow `lifecycle.SESSION_EDGES` and
    raise InvalidTransition, changing nothing, otherwise.
    A write that raises StateUnavailable may or may not have happened.
    """

    async def create(self, session: UploadSession, asset: Asset | None) -> None:
        """Inserts both rows or none.

        Of several with one `creation_key` at once, on any node, exactly one MUST be created. A
        session that has ended, was deleted, or is unfinished and past its `expires_at` gives its
        key free. The owner's quota, if there is one, holds under concurrency; a session without a
        declared size is given a `max_size` within it.

        Raises: AlreadyExists (id or object key), CreationRepeated, TooManySessions, TooManyBytes.
        """
        ...

    async def created(self, creation_key: str, *, now: datetime) -> UploadSession | None:
        """The session that has the key at this time, or None."""
        ...

    async def get(self, session_id: str) -> UploadSession | None:
        """The row, or None. Takes no lock and loads no parts."""
        ...

    async def get_many(self, session_ids: Collection[str]) -> dict[str, UploadSession]:
        """Rows by id; unknown ids are left out. Any number of ids."""
        ...

    async def acquire(
        self,
        session_id: str,
        *,
        holder: str,
        now: datetime,
        until: datetime,
        over: str | None = None,
    ) -> UploadSession:
        """Takes the lease if it is free, has run out at `now`, or is held by `over`.

        The epoch grows by one. `lease_stolen` in the returned row tells whether the previous
        holder had not released it. Exactly one of several callers at once MUST win.

        Raises: SessionUnknown, LeaseHeld.
        """
        ...

    async def want(self, session_id: str, epoch: int) -> None:
        """Asks the holder with this epoch to let go. Changes nothing if the epoch has moved on."""
        ...

    async def wanted(self, holder: str) -> list[str]:
        """Ids of the sessions whose lease this holder has and somebody else wants."""
        ...

    async def renew(self, holder: str, until: datetime) -> set[str]:
        """Extends every lease of this holder; returns the ids it still holds."""
        ...

    async def release(self, session_id: str, epoch: int) -> None:
        """Gives the lease back; does nothing if the epoch has moved on."""
        ...

    async def release_many(self, leases: Mapping[str, int]) -> None:
        """As `release`, of many at once: epochs by id. Any number of them."""
        ...

    async def opened(self, session_id: str, epoch: int, upload_id: str) -> None:
        """Records the multipart upload id."""
        ...

    async def append(self, commit: Append, tail: Writing | None = None) -> None:
        """Applies one commit point. The only thing that moves an offset forward.

        Ledger rows, offset, tail, length, state, expiry and (if asked) the release happen together.
        `tail` is done before: in the same thread, which saves a hand-over, or ahead of it. If it
        fails nothing is committed. A cancelled caller waits until nobody reads its bytes any more.

        Raises: LeaseLost when epoch or `from_offset` differ; InvalidTransition; what `tail` raises.
        """
        ...

    async def parts(self, session_id: str) -> list[Part]:
        """The ledger in order of part numbers."""
        ...

    async def complete(self, completion: Completion) -> UploadSession:
        """Session `completed`, asset `validating`, job `promote_asset`: one transaction.

        A session that is already completed is returned as it is: one promotion, always.

        Raises: LeaseLost, InvalidTransition.
        """
        ...

    async def close(
        self,
        session_id: str,
        epoch: int,
        *,
        state: SessionState,
        failure: str | None,
        cleanup_reason: str | None,
        now: datetime,
    ) -> UploadSession:
        """Moves to `aborted`, `expired` or `failed` and releases the lease.

        `cleanup_reason` (bounded text) marks a row whose storage side still needs cleaning.

        Raises: LeaseLost, InvalidTransition.
        """
        ...

    async def delete(
        self, session_id: str, epoch: int, *, cleanup_reason: str | None, now: datetime
    ) -> None:
        """Marks a `completed` session as deleted and releases the lease. Raises: LeaseLost."""
        ...

    async def asset(self, asset_id: str) -> Asset | None:
        """The asset row, or None."""
        ...

    async def ping(self) -> None:
        """Raises StateUnavailable unless the database answers."""
        ...

    async def aclose(self) -> None:
        """Ends all connections; calls under way finish first."""
        ...
