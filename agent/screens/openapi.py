"""The OpenAPI 3.1 document of everything that is served, made from the routes and the schemas in openapi.json.

A schema there is a name (`?` behind it: or null), `[…]` an array, `{…}` an object of which all keys are there but those
with a `?`; `"*"`: any key, `"?"`: or null.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from agent import __version__
from agent.config.oidc import CALLBACK
from agent.deadline import Verdict
from agent.journal.recordings import Sort
from agent.model import AssetState, Completeness
from agent.screens.answers import TEXT, TEXT_LIMIT, answer, parameters
from agent.screens.filters import ID, PAGE_LIMIT
from agent.screens.pages import CHOICES
from agent.screens.who import Role, allowed, roles_of
from agent.status.sessions import PARTS_LIMIT
from agent.status.views import to_json

Json = dict[str, Any]

_NAME: Final = r"^[^/\x00-\x20\x7f.][^/\x00-\x1f\x7f]*$"
_PLAIN: Final[Mapping[str, Mapping[str, Any]]] = {
    "any": {},
    "null": {"type": "null"},
    "text": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "object": {"type": "object"},
    "time": {"type": "string", "format": "date-time"},
    "day": {"type": "string", "format": "date"},
    "number": {"type": "number"},
    "part": {"type": "integer", "minimum": 1, "maximum": PARTS_LIMIT},
    "place": {"type": "integer", "minimum": 0, "maximum": (1 << 62)},
    "limit": {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": 50},
    "given": {"type": "string", "maxLength": TEXT_LIMIT, "pattern": f"^{TEXT}$"},
    "name": {"type": "string", "minLength": 1, "maxLength": TEXT_LIMIT, "pattern": _NAME},
    "id": {"type": "string", "maxLength": TEXT_LIMIT, "pattern": f"^{ID}$"},
    **{kind.__name__: {"type": "string", "enum": list(kind)} for kind in (AssetState, Verdict, Completeness, Sort)},
}
_COMMON: Final = ("304", "400", "421", "503")
_SECURITY: Final[Mapping[str, Mapping[str, str]]] = {
    "token": {"type": "http", "scheme": "bearer"},
    "session": {"type": "apiKey", "in": "cookie", "name": "session"},
}


def routes(app: web.Application) -> list[web.RouteDef]:
    """The document about the routes of `app`, made when it is asked for first."""

    @cache
    def made() -> bytes:
        return to_json(document(app))

    @allowed(*(role for role in Role if role is not Role.PUBLIC))
    async def openapi(request: web.Request) -> web.Response:
        """What is served, as OpenAPI 3.1."""
        parameters(request)
        return answer(request, made())

    return [web.get("/api/v1/openapi.json", openapi)]


def document(app: web.Application) -> Json:
    """Every route of an application, whom it answers and what; schemas are of JSON Schema 2020-12."""
    paths: Json = {}
    for route in app.router.routes():
        if route.resource is not None and route.method != "HEAD":
            path = route.resource.canonical
            paths.setdefault(path, {})[route.method.lower()] = _operation(path, route.method, route.handler)
    known = {name: _schema(short) for name, short in _words()["schemas"].items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "capture-agent",
            "version": __version__,
            "description": "Read-only but for forms of signed-in persons; nothing here removes or edits a recording.",
        },
        "paths": paths,
        "components": {"schemas": known, "securitySchemes": _SECURITY},
    }


def _operation(path: str, method: str, handler: Handler | type[web.View]) -> Json:
    roles, told = roles_of(handler), inspect.getdoc(handler) or path
    summary, _, more = told.partition("\n\n")
    words, names = _words(), re.findall(r"{(\w+)}", path)
    kind = _kind(path)
    query = words["query"].get(path, CHOICES if kind == "text/html" and method == "GET" else {})
    given = [{"name": name, "in": "path", "required": True, "schema": _schema("name")} for name in names]
    given += [
        {"name": name, "in": place, "required": False, "schema": _schema(one)}
        for place, asked in (("query", query), ("header", words["headers"].get(path, {})))
        for name, one in asked.items()
    ]
    operation: Json = {
        "summary": " ".join(summary.split()),
        "description": " ".join([*more.split(), "Answers:", ", ".join(sorted(roles)) + "."]),
        "operationId": f"{method.lower()} {path}",
        "parameters": given,
        "responses": {
            **_answers(path),
            **{code: _refusal(code) for code in _refusals(path, method, roles, is_named=bool(names))},
        },
        "security": _security(roles),
        "x-roles": sorted(roles),
    }
    if method == "POST":
        form = {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}
        operation["requestBody"] = {"content": {"application/x-www-form-urlencoded": form}}
    return operation


def _answers(path: str) -> Json:
    kind, schema = _kind(path), _schema(_words()["answers"].get(path, "text"))
    found: Json = {"200": {"description": "as asked", "content": {kind: {"schema": schema}}}}
    if path == "/readyz":
        either = {"anyOf": [schema, _schema("Error")]}
        found["503"] = {"description": "it doesn't work", "content": {kind: {"schema": either}}}
    return found


def _kind(path: str) -> str:
    words = _words()
    return "application/json" if path in words["answers"] else str(words["kinds"].get(path, "text/html"))


def _refusals(path: str, method: str, roles: frozenset[Role], *, is_named: bool) -> Iterator[str]:
    yield from (code for code in _COMMON if not (path == "/readyz" and code == "503"))
    if Role.PUBLIC not in roles:
        yield from ("401", "403")
    if path.startswith(CALLBACK):
        yield from ("403", "404", "429")
    if is_named:
        yield "404"
    if "Range" in _words()["headers"].get(path, {}):
        yield from ("206", "416")
    if not path.startswith("/api/"):
        yield "303"
    if method == "POST":
        yield from ("413", "415", "429")


def _refusal(code: str) -> Json:
    told: Json = {"description": _words()["statuses"][code]}
    return told if code < "400" else told | {"content": {"application/json": {"schema": _schema("Error")}}}


def _security(roles: frozenset[Role]) -> list[Json]:
    """With a token or a session; also without, where everybody or who stands at the dock is answered."""
    nobody: list[Json] = [{}] if roles & {Role.PUBLIC, Role.KIOSK} else []
    return [*nobody, {"token": []}, {"session": []}] if Role.PUBLIC not in roles else []


def _schema(short: object) -> Json:
    if isinstance(short, tuple):
        return {"type": "string", "enum": list(short)}
    if isinstance(short, list):
        return {"type": "array", "items": _schema(short[0])}
    if isinstance(short, str):
        name = short.removesuffix("?")
        known: Json = dict(_PLAIN[name]) if name in _PLAIN else {"$ref": f"#/components/schemas/{name}"}
        return {"anyOf": [known, {"type": "null"}]} if name != short else known
    assert isinstance(short, dict), "the file has nothing else"
    if "*" in short:
        return {"type": "object", "additionalProperties": _schema(short["*"])}
    keys = {name.removesuffix("?"): _schema(part) for name, part in short.items() if name != "?"}
    made = {"type": "object", "properties": keys, "required": [name for name in short if not name.endswith("?")]}
    return {"anyOf": [made, {"type": "null"}]} if "?" in short else made


@cache
def _words() -> Json:
    found: Json = json.loads(resources.files("agent.screens").joinpath("openapi.json").read_text("utf-8"))
    return found
