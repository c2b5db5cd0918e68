"""The session API: the broker's functions as JSON over HTTP.

One table says what there is; routes and the OpenAPI document are both made from it. No rule of the
broker lives here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tusd_py.broker.errors import InvalidArgument
from tusd_py.broker.parts import PartName
from tusd_py.broker.results import Multipart, Resumable
from tusd_py.broker.service import Broker
from tusd_py.http import session_views as views
from tusd_py.http.auth import Action, Grant
from tusd_py.http.cors import Cors
from tusd_py.http.locations import Locations
from tusd_py.http.resource import Resource, json_answer, read_json
from tusd_py.http.session_guard import SessionGuard
from tusd_storage.records import Strategy, UploadSession

PATH = "/sessions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line of the table."""

    method: str
    path: str
    name: str
    """Of the handler, and `operationId`."""
    summary: str
    body: type[BaseModel] | None = None
    body_required: bool = True
    answer: type[BaseModel]
    status: int = 200
    refusals: tuple[int, ...]
    """Statuses besides 401, 403, 405, 503 and, with a body, 413 and 415."""


_ONE = PATH + "/{session_id}"
OPERATIONS = (
    Operation(
        method="POST",
        path=PATH,
        name="create_session",
        summary="Create a session of any strategy",
        body=views.CreateSession,
        answer=views.CreatedView,
        status=201,
        refusals=(400, 422, 429, 502),
    ),
    Operation(
        method="GET",
        path=_ONE,
        name="show_session",
        summary="The session and its asset",
        answer=views.VerifiedView,
        refusals=(404,),
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        name="cancel_session",
        summary="Abort it: the store's side first",
        answer=views.CreatedView,
        refusals=(404, 409, 423),
    ),
    Operation(
        method="POST",
        path=_ONE + "/sign",
        name="sign_session",
        summary="A presigned PUT for the whole file",
        body=views.SignRequest,
        body_required=False,
        answer=views.SignedView,
        refusals=(400, 404, 409, 410, 422),
    ),
    Operation(
        method="GET",
        path=_ONE + "/parts",
        name="list_parts",
        summary="The parts that the store has",
        answer=views.PartsView,
        refusals=(404, 409, 410, 502),
    ),
    Operation(
        method="POST",
        path=_ONE + "/parts",
        name="sign_parts",
        summary="Presigned PUTs for parts",
        body=views.SignPartsRequest,
        answer=views.SignedPartsView,
        refusals=(400, 404, 409, 410, 422),
    ),
    Operation(
        method="POST",
        path=_ONE + "/complete",
        name="complete_session",
        summary="Verify what was sent, and record it once",
        body=views.CompleteRequest,
        body_required=False,
        answer=views.VerifiedView,
        refusals=(400, 404, 409, 410, 422, 423, 502),
    ),
    Operation(
        method="GET",
        path=_ONE + "/status",
        name="show_status",
        summary="How far a resumable session is",
        answer=views.StatusView,
        refusals=(404, 409),
    ),
)


class SessionsApi:
    """The handlers."""

    def __init__(
        self, broker: Broker, guard: SessionGuard, *, locations: Locations, cors: Cors
    ) -> None:
        self._broker = broker
        self._guard = guard
        self._locations = locations
        self._cors = cors

    def routes(self) -> list[BaseRoute]:
        """One route a path, from the table."""
        return [
            Route(path, Resource({o.method: self._handler(o.name) for o in operations}, self._cors))
            for path, operations in groupby(OPERATIONS, key=lambda operation: operation.path)
        ]

    def _handler(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        handler: Callable[[Request], Awaitable[Response]] = getattr(self, name)
        return handler

    async def create_session(self, request: Request) -> Response:
        """POST /sessions"""
        grant = await self._guard.may_create(request)
        wish = await read_json(request, views.CreateSession)
        self._guard.check_profile(grant, wish.profile)
        made = await self._create(wish, grant)
        session = made if isinstance(made, UploadSession) else made.session
        uri = self._locations.location(
            request.scope, request.headers, session.id, session.created_at
        )
        location = self._locations.session(request.scope, PATH, session.id, session.created_at)
        return json_answer(views.CreatedView.of(made, uri), 201, location=location)

    async def _create(
        self, wish: views.CreateSession, grant: Grant
    ) -> UploadSession | Multipart | Resumable:
        expires_in = _seconds(wish.expires_in_s)
        if wish.strategy is Strategy.MULTIPART:
            return await self._broker.initiate_multipart_session(
                wish.profile,
                filename=wish.filename,
                content_type=wish.content_type,
                size=wish.size,
                part_size=wish.part_size,
                expires_in=expires_in,
                owner=grant.owner,
                max_size=grant.max_size,
            )
        if wish.part_size is not None:
            raise InvalidArgument("part_size is for strategy multipart only")
        resumable = wish.strategy is Strategy.RESUMABLE
        initiate = (
            self._broker.initiate_resumable_session if resumable else self._broker.initiate_session
        )
        return await initiate(
            wish.profile,
            filename=wish.filename,
            content_type=wish.content_type,
            size=wish.size,
            expires_in=expires_in,
            owner=grant.owner,
            max_size=grant.max_size,
        )

    async def show_session(self, request: Request) -> Response:
        """GET /sessions/{session_id}"""
        session = await self._find(request, Action.READ)
        return json_answer(views.VerifiedView.of(await self._broker.show(session.id)))

    async def cancel_session(self, request: Request) -> Response:
        """DELETE /sessions/{session_id}"""
        session = await self._find(request, Action.TERMINATE)
        await self._guard.may_end(session)
        return json_answer(views.CreatedView.of(await self._broker.cancel_session(session.id)))

    async def sign_session(self, request: Request) -> Response:
        """POST /sessions/{session_id}/sign"""
        session = await self._find(request, Action.WRITE)
        wish = await read_json(request, views.SignRequest, optional=True)
        signed = await self._broker.sign_url(session.id, expires_in=_seconds(wish.expires_in_s))
        return json_answer(views.SignedView.of(signed))

    async def sign_parts(self, request: Request) -> Response:
        """POST /sessions/{session_id}/parts"""
        session = await self._find(request, Action.WRITE)
        wish = await read_json(request, views.SignPartsRequest)
        signed = [
            await self._broker.sign_multipart_part(
                session.id, number, expires_in=_seconds(wish.expires_in_s), size=wish.size
            )
            for number in dict.fromkeys(wish.part_numbers)
        ]
        return json_answer(views.SignedPartsView.of(signed))

    async def list_parts(self, request: Request) -> Response:
        """GET /sessions/{session_id}/parts"""
        session = await self._find(request, Action.READ)
        return json_answer(views.PartsView.of(await self._broker.list_multipart_parts(session.id)))

    async def complete_session(self, request: Request) -> Response:
        """POST /sessions/{session_id}/complete"""
        session = await self._find(request, Action.WRITE)
        wish = await read_json(request, views.CompleteRequest, optional=True)
        if wish.parts is None:
            done = await self._broker.verify_completion(session.id)
        else:
            names = [PartName(part.part_number, part.etag) for part in wish.parts]
            done = await self._broker.complete_multipart_upload(session.id, names)
        return json_answer(views.VerifiedView.of(done))

    async def show_status(self, request: Request) -> Response:
        """GET /sessions/{session_id}/status"""
        session = await self._find(request, Action.READ)
        status = await self._broker.resumable_session_status(session.id)
        return json_answer(views.StatusView.of(status))

    async def _find(self, request: Request, action: Action) -> UploadSession:
        return await self._guard.find(request, request.path_params["session_id"], action)


def _seconds(value: int | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
