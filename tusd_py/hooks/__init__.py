"""Events out of the system, and the application's say in what happens: hooks in tusd's format.

Python callables and HTTP endpoints are called alike:

    async def audit(request: HookRequest) -> HookResponse | None: ...

    create_app(settings, hooks=[Hook("audit", audit, types=[HookType.POST_FINISH])])
"""

from tusd_py.hooks.events import (
    AssetInfo,
    FileInfoChanges,
    HookEvent,
    HookRequest,
    HookResponse,
    HookType,
    HttpRequest,
    HttpResponse,
    UploadInfo,
)
from tusd_py.hooks.sinks import Hook

__all__ = [
    "AssetInfo",
    "FileInfoChanges",
    "Hook",
    "HookEvent",
    "HookRequest",
    "HookResponse",
    "HookType",
    "HttpRequest",
    "HttpResponse",
    "UploadInfo",
]
