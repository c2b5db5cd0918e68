"""What hooks decide about tus uploads: before they are created, and before they are terminated.

Checks what a hook wants before anything is made of it. What is no id, key, profile or metadata is a
failure of the hook (502), never an upload in a place nobody meant.
"""

import base64
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from tusd_py.broker.errors import UnknownProfile, UploadUnsupported
from tusd_py.broker.profiles import Profiles
from tusd_py.hooks import origin
from tusd_py.hooks.answers import checked
from tusd_py.hooks.dispatch import Hooks
from tusd_py.hooks.errors import HookFailed, TerminationRejected, UploadRejected
from tusd_py.hooks.events import (
    HookEvent,
    HookResponse,
    HookType,
    HttpRequest,
    HttpResponse,
    UploadInfo,
)
from tusd_py.hooks.facts import upload_info, wanted_info
from tusd_py.protocol import metadata
from tusd_py.protocol.checksum import declared_crc32
from tusd_py.protocol.errors import InvalidHeader, ProtocolError
from tusd_py.protocol.requests import CreateRequest
from tusd_py.uploads.config import UploadConfig
from tusd_py.uploads.creation import Place
from tusd_storage import lifecycle
from tusd_storage.records import SessionState, Strategy, UploadSession

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""Behind `<node>~`, the last segment of the upload's URL."""

MAX_PATH_SIZE = 512
"""Bytes. With the longest prefix it is the longest object key of S3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What may be created, and what its creator is told beside the usual."""

    request: CreateRequest
    profile: str | None
    """None: as it would have been."""
    place: Place
    answer: HttpResponse


class Uploads:
    """Asks before uploads are created or terminated."""

    def __init__(self, hooks: Hooks, config: UploadConfig, profiles: Profiles) -> None:
        self._hooks = hooks
        self._config = config
        self._profiles = profiles

    def asks(self, kind: HookType) -> bool:
        """Whether there is anybody to ask."""
        return self._hooks.wants(kind)

    async def before_create(
        self,
        request: CreateRequest,
        *,
        length: int | None,
        owner: str | None,
        profile: str | None,
    ) -> Approval:
        """Raises: UploadRejected, HookFailed."""
        profile = profile or self._config.profile
        info = wanted_info(request, length=length, owner=owner, profile=profile)
        said = await ask_to_create(self._hooks, info)
        changes = said.change_file_info
        if changes.metadata is not None:
            request = _with_metadata(request, changes.metadata)
        if changes.profile:
            self._check_profile(changes.profile)
        return Approval(
            request=request,
            profile=changes.profile or None,
            place=Place(id=_id(changes.id, self._config.node), path=_path(changes.storage)),
            answer=checked(said.http_response),
        )

    async def before_terminate(
        self, find: Callable[[str], Awaitable[UploadSession]], session_id: str
    ) -> HttpResponse | None:
        """What the client is told beside the usual, if anything. Raises: TerminationRejected,
        HookFailed, UploadNotFound."""
        kind = HookType.PRE_TERMINATE
        if not self._hooks.wants(kind):
            return None
        session = await find(session_id)
        gone = session.state in lifecycle.TERMINAL - {SessionState.COMPLETED}
        if gone or session.deleted_at is not None:
            return None  # there is nothing to decide
        event = HookEvent(upload=upload_info(session), http_request=_request())
        said = await self._hooks.ask(kind, event, _question_id())
        answer = checked(said.http_response)
        if said.reject_termination:
            raise TerminationRejected(answer)
        return answer

    def _check_profile(self, name: str) -> None:
        try:
            self._profiles.get(name, Strategy.RESUMABLE)
        except (UnknownProfile, UploadUnsupported) as error:
            raise HookFailed(f"ChangeFileInfo.Profile: {error}") from error


async def ask_to_create(hooks: Hooks, info: UploadInfo) -> HookResponse:
    """Raises: UploadRejected, HookFailed."""
    event = HookEvent(upload=info, http_request=_request())
    said = await hooks.ask(HookType.PRE_CREATE, event, _question_id())
    if said.reject_upload:
        raise UploadRejected(checked(said.http_response))
    return said


def _question_id() -> str:
    """Of one request's question, however often it is tried: another request asks anew, and may be
    told something else (Standard Webhooks: the id is the message's)."""
    return f"evt_{secrets.token_urlsafe(18)}"


def _request() -> HttpRequest:
    return origin.described(origin.current())


def _id(wanted: str, node: str) -> str | None:
    """The part behind the node's name, which every id begins with. Raises: HookFailed."""
    if not wanted:
        return None
    rest = wanted.removeprefix(f"{node}~")
    if not _ID.fullmatch(rest):
        raise HookFailed("ChangeFileInfo.ID must be 1 to 100 of A-Z, a-z, 0-9, - and _")
    return rest


def _path(storage: Mapping[str, str] | None) -> str | None:
    """The key below the profile's prefix. Raises: HookFailed."""
    if not storage:
        return None
    path = storage.get("Path", "")
    if set(storage) - {"Path", "Type"} or not path:
        raise HookFailed("ChangeFileInfo.Storage takes Path; for another bucket name a Profile")
    steps = path.removeprefix("./").split("/")
    if {"", ".", ".."} & set(steps) or not path.isprintable() or "\\" in path:
        raise HookFailed("ChangeFileInfo.Storage.Path must be a path without empty steps, . and ..")
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_SIZE:
        raise HookFailed(f"ChangeFileInfo.Storage.Path is longer than {MAX_PATH_SIZE} bytes")
    return "/".join(steps)


def _with_metadata(request: CreateRequest, pairs: Mapping[str, str]) -> CreateRequest:
    """As if the client had sent these. Raises: HookFailed."""
    header = ",".join(f"{key} {_encoded(value)}".rstrip(" ") for key, value in pairs.items())
    try:
        parsed = metadata.parse(header)
    except InvalidHeader as error:
        raise HookFailed(f"ChangeFileInfo.MetaData: {error}") from error
    if list(parsed) != list(pairs):
        raise HookFailed("ChangeFileInfo.MetaData: keys must have no spaces and commas")
    try:
        declared = declared_crc32(parsed)
    except ProtocolError as error:
        raise HookFailed(f"ChangeFileInfo.MetaData: {error}") from error
    crc32 = request.crc32 if declared is None else declared
    return replace(request, metadata=header, pairs=parsed, crc32=crc32)


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode("utf-8", "replace")).decode("ascii")
