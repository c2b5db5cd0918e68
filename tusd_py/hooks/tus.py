"""The tus use cases with hooks around them: asked before, told during, asked at the end.

Wraps `uploads.engine`, which knows of no hook. Exists only where there are hooks.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from tusd_py.broker.profiles import Profiles
from tusd_py.hooks.dispatch import Hooks
from tusd_py.hooks.events import HookType, HttpResponse
from tusd_py.hooks.finish import FinalAnswers
from tusd_py.hooks.progress import CountedBody, Progress
from tusd_py.hooks.uploads import Uploads
from tusd_py.protocol.idempotency import CreationKey
from tusd_py.protocol.requests import CreateRequest, PatchRequest
from tusd_py.uploads.body import BodyReader
from tusd_py.uploads.creation import ANYWHERE
from tusd_py.uploads.engine import UploadEngine
from tusd_storage.outbox import AnswerStore
from tusd_storage.records import UploadSession


class TusHooks:
    """Made once for a process."""

    def __init__(
        self,
        hooks: Hooks,
        engine: UploadEngine,
        *,
        answers: AnswerStore,
        profiles: Profiles,
        interval: timedelta,
        now: Callable[[], datetime],
        check_room: Callable[[], None],
    ) -> None:
        """`check_room` raises what would refuse any creation: then no hook is asked about it."""
        self._hooks = hooks
        self._engine = engine
        self._check_room = check_room
        self._uploads = Uploads(hooks, engine.config, profiles)
        self._progress = Progress(hooks, engine, interval_s=interval.total_seconds())
        self.final = FinalAnswers(hooks, answers, now)

    async def create(
        self,
        request: CreateRequest,
        body: BodyReader,
        *,
        owner: str | None,
        max_size: int | None,
        profile: str | None,
        key: CreationKey | None,
    ) -> tuple[UploadSession, HttpResponse | None]:
        """As the engine's; with what `pre-create` wants its creator to be told.

        Raises: UploadRejected, UploadStopped, HookFailed, StateOverloaded, and as the engine's.
        """
        place, said = ANYWHERE, None
        if self._hooks.wants(HookType.PRE_CREATE):
            self._check_room()
            length = await self._engine.creator.length_of(request, owner=owner)
            approval = await self._uploads.before_create(
                request, length=length, owner=owner, profile=profile
            )
            request, place, said = approval.request, approval.place, approval.answer
            profile = approval.profile or profile
        if request.body.is_empty or not self._progress.enabled:
            session = await self._engine.creator.create(
                request, body, owner=owner, max_size=max_size, profile=profile, key=key, place=place
            )
            return session, said
        counted = CountedBody(body)
        async with self._progress.over(counted, 0) as report:
            session = await self._engine.creator.create(
                request,
                counted,
                owner=owner,
                max_size=max_size,
                profile=profile,
                key=key,
                place=place,
                created=lambda made: report.about(made.id),
            )
        return session, said

    async def patch(
        self, session_id: str, request: PatchRequest, body: BodyReader
    ) -> UploadSession:
        """As the engine's. Raises: UploadStopped, and as the engine's."""
        if request.body.is_empty or not self._progress.enabled:
            return await self._engine.patch(session_id, request, body)
        counted = CountedBody(body)
        async with self._progress.over(counted, request.offset) as report:
            report.about(session_id)
            done = await self._engine.patch(session_id, request, counted)
        return done  # noqa: RET504 - behind the block, which may raise instead

    async def before_terminate(self, session_id: str) -> HttpResponse | None:
        """Raises: TerminationRejected, HookFailed, UploadNotFound."""
        return await self._uploads.before_terminate(self._engine.find, session_id)

    async def before_end(self, session: UploadSession) -> None:
        """The same question for the session API. Raises: TerminationRejected, HookFailed."""

        async def found(_: str) -> UploadSession:
            return session

        await self._uploads.before_terminate(found, session.id)

    async def aclose(self) -> None:
        """Ends what is still being told."""
        await self._progress.aclose()
