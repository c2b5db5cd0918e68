"""The operator's page and its JSON, below `/operator`. `docs/operator.md` describes both.

Owns the routes, the parameters and the headers. What is shown and done is `tusd_py.operator`'s; who
may see it is decided in `operator_gate`.
"""

import time
from html import escape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from tusd_py import operator as package
from tusd_py.http.cors import Cors
from tusd_py.http.json_errors import BodyTooLarge, InvalidBody, InvalidQuery
from tusd_py.http.operator_events import Events
from tusd_py.http.operator_gate import Gate, Proof, refuse_foreign
from tusd_py.http.resource import Handler, Resource
from tusd_py.http.static_files import MEDIA_TYPES, files_in
from tusd_py.operator import views
from tusd_py.operator.access import COOKIE, LASTS_S
from tusd_py.operator.service import MAX_PAGE, Operator
from tusd_storage.records import JobState, SessionState

log = structlog.get_logger(__name__)

PATH = "/operator"
LISTING_COMMAND = "tusd-py uploads ls"
"""In the page; replaced where another is known to work as it stands."""
WEB = Path(package.__file__).parent / "web"
MAX_FORM_SIZE = 4096
MAX_FIELDS = 10
REFUSALS_LOGGED_EVERY_S = 10.0

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_SIGN_OUT = b'id="sign-out"'
_WRONG = b"<!-- wrong -->"
_WRONG_TEXT = b'<p class="wrong" role="alert">That is not the token.</p>'

Kind = TypeVar("Kind", JobState, SessionState)


def is_operator(path: str) -> bool:
    """Whether a path, without the root path, is one of these."""
    return path == PATH or path.startswith(f"{PATH}/")


def routes(operator: Operator, gate: Gate, *, command: str = LISTING_COMMAND) -> list[BaseRoute]:
    """The routes; they work under any `root_path`. `command` lists the same in a terminal."""
    page, api = OperatorPage(gate, command), OperatorApi(operator)
    closed = Cors(())
    guarded: list[tuple[str, dict[str, Handler]]] = [
        ("/snapshot", {"GET": api.snapshot}),
        ("/events", {"GET": api.events}),
        ("/uploads", {"GET": api.uploads}),
        ("/uploads/{ref}", {"GET": api.upload}),
        ("/uploads/{ref}/cancel", {"POST": api.cancel}),
        ("/uploads/{ref}/retry", {"POST": api.retry}),
        ("/jobs", {"GET": api.jobs}),
        ("/jobs/{job_id}", {"GET": api.job}),
        ("/jobs/{job_id}/retry", {"POST": api.retry_job}),
    ]
    return [
        Route(PATH, Resource({"GET": page.enter}, closed)),
        Route(f"{PATH}/", Resource({"GET": page.show}, closed)),
        Route(f"{PATH}/login", Resource({"GET": page.form, "POST": page.sign_in}, closed)),
        Route(f"{PATH}/logout", Resource({"POST": page.sign_out}, closed)),
        Route(f"{PATH}/assets/{{name}}", Resource({"GET": page.asset}, closed)),
        *(
            Route(
                f"{PATH}/api{path}",
                Resource(
                    {method: _guarded(gate, handler) for method, handler in handlers.items()},
                    closed,
                ),
            )
            for path, handlers in guarded
        ),
    ]


def _guarded(gate: Gate, handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        gate.check(request)
        return await handler(request)

    return answer


class OperatorPage:
    """The page, its files, and signing in."""

    def __init__(self, gate: Gate, command: str) -> None:
        self._gate = gate
        self._files = files_in(WEB)
        text = self._files["operator.html"].content
        self._page = text.replace(LISTING_COMMAND.encode(), escape(command).encode())
        self._logged_at = -REFUSALS_LOGGED_EVERY_S

    async def enter(self, _: Request) -> Response:
        """GET /operator: addresses in the page are relative to the slash."""
        return RedirectResponse("operator/", 308)

    async def show(self, request: Request) -> Response:
        """GET /operator/"""
        proof = self._gate.proof(request)
        if proof is None:
            return RedirectResponse("login", 303)
        content = self._page
        if proof is Proof.COOKIE:
            content = content.replace(_SIGN_OUT + b" hidden", _SIGN_OUT)
        return Response(content, headers=HEADERS, media_type=MEDIA_TYPES[".html"])

    async def form(self, request: Request) -> Response:
        """GET /operator/login"""
        if self._gate.proof(request) is not None:
            return RedirectResponse("./", 303)
        return self._files["login.html"].answer(request, HEADERS)

    async def sign_in(self, request: Request) -> Response:
        """POST /operator/login, a form with `token`"""
        refuse_foreign(request)
        token = self._gate.token
        given = (await _form(request)).get("token", "")
        if token is None or not token.matches(given):
            self._log_refusal(request)
            content = self._files["login.html"].content.replace(_WRONG, _WRONG_TEXT)
            return Response(content, 401, HEADERS, media_type=MEDIA_TYPES[".html"])
        answer = RedirectResponse("./", 303)
        answer.headers["set-cookie"] = _cookie(
            request, token.sign_in(time.time()), max_age_s=LASTS_S
        )
        log.info("operator_signed_in")
        return answer

    async def sign_out(self, request: Request) -> Response:
        """POST /operator/logout"""
        refuse_foreign(request)
        answer = RedirectResponse("login", 303)
        answer.headers["set-cookie"] = _cookie(request, "", max_age_s=0)
        return answer

    async def asset(self, request: Request) -> Response:
        """GET /operator/assets/{name}: nothing in them is secret."""
        file = self._files.get(request.path_params["name"])
        if file is None or request.path_params["name"].endswith(".html"):
            return Response(status_code=404, headers=HEADERS)
        return file.answer(request, HEADERS)

    def _log_refusal(self, request: Request) -> None:
        """Some of them: whoever guesses shall not fill the log."""
        now = time.monotonic()
        if now - self._logged_at >= REFUSALS_LOGGED_EVERY_S:
            self._logged_at = now
            client = request.client.host if request.client else None
            log.warning("operator_sign_in_refused", client=client)


class OperatorApi:
    """The JSON."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def snapshot(self, _: Request) -> Response:
        """GET /operator/api/snapshot"""
        picture = await self._operator.watcher.picture()
        return Response(picture, media_type=JSONResponse.media_type)

    async def events(self, _: Request) -> Response:
        """GET /operator/api/events"""
        return Events(self._operator.watcher)

    async def uploads(self, request: Request) -> Response:
        """GET /operator/api/uploads"""
        query = request.query_params
        page = await self._operator.uploads(
            state=_choice(request, "state", SessionState),
            owner=query.get("owner"),
            node=query.get("node"),
            stuck=query.get("stuck", "false") in ("true", "1"),
            after=query.get("after"),
            limit=_limit(request),
        )
        found = [views.upload(session) for session in page.sessions]
        return JSONResponse({"uploads": found, "next": page.next})

    async def upload(self, request: Request) -> Response:
        """GET /operator/api/uploads/{ref}"""
        session = await self._operator.find(request.path_params["ref"])
        return JSONResponse(views.detail(session, await self._operator.asset(session)))

    async def cancel(self, request: Request) -> Response:
        """POST /operator/api/uploads/{ref}/cancel"""
        return JSONResponse(views.upload(await self._operator.cancel(request.path_params["ref"])))

    async def retry(self, request: Request) -> Response:
        """POST /operator/api/uploads/{ref}/retry"""
        return JSONResponse(views.upload(await self._operator.retry(request.path_params["ref"])))

    async def jobs(self, request: Request) -> Response:
        """GET /operator/api/jobs"""
        limit = _limit(request)
        jobs = await self._operator.jobs(
            state=_choice(request, "state", JobState),
            after=request.query_params.get("after"),
            limit=limit,
        )
        following = jobs[-1].id if len(jobs) == limit else None
        return JSONResponse({"jobs": [views.job(job) for job in jobs], "next": following})

    async def job(self, request: Request) -> Response:
        """GET /operator/api/jobs/{job_id}"""
        return JSONResponse(views.job(await self._operator.job(request.path_params["job_id"])))

    async def retry_job(self, request: Request) -> Response:
        """POST /operator/api/jobs/{job_id}/retry"""
        job = await self._operator.retry_job(request.path_params["job_id"])
        return JSONResponse(views.job(job))


def _choice(request: Request, name: str, kind: type[Kind]) -> Kind | None:
    value = request.query_params.get(name)
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise InvalidQuery(f"{name} is one of {', '.join(kind)}") from None


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "50")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_PAGE):
        raise InvalidQuery(f"limit is a number from 1 to {MAX_PAGE}")
    return int(text)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, the first of each name. Raises: BodyTooLarge, InvalidBody."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_SIZE:
            raise BodyTooLarge(f"the form is longer than {MAX_FORM_SIZE} bytes")
    try:
        fields = parse_qs(bytes(body).decode("utf-8", "replace"), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidBody(f"the form has more than {MAX_FIELDS} fields") from None
    return {name: values[0] for name, values in fields.items()}


def _cookie(request: Request, value: str, *, max_age_s: int) -> str:
    """For the page and its JSON only; no script reads it, no other site's link sends it."""
    jar: SimpleCookie = SimpleCookie()
    jar[COOKIE] = value
    morsel = jar[COOKIE]
    morsel["path"] = f"{request.scope.get('root_path', '')}{PATH}"
    morsel["max-age"] = max_age_s
    morsel["httponly"] = True
    morsel["samesite"] = "Strict"
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    if request.url.scheme == "https" or forwarded == "https":
        morsel["secure"] = True
    return morsel.OutputString()
