"""Who may do what: the one question the server asks the application."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

from starlette.requests import Request

from tusd_py.protocol.errors import UploadNotFound
from tusd_storage.records import UploadSession


class Action(StrEnum):
    """What a request wants to do."""

    CREATE = "create"
    READ = "read"
    WRITE = "write"
    TERMINATE = "terminate"
    DOWNLOAD = "download"


class Unauthorized(Exception):
    """Raise it from `authorize`: who is this? Answered with 401."""


class Forbidden(Exception):
    """Raise it from `authorize`: this one may not. Answered with 403."""


Authorize = Callable[[Request, Action, UploadSession | None], Awaitable[str | None]]
"""Asked before any byte of a body is read. `upload` is None when one is being created.

Returns the owner's name: it is recorded with a new upload, and another owner's upload is answered
with 404. None is nobody in particular. Raises: Unauthorized, Forbidden.
"""


async def check(
    authorize: Authorize | None, request: Request, action: Action, upload: UploadSession | None
) -> str | None:
    """The owner. Raises: Unauthorized, Forbidden, UploadNotFound for another's upload."""
    if authorize is None:
        return None
    owner = await authorize(request, action, upload)
    if upload is not None and upload.owner is not None and upload.owner != owner:
        raise UploadNotFound("there is no such upload")
    return owner
