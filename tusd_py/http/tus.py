"""The tus endpoints: one ASGI application for everything below the base path.

Translates requests into the frozen values of `protocol` and answers back. No tus rule lives here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tusd_py.hooks.errors import HookRefusal
from tusd_py.hooks.events import HttpResponse
from tusd_py.hooks.tus import TusHooks
from tusd_py.http import auth
from tusd_py.http.answers import PROBLEM, Answer, send_answer
from tusd_py.http.auth import Action, Authorize, Forbidden, Grant
from tusd_py.http.body import AsgiBody
from tusd_py.http.cors import METHODS, Cors
from tusd_py.http.download import Downloads
from tusd_py.http.drain import Drains
from tusd_py.http.errors import INTERNAL, RETRY_AFTER_S, failure_of, headers_of, problem
from tusd_py.http.locations import Locations
from tusd_py.protocol import headers as grammar
from tusd_py.protocol import responses
from tusd_py.protocol.errors import MethodNotAllowed, UploadNotFound
from tusd_py.protocol.idempotency import CreationKey, creation_key
from tusd_py.protocol.requests import CreateRequest, parse_create, parse_patch
from tusd_py.telemetry.events import Event, RequestRefused
from tusd_py.uploads.body import Interrupted, Stop
from tusd_py.uploads.engine import UploadEngine
from tusd_storage.errors import CreationRepeated
from tusd_storage.records import Kind, SessionState, UploadSession

log = structlog.get_logger(__name__)

_TUS = ("Tus-Resumable", grammar.VERSION)
_NOSNIFF = ("X-Content-Type-Options", "nosniff")


@dataclass(slots=True)
class Exchange:
    """One request on its way through, and the means to answer it."""

    scope: Scope
    receive: Receive
    send: Send
    headers: dict[str, str]
    method: str
    upload_id: str
    """Empty for the collection itself."""
    body: AsgiBody

    @property
    def request(self) -> Request:
        """For `authorize`: with the method that is served, which a header may have named."""
        return Request({**self.scope, "method": self.method})


class TusEndpoint:
    """Routes by method."""

    def __init__(
        self,
        engine: UploadEngine,
        *,
        locations: Locations,
        cors: Cors,
        downloads: Downloads,
        authorize: Authorize | None = None,
        key_metadata: str | None = None,
        emit: Callable[[Event], None] | None = None,
        hooks: TusHooks | None = None,
    ) -> None:
        """`key_metadata`: metadata whose value is an idempotency key, where there is no header.
        `hooks`: None where there is nobody to ask."""
        self._engine = engine
        self._locations = locations
        self._cors = cors
        self._downloads = downloads
        self._authorize = authorize
        self._key_metadata = key_metadata
        self._emit = emit
        self._closing = False
        self._drains = Drains()
        self._hooks = hooks
        self._handlers: dict[str, Callable[[Exchange], Awaitable[None]]] = {
            "HEAD": self._head,
            "PATCH": self._patch,
            "DELETE": self._delete,
            "GET": self._get,
        }

    def begin_shutdown(self) -> None:
        """Nothing is read any more of bodies that were refused."""
        self._closing = True
        self._drains.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; `scope["path"]` must be the base path or lie below it."""
        exchange = self._exchange(scope, receive, send)
        try:
            await self._handle(exchange)
        except asyncio.CancelledError:
            if not self._closing:
                raise
            # The time to shut down is over. What was acknowledged is kept; the rest comes again.
            await self._refuse(exchange, Interrupted(Stop.SHUTDOWN))
        except Exception as error:  # the process's own loop: nothing may end without an answer
            await self._refuse(exchange, error)

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        headers: dict[str, str] = {}
        repeated: dict[str, list[str]] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if name in headers:
                repeated.setdefault(name, [headers[name]]).append(value)
            else:
                headers[name] = value
        for name, values in repeated.items():
            headers[name] = ", ".join(values)
        path: str = scope["path"]
        base = self._locations.path(scope)
        upload_id = path[len(base) :] if path.startswith(base) else ""
        return Exchange(
            scope=scope,
            receive=receive,
            send=send,
            headers=headers,
            method=grammar.effective_method(scope["method"], headers),
            upload_id=upload_id,
            body=AsgiBody(scope, receive),
        )

    async def _handle(self, exchange: Exchange) -> None:
        if exchange.method == "OPTIONS":
            return await self._options(exchange)
        if not exchange.upload_id:
            if exchange.method != "POST":
                raise MethodNotAllowed("uploads are created with POST")
            return await self._post(exchange)
        handler = self._handlers.get(exchange.method)
        if handler is None:
            raise MethodNotAllowed(f"an upload takes {METHODS}")
        if not grammar.UPLOAD_ID.fullmatch(exchange.upload_id):
            raise UploadNotFound("there is no such upload")
        return await handler(exchange)

    async def _options(self, exchange: Exchange) -> None:
        """Core, OPTIONS: always answered, never asked who it is."""
        headers = responses.options(self._engine.config.max_size)
        origin = exchange.headers.get("origin")
        requested = exchange.headers.get("access-control-request-headers")
        headers |= self._cors.preflight(origin, requested)
        await self._answer(exchange, 204, headers, cors=False)

    async def _post(self, exchange: Exchange) -> None:
        request = parse_create(
            exchange.headers,
            base_path=self._locations.path(exchange.scope),
            max_size=self._engine.config.max_size,
        )
        grant = await self._grant(exchange, Action.CREATE, None)
        if grant.creation_key is not None and request.concat.partial:
            raise Forbidden("this may create one upload, not partial ones")
        key = creation_key(
            exchange.headers,
            request,
            owner=grant.owner,
            fixed=grant.creation_key,
            metadata_key=self._key_metadata,
        )
        session, repeated, said = await self._create(exchange, request, grant, key)
        location = self._locations.location(
            exchange.scope, exchange.headers, session.id, session.created_at
        )
        told = repeated or not request.body.is_empty
        headers = responses.created(
            location,
            offset=session.offset if told and _shows_offset(session) else None,
            expires=_expires(session),
            crc32=session.crc32,
        )
        refused_body = _has_unread(exchange)
        said = await self._final(session, said)
        await self._answer(exchange, 201, headers, refused_body=refused_body, said=said)

    async def _create(
        self, exchange: Exchange, request: CreateRequest, grant: Grant, key: CreationKey | None
    ) -> tuple[UploadSession, bool, HttpResponse | None]:
        """The upload, whether it was there before (then nothing of the body is read), and what
        hooks say to that."""
        if key is not None and (session := await self._engine.created(key)) is not None:
            return session, True, None
        try:
            if self._hooks is not None:
                made, said = await self._hooks.create(
                    request,
                    exchange.body,
                    owner=grant.owner,
                    max_size=grant.max_size,
                    profile=grant.profile,
                    key=key,
                )
                return made, False, said
            session = await self._engine.creator.create(
                request,
                exchange.body,
                owner=grant.owner,
                max_size=grant.max_size,
                profile=grant.profile,
                key=key,
            )
        except CreationRepeated:  # by a request at the same time, here or on another node
            repeated = None if key is None else await self._engine.created(key)
            if repeated is None:
                raise
            return repeated, True, None
        return session, False, None

    async def _final(
        self, session: UploadSession, said: HttpResponse | None = None
    ) -> HttpResponse | None:
        """What hooks say at the end of the upload, beside what they said before."""
        if self._hooks is None or session.state is not SessionState.COMPLETED:
            return said
        final = await self._hooks.final.of(session)
        if said is None or final is None:
            return final if said is None else said
        return said.merged_with(final)

    async def _head(self, exchange: Exchange) -> None:
        grammar.check_version(exchange.headers)
        session = await self._engine.find(exchange.upload_id)
        await self._grant(exchange, Action.READ, session)
        session = await self._engine.status(session)
        headers = responses.head(
            offset=session.offset if _shows_offset(session) else None,
            length=session.length,
            metadata=session.metadata,
            concat=session.concat_header,
            expires=_expires(session),
            crc32=session.crc32,
        )
        await self._answer(exchange, 200, headers, said=await self._final(session))

    async def _patch(self, exchange: Exchange) -> None:
        request = parse_patch(exchange.headers)
        await self._check(exchange, Action.WRITE)
        append = self._engine.patch if self._hooks is None else self._hooks.patch
        session = await append(exchange.upload_id, request, exchange.body)
        headers = responses.patched(session.offset, expires=_expires(session), crc32=session.crc32)
        await self._answer(exchange, 204, headers, said=await self._final(session))

    async def _delete(self, exchange: Exchange) -> None:
        grammar.check_version(exchange.headers)
        await self._check(exchange, Action.TERMINATE)
        said = None
        if self._hooks is not None:
            said = await self._hooks.before_terminate(exchange.upload_id)
        await self._engine.terminate(exchange.upload_id)
        await self._answer(exchange, 204, {}, said=said)

    async def _get(self, exchange: Exchange) -> None:
        session = await self._engine.find(exchange.upload_id)
        await self._grant(exchange, Action.DOWNLOAD, session)
        cors = self._cors.headers(exchange.headers.get("origin"))
        await self._downloads.serve(session, exchange.headers, cors, exchange.send)

    async def _grant(
        self, exchange: Exchange, action: Action, session: UploadSession | None
    ) -> Grant:
        if self._authorize is None:
            return auth.NOBODY
        return await auth.check(self._authorize, exchange.request, action, session)

    async def _check(self, exchange: Exchange, action: Action) -> None:
        """Asks the application. Without one, the row need not be read before it is leased."""
        if self._authorize is not None:
            session = await self._engine.find(exchange.upload_id)
            await self._grant(exchange, action, session)

    async def _answer(
        self,
        exchange: Exchange,
        status: int,
        headers: dict[str, str],
        content: bytes = b"",
        *,
        cors: bool = True,
        refused_body: bool = False,
        said: HttpResponse | None = None,
    ) -> None:
        headers = dict((_TUS, _NOSNIFF)) | headers
        if cors:
            headers |= self._cors.headers(exchange.headers.get("origin"))
        answer = Answer(status=status, headers=headers, content=content)
        if said is not None:
            answer = answer.told(said, final=exchange.method != "HEAD")
            headers = self._cors.exposing(answer.headers, said.header)
        await send_answer(
            exchange.send,
            answer.status,
            headers,
            answer.content,
            with_body=exchange.scope["method"] != "HEAD",
            drain=partial(self._drains.drain, exchange.body) if refused_body else None,
        )

    async def _refuse(self, exchange: Exchange, error: Exception) -> None:
        failure = failure_of(error)
        if failure is None:
            return
        if failure is INTERNAL:
            log.exception("request_failed", upload=exchange.upload_id, exc_info=error)
        elif failure.status >= 500:
            reason = f"{type(error).__name__}: {error}"
            log.warning(
                "request_refused", upload=exchange.upload_id, code=failure.code, reason=reason
            )
        headers = headers_of(error, failure)
        status = failure.status
        if exchange.method == "HEAD":
            headers["Upload-Error"] = failure.code  # no body can tell it
            if status >= 500:
                # Clients forget an upload whose HEAD fails with anything but 423 ("not now").
                status = 423
                headers["Retry-After"] = str(RETRY_AFTER_S)
        if self._emit is not None:
            self._emit(RequestRefused(status=status, code=failure.code))
        if status == 405:
            headers["Allow"] = METHODS
        headers |= {"Content-Type": PROBLEM, "Cache-Control": "no-store"}
        content = problem(error, failure)
        said = error.answer if isinstance(error, HookRefusal) else None
        refused_body = _has_unread(exchange)
        await self._answer(exchange, status, headers, content, refused_body=refused_body, said=said)


def _has_unread(exchange: Exchange) -> bool:
    if exchange.body.ended:
        return False
    chunked = "transfer-encoding" in exchange.headers
    return chunked or exchange.headers.get("content-length", "0") != "0"


def _shows_offset(session: UploadSession) -> bool:
    """Concatenation: a final upload has no offset before it is there."""
    return session.kind is not Kind.FINAL or session.state is SessionState.COMPLETED


def _expires(session: UploadSession) -> datetime | None:
    return None if session.state is SessionState.COMPLETED else session.expires_at
