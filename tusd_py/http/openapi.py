"""The OpenAPI document of the session API, made from the table and the models that serve it."""

import json
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tusd_py import __version__
from tusd_py.http.answers import PROBLEM
from tusd_py.http.broker import OPERATIONS, Operation
from tusd_py.http.cors import Cors
from tusd_py.http.resource import Resource
from tusd_py.http.session_views import ProblemView
from tusd_py.protocol.headers import UPLOAD_ID

PATH = "/openapi.json"
_JSON = "application/json"
_REF = "#/components/schemas/{model}"
_ALWAYS = (401, 403, 405, 503)
_WITH_BODY = (413, 415)


def document(server_url: str) -> dict[str, Any]:
    """The document, for a server whose endpoints begin at `server_url`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tusd-py: upload sessions",
            "version": __version__,
            "description": "Direct-to-storage upload sessions. Errors are application/problem+json"
            " with a stable `code`.",
        },
        "servers": [{"url": server_url or "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(OPERATIONS)},
    }


class OpenApi:
    """Serves the document."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors

    def routes(self) -> list[BaseRoute]:
        """GET /openapi.json"""
        return [Route(PATH, Resource({"GET": self.show}, self._cors))]

    async def show(self, request: Request) -> Response:
        """GET /openapi.json"""
        content = json.dumps(document(request.scope.get("root_path", "")))
        return Response(content, media_type=_JSON)


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    names = re.findall(r"\{(\w+)\}", operation.path)
    if names:
        described["parameters"] = [_path_parameter(name) for name in names]
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {_JSON: {"schema": _ref(operation.body)}},
        }
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    refusals = {*operation.refusals, *_ALWAYS}
    if operation.body is not None:
        refusals.update(_WITH_BODY)
    responses: dict[str, Any] = {
        str(operation.status): {
            "description": "Done",
            "content": {_JSON: {"schema": _ref(operation.answer)}},
        }
    }
    for status in sorted(refusals):
        responses[str(status)] = {
            "description": "Refused: see `code`",
            "content": {PROBLEM: {"schema": _ref(ProblemView)}},
        }
    return responses


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{UPLOAD_ID.pattern}$"},
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    bodies = {operation.body for operation in operations if operation.body is not None}
    answers = {operation.answer for operation in operations} | {ProblemView}
    _, definitions = models_json_schema(
        [
            *((model, "validation") for model in sorted(bodies, key=_name)),
            *((model, "serialization") for model in sorted(answers, key=_name)),
        ],
        ref_template=_REF,
    )
    found: dict[str, Any] = definitions["$defs"]
    return found


def _name(model: type[BaseModel]) -> str:
    return model.__name__
