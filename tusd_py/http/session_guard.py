"""Asks the application before anything is done with a session, and finds the session for it."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from tusd_py.auth.signatures import is_signed
from tusd_py.broker.errors import SessionNotFound
from tusd_py.broker.service import Broker
from tusd_py.http import auth
from tusd_py.http.auth import Action, Authorize, Forbidden, Grant
from tusd_py.protocol.errors import UploadNotFound
from tusd_py.protocol.headers import UPLOAD_ID
from tusd_storage.records import UploadSession

BeforeEnd = Callable[[UploadSession], Awaitable[None]]
"""Asked before a session is ended for a client."""
CheckRoom = Callable[[], None]
"""Raises what would refuse any new session now, before its body is read and the store is asked."""


class SessionGuard:
    """The one way from a request to a session."""

    def __init__(
        self,
        broker: Broker,
        authorize: Authorize | None,
        before_end: BeforeEnd | None = None,
        check_room: CheckRoom | None = None,
        *,
        signed: bool = False,
    ) -> None:
        """`signed`: a signed URL may be what lets a request in."""
        self._signed = signed
        self._broker = broker
        self._authorize = authorize
        self._before_end = before_end
        self._check_room = check_room

    async def may_create(self, request: Request) -> Grant:
        """What may be created, and whose it is.

        Raises: Unauthorized, Forbidden, and what would refuse any creation now.
        """
        if self._check_room is not None:
            self._check_room()
        grant = await auth.check(self._authorize, request, Action.CREATE, None)
        if grant.creation_key is not None:
            raise Forbidden("this creates one upload by tus, no session")
        return grant

    def refuse_signed(self, request: Request) -> None:
        """For addresses that a client puts together by itself: no signature goes with them.

        Raises: Forbidden.
        """
        query: bytes = request.scope.get("query_string", b"")
        if self._signed and is_signed(query.decode("latin-1")):
            raise Forbidden("a signed URL creates tus uploads and sessions, not these")

    @staticmethod
    def check_profile(grant: Grant, profile: str) -> None:
        """Raises: Forbidden for another profile than the grant's."""
        if grant.profile not in (None, profile):
            raise Forbidden("this profile is not allowed")

    async def find(self, request: Request, session_id: str, action: Action) -> UploadSession:
        """The session; another owner's is not found. Raises: SessionNotFound, Unauthorized, …."""
        if not UPLOAD_ID.fullmatch(session_id):
            raise SessionNotFound("there is no such session")
        session = await self._broker.find(session_id)
        await self.check(request, session, action)
        return session

    async def may_end(self, session: UploadSession) -> None:
        """Asks the hooks, where there are some. Raises: what they refuse with."""
        if self._before_end is not None:
            await self._before_end(session)

    async def check(self, request: Request, session: UploadSession, action: Action) -> None:
        """Raises: SessionNotFound for another owner's, Unauthorized, Forbidden."""
        try:
            await auth.check(self._authorize, request, action, session)
        except UploadNotFound as error:
            raise SessionNotFound("there is no such session") from error
