"""Who may do what: the one question the server asks the application."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum

from starlette.requests import Request

from tusd_py.auth.grants import (
    AuthUnavailable,
    Forbidden,
    Grant,
    SignatureRefused,
    Unauthorized,
)
from tusd_py.protocol.errors import UploadNotFound
from tusd_py.protocol.headers import MAX_INTEGER
from tusd_storage.records import UploadSession

__all__ = [
    "Action",
    "AuthUnavailable",
    "Authorize",
    "Forbidden",
    "Grant",
    "SignatureRefused",
    "Unauthorized",
    "check",
]


class Action(StrEnum):
    """What a request wants to do."""

    CREATE = "create"
    READ = "read"
    WRITE = "write"
    TERMINATE = "terminate"
    DOWNLOAD = "download"


Authorize = Callable[[Request, Action, UploadSession | None], Awaitable[Grant | str | None]]
"""Asked before any byte of a body is read. `upload` is None when one is being created.

Returns the owner's name, or a `Grant` with the owner and limits: the owner is recorded with a new
upload, and another owner's upload is answered with 404. None is nobody in particular.
Raises: Unauthorized, Forbidden, AuthUnavailable.
"""

NOBODY = Grant()


async def check(
    authorize: Authorize | None, request: Request, action: Action, upload: UploadSession | None
) -> Grant:
    """What is allowed. Raises: Unauthorized, Forbidden, AuthUnavailable; UploadNotFound for
    another's upload."""
    if authorize is None:
        return NOBODY
    found = await authorize(request, action, upload)
    grant = found if isinstance(found, Grant) else Grant(owner=found)
    if grant.max_size is not None and grant.max_size > MAX_INTEGER:  # no limit that is ever met
        grant = replace(grant, max_size=MAX_INTEGER)
    if upload is not None and upload.owner is not None and upload.owner != grant.owner:
        raise UploadNotFound("there is no such upload")
    return grant
