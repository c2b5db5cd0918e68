"""JSON resources: one URL, a handler for each method, problems for every way it can fail.

Owns preflights, methods, bodies and error answers of the JSON endpoints. Knows no session.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tusd_py.hooks.errors import HookRefusal
from tusd_py.http.answers import PROBLEM, Answer
from tusd_py.http.cors import Cors
from tusd_py.http.errors import INTERNAL, failure_of, headers_of, problem
from tusd_py.http.json_errors import BodyTooLarge, InvalidBody, NotJson
from tusd_py.protocol.errors import MethodNotAllowed

log = structlog.get_logger(__name__)

MAX_BODY_SIZE = 2 * 1024 * 1024
"""Ten thousand parts with their ETags are below one MiB."""

Handler = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Resource:
    """ASGI application for one route."""

    def __init__(self, handlers: Mapping[str, Handler], cors: Cors) -> None:
        self._handlers = dict(handlers)
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers every request; nothing a handler raises goes further."""
        request = Request(scope, receive)
        origin = request.headers.get("origin")
        if request.method == "OPTIONS":
            requested = request.headers.get("access-control-request-headers")
            headers = self._cors.preflight(origin, requested)
            await Response(status_code=204, headers=headers)(scope, receive, send)
            return
        try:
            response = await self._handle(request)
        except ClientDisconnect:
            return
        except Exception as error:  # the process's own loop: nothing may end without an answer
            response = self._refusal(request, error)
        response.headers.update(_HEADERS | self._cors.headers(origin))
        await response(scope, receive, send)

    async def _handle(self, request: Request) -> Response:
        handler = self._handlers.get(request.method)
        if handler is None:
            raise MethodNotAllowed(f"this takes {self._allowed()}")
        return await handler(request)

    def _refusal(self, request: Request, error: Exception) -> Response:
        failure = failure_of(error) or INTERNAL
        if failure is INTERNAL:
            log.exception("request_failed", path=request.url.path, exc_info=error)
        elif failure.status >= 500:
            log.warning("request_refused", path=request.url.path, code=failure.code)
        headers = headers_of(error, failure)
        if failure.status == 405:
            headers["Allow"] = self._allowed()
        headers["Content-Type"] = PROBLEM
        answer = Answer(status=failure.status, headers=headers, content=problem(error, failure))
        if isinstance(error, HookRefusal):
            answer = answer.told(error.answer)
        return Response(answer.content, answer.status, headers=answer.headers)

    def _allowed(self) -> str:
        return ", ".join([*self._handlers, "OPTIONS"])


async def read_json(request: Request, model: type[Model], *, optional: bool = False) -> Model:
    """The body as a model; with `optional`, none at all is `{}`.

    Raises: NotJson, BodyTooLarge, InvalidBody.
    """
    body = await _read(request)
    if optional and not body:
        return _parsed(b"{}", model)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != (
        "application/json"
    ):
        # Also keeps pages of other origins from posting without a preflight.
        raise NotJson("the body must be application/json")
    return _parsed(body, model)


def json_answer(model: BaseModel, status: int = 200, *, location: str | None = None) -> Response:
    """The model as JSON."""
    headers = {} if location is None else {"Location": location}
    return Response(
        model.model_dump_json(by_alias=True),
        status,
        headers=headers,
        media_type=JSONResponse.media_type,
    )


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_SIZE:
            raise BodyTooLarge(f"the body is longer than {MAX_BODY_SIZE} bytes")
    return bytes(body)


def _parsed(body: bytes, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise InvalidBody(f"{where or 'body'}: {first['msg']}"[:300]) from None
