"""Answers for paths at which nothing is served, and for methods that such a path does not take.

Knows where uploads are, so that a client with a wrong address is told the right one.
"""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from tusd_py.http.answers import PROBLEM
from tusd_py.http.errors import TABLE, problem
from tusd_py.http.json_errors import NoSuchPath
from tusd_py.http.locations import Locations
from tusd_py.protocol.errors import MethodNotAllowed


def handlers(locations: Locations) -> Mapping[int, ExceptionHandler]:
    """What Starlette asks when no route fits: problems instead of plain text."""

    async def unknown(request: Request, _: Exception) -> Response:
        where = locations.path(request.scope)
        return _refuse(NoSuchPath(f"nothing is served here; uploads are at {where}"))

    async def wrong_method(_: Request, refused: Exception) -> Response:
        headers = (refused.headers if isinstance(refused, HTTPException) else None) or {}
        error = MethodNotAllowed(f"this takes {headers.get('Allow', 'other methods')}")
        return _refuse(error, headers)

    return {404: unknown, 405: wrong_method}


def _refuse(error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    failure = TABLE[type(error)]
    answered = {**(headers or {}), "Content-Type": PROBLEM, "X-Content-Type-Options": "nosniff"}
    return Response(problem(error, failure), failure.status, headers=answered)
