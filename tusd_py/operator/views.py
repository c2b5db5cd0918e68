"""What operators are shown, as JSON: fields, units, and what is left out.

Owns the shapes that `docs/operator.md` describes. No object key, no token, no whole id of an upload
(see `refs`), and texts of strangers cut to a length that a table bears. Times are ISO 8601 in UTC,
sizes bytes, speeds bytes a second.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tusd_py.operator.refs import ref
from tusd_py.operator.tracker import Moving
from tusd_py.protocol.errors import InvalidHeader
from tusd_py.protocol.metadata import parse
from tusd_py.telemetry.logs import hide_secrets, without_secrets
from tusd_storage.lifecycle import OPEN, SESSION_EDGES
from tusd_storage.ports.listings import Node
from tusd_storage.ports.overview import ReaperRun, TailSum
from tusd_storage.records import Asset, Job, JobState, SessionState, UploadSession

View = dict[str, Any]

MAX_NAME = 200
MAX_TEXT = 500

_FINISHING = {SessionState.UPLOADED, SessionState.VERIFYING}


def upload(session: UploadSession) -> View:
    """One upload."""
    return {
        "ref": ref(session.id),
        "filename": _cut(session.filename, MAX_NAME),
        "content_type": _cut(session.content_type, MAX_NAME),
        "owner": _cut(session.owner, MAX_NAME),
        "profile": session.profile,
        "strategy": str(session.strategy),
        "kind": str(session.kind),
        "state": str(session.state),
        "length": session.length if session.length is not None else session.size_promised,
        "offset": session.offset,
        "node": _node(session),
        "tail_size": session.tail_size if session.state in OPEN else 0,
        "failure": session.failure,
        "cleanup_reason": _text(session.cleanup_reason),
        "created_at": moment(session.created_at),
        "updated_at": moment(session.updated_at),
        "expires_at": moment(session.expires_at),
        "completed_at": moment(session.completed_at),
        "deleted_at": moment(session.deleted_at),
        "actions": actions(session),
    }


def moving(one: Moving) -> View:
    """One upload under way."""
    speed = None if one.per_s is None else round(one.per_s)
    return upload(one.session) | {
        "status": str(one.status),
        "received": one.received,
        "speed": speed,
        "eta_s": one.eta_s,
    }


def stuck(session: UploadSession, reason: str) -> View:
    """One upload that needs somebody; see the table of reasons in `docs/operator.md`."""
    return upload(session) | {"reason": reason}


def detail(session: UploadSession, asset: Asset | None = None) -> View:
    """One upload with all there is to know about it; secrets in its metadata are masked."""
    try:
        pairs = {
            key: value.decode("utf-8", "replace")[:MAX_TEXT]
            for key, value in parse(session.metadata).items()
        }
    except InvalidHeader:
        pairs = {}
    shown: Mapping[str, Any] = hide_secrets(None, "", pairs)
    return upload(session) | {
        "metadata": dict(shown),
        "parts": session.parts_count,
        "parts_size": session.parts_size,
        "part_size": session.part_size,
        "tail_node": session.tail_node,
        "lease_holder": session.lease_holder,
        "lease_until": moment(session.lease_until),
        "crc32": None if session.crc32 is None else f"{session.crc32:08x}",
        "asset": None
        if asset is None
        else {"state": str(asset.state), "reason": _text(asset.reason)},
    }


def actions(session: UploadSession) -> list[str]:
    """What an operator may do: `cancel`, `retry`."""
    able = []
    if SessionState.ABORTED in SESSION_EDGES[session.state]:
        able.append("cancel")
    if may_finish(session) or may_clean(session):
        able.append("retry")
    return able


def may_finish(session: UploadSession) -> bool:
    """Whether every byte is here and the object is not."""
    return session.state in _FINISHING or (session.received and session.state in OPEN)


def may_clean(session: UploadSession) -> bool:
    """Whether it has ended and left something in the store."""
    return session.cleanup_reason is not None and session.state not in OPEN


def job(row: Job) -> View:
    """One job, without its payload, which may hold what opens something."""
    return {
        "id": row.id,
        "kind": row.kind,
        "subject": ref(row.subject),
        "state": str(row.state),
        "attempts": row.attempts,
        "error": _text(row.error),
        "run_at": moment(row.run_at),
        "locked_by": row.locked_by,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
        "actions": ["retry"] if row.state in (JobState.DEAD, JobState.QUEUED) else [],
    }


def node(row: Node, *, alive: bool) -> View:
    """One node, as it last reported itself."""
    return {
        "name": row.name,
        "alive": alive,
        "started_at": moment(row.started_at),
        "seen_at": moment(row.seen_at),
    }


def tail(row: TailSum, *, gone: bool) -> View:
    """The tails of one node; `gone` when the node has not been seen for long."""
    return {"node": row.node, "uploads": row.uploads, "size": row.size, "gone": gone}


def run(row: ReaperRun) -> View:
    """One run of the reaper."""
    return {"node": row.node, "started_at": moment(row.started_at)} | row.report


def moment(time: datetime | None) -> str | None:
    """ISO 8601, UTC, whole milliseconds."""
    if time is None:
        return None
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _node(session: UploadSession) -> str | None:
    """Where its next bytes are at home."""
    if session.tail_node is not None:
        return session.tail_node
    return session.id.partition("~")[0] if "~" in session.id else None


def _cut(text: str | None, length: int) -> str | None:
    if text is None or len(text) <= length:
        return text
    return text[: length - 1] + "…"


def _text(text: str | None) -> str | None:
    return None if text is None else _cut(without_secrets(text), MAX_TEXT)
