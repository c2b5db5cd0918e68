"""The answer at the end of an upload: asked for once, told as often as the client asks.

The upload is complete before `pre-finish` is called, so a hook that fails loses no file; the client
is not told that it is complete until the hook has answered.
"""

from collections.abc import Callable
from datetime import datetime

from tusd_py.hooks import origin, wire
from tusd_py.hooks.answers import checked
from tusd_py.hooks.dispatch import Hooks
from tusd_py.hooks.events import HookEvent, HookType, HttpResponse
from tusd_py.hooks.facts import event_id, upload_info
from tusd_py.hooks.outbox import job_id
from tusd_storage.outbox import AnswerStore
from tusd_storage.records import UploadSession


class FinalAnswers:
    """What `pre-finish` said of uploads that completed while it was enabled."""

    def __init__(self, hooks: Hooks, answers: AnswerStore, now: Callable[[], datetime]) -> None:
        self._hooks = hooks
        self._answers = answers
        self._now = now
        self.enabled = hooks.wants(HookType.PRE_FINISH)

    async def of(self, session: UploadSession) -> HttpResponse | None:
        """The answer for a completed upload; None when there is none. Raises: HookFailed,
        StateUnavailable: the next request asks again."""
        if not self.enabled:
            return None
        kept = await self._answers.final_answer(session.id)
        if kept is not None and kept.content is None:
            said = await self._ask(session)
            after = event_id(HookType.POST_FINISH, session)
            kept = await self._answers.keep_answer(
                session.id,
                wire.answer_json(said),
                hasten=[job_id(after, sink.name) for sink in self._hooks],
                now=self._now(),
            )
        if kept is None or kept.content is None:
            return None
        return wire.answer_from(kept.content)

    async def _ask(self, session: UploadSession) -> HttpResponse:
        event = HookEvent(
            upload=upload_info(session), http_request=origin.described(origin.current())
        )
        kind = HookType.PRE_FINISH
        said = await self._hooks.ask(kind, event, event_id(kind, session))
        return checked(said.http_response)
