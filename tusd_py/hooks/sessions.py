"""What hooks decide about sessions whose bytes go straight to the store."""

from dataclasses import replace

from tusd_py.broker.creation import Wish
from tusd_py.hooks.dispatch import Hooks
from tusd_py.hooks.events import HookType, UploadInfo
from tusd_py.hooks.uploads import ask_to_create


class Sessions:
    """Asks `pre-create` before a session is made. Id and key stay the server's."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    async def admit(self, profile: str, wish: Wish) -> tuple[str, Wish]:
        """The profile and the wish as the hook would have them. Raises: UploadRejected,
        HookFailed."""
        if not self._hooks.wants(HookType.PRE_CREATE):
            return profile, wish
        known = {"filename": wish.filename, "filetype": wish.content_type}
        info = UploadInfo(
            id="",
            size=wish.size or 0,
            size_is_deferred=wish.size is None,
            offset=0,
            metadata={key: text for key, text in known.items() if text is not None},
            profile=profile,
            owner=wish.owner,
        )
        changes = (await ask_to_create(self._hooks, info)).change_file_info
        if changes.metadata is not None:
            wish = replace(
                wish,
                filename=changes.metadata.get("filename"),
                content_type=changes.metadata.get("filetype"),
            )
        return changes.profile or profile, wish
