"""`tusd-py uploads`: which uploads there are, one in full, and an end to one that nobody wants.

Works beside a running server, on the same database: who writes an upload that is cancelled is asked
to let go first.
"""

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from tusd_py.broker.errors import BrokerError
from tusd_py.commands.running import (
    DONE,
    FAILED,
    UNREACHABLE,
    complain,
    print_json,
    print_line,
    printable,
    services,
)
from tusd_py.operator import views
from tusd_py.operator.errors import OperatorError
from tusd_py.operator.service import MAX_PAGE
from tusd_py.settings import Settings
from tusd_storage.errors import StorageError
from tusd_storage.ports.overview import Browsed
from tusd_storage.records import SessionState, UploadSession

if TYPE_CHECKING:
    from tusd_py.services import Services

TEXT = "List uploads, show one, or cancel one; also while the server runs."

_COLUMNS = ("REF", "STATE", "DONE", "SIZE", "OWNER", "NODE", "UPDATED", "NAME")
_WIDTHS = (30, 11, 5, 9, 14, 12, 20, 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "action", choices=("ls", "show", "cancel"), metavar="{ls,show,cancel}", help="What to do."
    )
    parser.add_argument(
        "upload",
        nargs="*",
        default=[],
        metavar="REF",
        help="show, cancel: a ref from the list, or an id; to show one, its start will do.",
    )
    states = [state.value for state in SessionState]
    parser.add_argument("--state", choices=states, help="ls: only those in this state.")
    parser.add_argument("--owner", help="ls: only those of this owner.")
    parser.add_argument("--made-on", metavar="NODE", help="ls: only those made on this node.")
    parser.add_argument(
        "--stuck",
        action="store_true",
        help="ls: only those that need somebody: idle, not finished, failed, left over.",
    )
    parser.add_argument("--after", metavar="REF", help="ls: go on behind this one.")
    parser.add_argument("--limit", type=int, default=50, help="ls: at most so many. Default: 50.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def run(settings: Settings, *, action: str, upload: list[str], **wanted: Any) -> int:
    """0: done; 1: an upload is not there or cannot be cancelled; 3: no database."""
    try:
        return asyncio.run(_run(settings, action, upload, wanted))
    except StorageError as error:
        complain(f"the uploads cannot be read: {error}")
        return UNREACHABLE


async def _run(settings: Settings, action: str, refs: list[str], wanted: dict[str, Any]) -> int:
    as_json = wanted.pop("json")
    if action != "ls" and not refs:
        complain(f"write which upload: tusd-py uploads {action} REF")
        return FAILED
    if wanted["limit"] < 1:
        complain("--limit is below 1: write how many uploads to list")
        return FAILED
    async with services(settings) as running:
        if action == "ls":
            await _list(running, wanted, as_json=as_json)
            return DONE
        results = [await _one(running, action, ref, as_json=as_json) for ref in refs]
    return DONE if all(results) else FAILED


async def _list(running: "Services", wanted: dict[str, Any], *, as_json: bool) -> None:
    page = await _gather(running, wanted)
    found = [views.upload(session) for session in page.sessions]
    if as_json:
        print_json({"uploads": found, "next": page.next})
        return
    if found:
        _print_row(_COLUMNS)
    else:
        chosen = any(wanted[name] for name in ("state", "owner", "made_on", "stuck", "after"))
        complain("no upload is like that" if chosen else "there are no uploads yet")
    for view in found:
        _print_row(_cells(view))
    if page.next is not None:
        complain(f"there may be more: --after {page.next}")


async def _gather(running: "Services", wanted: dict[str, Any]) -> Browsed:
    """Pages until there are as many as wanted, or no more."""
    found: list[UploadSession] = []
    state, after = wanted["state"], wanted["after"]
    while True:
        page = await running.operator.uploads(
            state=None if state is None else SessionState(state),
            owner=wanted["owner"],
            node=wanted["made_on"],
            stuck=wanted["stuck"],
            after=after,
            limit=min(MAX_PAGE, wanted["limit"] - len(found)),
        )
        found += page.sessions
        after = page.next
        if after is None or len(found) >= wanted["limit"]:
            return Browsed(sessions=tuple(found), next=after)


async def _one(running: "Services", action: str, ref: str, *, as_json: bool) -> bool:
    try:
        if action == "show":
            session = await running.operator.find(ref)
            # Whoever has the database may know the whole id, and where the object is.
            print_json(
                views.detail(session, await running.operator.asset(session))
                | {"id": session.id, "bucket": session.bucket, "object_key": session.object_key}
            )
            return True
        session = await running.operator.cancel(ref)
    except (OperatorError, BrokerError) as error:
        complain(f"{ref}: {error}")
        return False
    if as_json:
        print_json(views.upload(session))
    else:
        view = views.upload(session)
        print_line(f"{view['ref']} {view['state']}")
    return True


def _cells(view: views.View) -> tuple[str, ...]:
    length, offset = view["length"], view["offset"]
    done = "" if length is None else f"{100 if length == 0 else offset * 100 // length}%"
    return (
        view["ref"],
        view["state"],
        done,
        _size(offset if length is None else length),
        view["owner"] or "",
        view["node"] or "",
        view["updated_at"][:19] + "Z",
        view["filename"] or "",
    )


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _print_row(cells: tuple[str, ...]) -> None:
    padded = (printable(cell).ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    print_line(" ".join(padded).rstrip())
