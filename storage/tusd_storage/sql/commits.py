"""Work that changes a session: functions of a connection, each one transaction.

Owns what a commit point does and how a refused one is explained. Knows no thread and no driver.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tusd_storage.errors import (
    CreationRepeated,
    InvalidPart,
    InvalidTransition,
    LeaseHeld,
    LeaseLost,
    QuotaExceeded,
    Rejected,
    SessionUnknown,
    StorageError,
    TooManyBytes,
    TooManySessions,
)
from tusd_storage.lifecycle import ASSET_EDGES
from tusd_storage.outbox import Change
from tusd_storage.records import (
    Append,
    Asset,
    AssetState,
    Completion,
    Quota,
    SessionState,
    UploadSession,
)
from tusd_storage.sql.calls import Connection
from tusd_storage.sql.outbox import SqlAnnouncements, Tell
from tusd_storage.sql.rows import (
    ASSET,
    SESSION,
    Row,
    maybe_micros,
    micros,
    part_arrays,
    part_params,
    to_json,
)
from tusd_storage.sql.statements import Statements

_ACQUIRE_TRIES = 3  # the lease may come free between the attempt and the look at its holder


def find(sql: Statements, connection: Connection, session_id: str) -> UploadSession | None:
    """The row, or None."""
    row = connection.execute(sql.get, {"id": session_id}).fetchone()
    return None if row is None else SESSION.read(row)


def _found(sql: Statements, connection: Connection, session_id: str) -> UploadSession:
    session = find(sql, connection, session_id)
    if session is None:
        raise SessionUnknown(session_id)
    return session


def _first(connection: Connection, statement: str, params: Mapping[str, object] | Row) -> Any:
    """The one row a statement returns, or None; the statement is stepped to its end."""
    rows = connection.execute(statement, params).fetchall()
    return rows[0] if rows else None


def create(
    sql: Statements,
    connection: Connection,
    session: UploadSession,
    asset: Asset | None,
    tell: Tell | None = None,
) -> None:
    """Both rows, the asset first: the session refers to it."""
    if asset is not None and sql.insert_both is not None:
        connection.execute(sql.insert_both, ASSET.row(asset) + SESSION.row(session))
    else:
        if asset is not None:
            connection.execute(sql.insert_asset, ASSET.row(asset))
        connection.execute(sql.insert_session, SESSION.row(session))
    if tell is not None:
        tell(connection, Change.CREATED, session, None)


def create_checked(
    sql: Statements,
    connection: Connection,
    session: UploadSession,
    asset: Asset | None,
    *,
    quota: Quota | None,
    tell: Tell | None = None,
) -> None:
    """As `create`, for a session with a creation key or an owner whose quota counts."""
    if quota is not None and session.owner is not None:
        try:
            session = _within(sql, connection, session, quota)
        except QuotaExceeded:  # perhaps through the very upload that is asked for
            if (twin := _twin(sql, connection, session)) is not None:
                raise CreationRepeated(twin) from None
            raise
    if session.creation_key is None:
        return create(sql, connection, session, asset, tell)
    key = {"creation_key": session.creation_key}
    connection.execute(sql.free_key, key | {"now": micros(session.created_at)})
    if asset is not None:
        connection.execute(sql.insert_asset, ASSET.row(asset))
    if _first(connection, sql.insert_created, SESSION.row(session)) is None:
        existing = _first(connection, sql.created, key)
        if existing is None:  # it ended between the two statements
            raise LeaseLost(session.id)
        raise CreationRepeated(SESSION.read(existing))
    if tell is not None:
        tell(connection, Change.CREATED, session, None)
    return None


def _twin(sql: Statements, connection: Connection, session: UploadSession) -> UploadSession | None:
    """The upload that was created with the same key."""
    if session.creation_key is None:
        return None
    return created(sql, connection, session.creation_key, micros(session.created_at))


def _within(
    sql: Statements, connection: Connection, session: UploadSession, quota: Quota
) -> UploadSession:
    """The session as the quota has room for it. Raises: TooManySessions, TooManyBytes."""
    if sql.lock_owner is not None:
        digest = hashlib.sha256(f"owner {session.owner}".encode()).digest()
        connection.execute(sql.lock_owner, {"lock": int.from_bytes(digest[:8], signed=True)})
    params = {"owner": session.owner, "now": micros(session.created_at)}
    count, size = connection.execute(sql.owned, params).fetchall()[0]
    if quota.max_sessions is not None and count >= quota.max_sessions:
        raise TooManySessions("as many uploads as this owner may have are open")
    if quota.max_size is None:
        return session
    room = quota.max_size - size
    declared = session.length if session.length is not None else session.size_promised
    if declared is not None:
        if declared > room:
            raise TooManyBytes("the open uploads of this owner would have too many bytes")
        return session
    if room <= 0:
        raise TooManyBytes("the open uploads of this owner have as many bytes as they may")
    longest = room if session.max_size is None else min(room, session.max_size)
    return replace(session, max_size=longest)


def created(
    sql: Statements, connection: Connection, creation_key: str, now: int
) -> UploadSession | None:
    """The session that has the key, unless it is past its time."""
    row = connection.execute(sql.created, {"creation_key": creation_key}).fetchone()
    session = None if row is None else SESSION.read(row)
    if session is None or session.state is SessionState.COMPLETED or session.expires_at is None:
        return session
    return session if micros(session.expires_at) > now else None


def acquire(sql: Statements, connection: Connection, params: Mapping[str, object]) -> UploadSession:
    """The row with the new lease. Raises SessionUnknown, LeaseHeld."""
    session_id = str(params["id"])
    for left in reversed(range(_ACQUIRE_TRIES)):
        if (row := _first(connection, sql.acquire, params)) is not None:
            return SESSION.read(row)
        held = _found(sql, connection, session_id)
        if held.lease_holder is not None and held.lease_until is not None:
            raise LeaseHeld(
                session_id,
                holder=held.lease_holder,
                epoch=held.lease_epoch,
                until=held.lease_until,
            )
        if not left:
            raise LeaseLost(session_id)
    raise AssertionError("unreachable")


def refusal(session: UploadSession, epoch: object, target: str) -> StorageError:
    """Why a write with this epoch, and nothing else to compare, changed no row."""
    if session.lease_epoch != epoch:
        return LeaseLost(session.id)
    return InvalidTransition(f"session {session.id}", source=session.state, target=target)


def append(sql: Statements, connection: Connection, commit: Append) -> None:
    """Moves the row, then adds its ledger rows."""
    both = sql.append_both if commit.parts else None
    statement = (sql.append if both is None else both).get((commit.state, commit.release))
    if statement is None:
        raise refusal(_found(sql, connection, commit.id), commit.epoch, commit.state)
    before = _ledger_before(commit)
    params: dict[str, object] = {
        "id": commit.id,
        "epoch": commit.epoch,
        "from_offset": commit.from_offset,
        "to_offset": commit.to_offset,
        "parts": len(commit.parts),
        "before": before,
        "size": sum(part.size for part in commit.parts),
        "parts_crc32": commit.parts_crc32,
        "tail_node": commit.tail_node,
        "tail_crc32": commit.tail_crc32,
        "length": commit.length,
        "expires_at": maybe_micros(commit.expires_at),
        "now": micros(commit.now),
    }
    if both is not None:
        params |= part_arrays(commit.parts)
    if _first(connection, statement, params) is None:
        raise _append_refusal(_found(sql, connection, commit.id), commit, before)
    for part in commit.parts if both is None else ():
        connection.execute(sql.insert_part, part_params(commit.id, part))


def _ledger_before(commit: Append) -> int:
    """How many parts the ledger must have for this commit to continue it without a gap."""
    if not commit.parts:
        return 0
    first = commit.parts[0].number
    for expected, part in enumerate(commit.parts, start=first):
        if part.number != expected:
            raise InvalidPart(
                f"upload {commit.id}: the commit has part {part.number} for {expected}"
            )
    return first - 1


def _append_refusal(session: UploadSession, commit: Append, before: int) -> StorageError:
    if session.lease_epoch != commit.epoch or session.offset != commit.from_offset:
        return LeaseLost(session.id)
    if commit.parts and session.parts_count != before:
        return InvalidPart(
            f"upload {session.id}: part {before + 1} does not follow part {session.parts_count}"
        )
    return refusal(session, commit.epoch, commit.state)


def opened(sql: Statements, connection: Connection, params: Mapping[str, object]) -> None:
    """Records the multipart upload; a session that is over takes none any more."""
    if _first(connection, sql.opened, params) is None:
        session = _found(sql, connection, str(params["id"]))
        raise refusal(session, params["epoch"], SessionState.UPLOADING)


def complete(
    sql: Statements, connection: Connection, done: Completion, tell: Tell | None = None
) -> UploadSession:
    """Session, asset and job; or the row as it is when it is completed already."""
    params = {
        "id": done.id,
        "epoch": done.epoch,
        "size": done.size,
        "etag": done.etag,
        "crc32": done.crc32,
        "now": micros(done.now),
    }
    row = _first(connection, sql.complete[done.release], params)
    if row is None:
        session = _found(sql, connection, done.id)
        if session.state is not SessionState.COMPLETED:
            raise refusal(session, done.epoch, SessionState.COMPLETED)
        return session
    session = SESSION.read(row)
    if session.asset_id is not None:
        _promote(sql, connection, session.asset_id, done)
    if tell is not None:
        tell(connection, Change.COMPLETED, session, None)
    return session


def _promote(sql: Statements, connection: Connection, asset_id: str, done: Completion) -> None:
    now = micros(done.now)
    asset = {"id": asset_id, "size": done.size, "content_type": done.content_type, "now": now}
    if _first(connection, sql.validate_asset, asset) is None:
        raise _asset_refusal(sql, connection, asset_id, AssetState.VALIDATING)
    job = {
        "id": done.job_id,
        "subject": asset_id,
        "payload": to_json({"session_id": done.id, "crc32": done.crc32}),
        "now": now,
    }
    connection.execute(sql.insert_promotion, job)


def close(
    sql: Statements,
    connection: Connection,
    state: SessionState,
    params: Mapping[str, object],
    tell: Tell | None = None,
) -> UploadSession:
    """Ends a session that did not complete. Closing it the same way again updates the reasons."""
    statement = sql.close.get(state)
    before = None if tell is None else find(sql, connection, str(params["id"]))
    row = _first(connection, statement, params) if statement is not None else None
    if row is None:
        session = _found(sql, connection, str(params["id"]))
        raise refusal(session, params["epoch"], state)
    after = SESSION.read(row)
    if tell is not None and before is not None and before.state is not state:
        tell(connection, Change(state.value), after, None)
    return after


def delete(
    sql: Statements,
    connection: Connection,
    params: Mapping[str, object],
    tell: Tell | None = None,
) -> None:
    """Marks a completed session; a second time updates the reason only."""
    before = None if tell is None else find(sql, connection, str(params["id"]))
    if _first(connection, sql.delete, params) is None:
        session = _found(sql, connection, str(params["id"]))
        raise refusal(session, params["epoch"], "deleted")
    if tell is not None and before is not None and before.deleted_at is None:
        tell(connection, Change.DELETED, _found(sql, connection, before.id), None)


def find_asset(sql: Statements, connection: Connection, asset_id: str) -> Asset | None:
    """The row, or None."""
    row = connection.execute(sql.asset, {"id": asset_id}).fetchone()
    return None if row is None else ASSET.read(row)


def settle_asset(
    sql: Statements,
    connection: Connection,
    state: AssetState,
    params: Mapping[str, object],
    told: tuple[SqlAnnouncements, Tell] | None = None,
) -> Asset:
    """Moves a validating asset to its end, or finds it there."""
    row = _first(connection, sql.settle_asset, {**params, "state": state})
    if row is not None:
        asset = ASSET.read(row)
        if told is not None:
            announcements, tell = told
            session = announcements.session_of(connection, asset)
            if session is not None:
                tell(connection, Change(state.value), session, asset)
        return asset
    asset_id = str(params["id"])
    there = find_asset(sql, connection, asset_id)
    if there is not None and there.state is state and not ASSET_EDGES[state]:
        return there
    raise _asset_refusal(sql, connection, asset_id, state)


def _asset_refusal(
    sql: Statements, connection: Connection, asset_id: str, target: AssetState
) -> StorageError:
    asset = find_asset(sql, connection, asset_id)
    if asset is None:
        return Rejected(f"no asset {asset_id}")
    return InvalidTransition(f"asset {asset_id}", source=asset.state, target=target)
