"""The gateway's description of itself (/openapi.json): keys, errors, streams, in the form that Swagger UI reads."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from models.serving.bodies import ErrorBody

Json = dict[str, Any]
Replies = dict[int | str, Json]
"""Status → what is sent with it, as FastAPI takes it."""

ABOUT = """Questions in, guarded answers with their sources out.

Paths under `/v1/` need a key: *Authorize* takes it. The same key works with the official `openai` client when its
`base_url` ends in `/v1`. Errors have OpenAI's form everywhere; 429 and 503 say in `Retry-After` how many seconds to
wait."""

KEYED = "/v1/"
"""Paths below it need a key: what `Entrance` asks for."""
REFUSALS = {
    400: "The body cannot be read.",
    401: "No key, or one that is not known.",
    403: "The key may not do this.",
    404: "Nothing has this name.",
    413: "The body is too large.",
    422: "A field is missing or wrong: `error.param` names it.",
    429: "Too much at once or too much a day: wait as long as `Retry-After` says.",
    503: "A part is not available: try again after `Retry-After`.",
    504: "It took too long.",
}
"""What any keyed path may answer beside its own bodies."""
WAITS = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
NAMES = {
    "X-Sluice-Release": {"description": "Digest of the release that answered.", "schema": {"type": "string"}},
    "X-Sluice-Trace": {"description": "Trace id of the answer.", "schema": {"type": "string"}},
}
"""Headers of every answer."""


def replies(body: type[BaseModel], *, stream: str = "", named: bool = False) -> Replies:
    """What a path answers with 200: a body, perhaps server-sent events instead, perhaps release and trace as headers.

    `stream` says what the events are; the schema is that of one event.
    """
    reply: Json = {"model": body, "description": (body.__doc__ or "").strip()}
    if named:
        reply["headers"] = NAMES
    if stream:
        fields = {"event": {"type": "string"}, "data": {"type": "string"}}
        event = {"type": "object", "description": stream, "properties": fields, "required": ["data"]}
        reply["content"] = {"text/event-stream": {"schema": event}}
    return {200: reply}


def describe(app: FastAPI) -> None:
    """Let `app.openapi()` tell what the routes leave to the entrance: the key, and the errors of every path."""

    def schema() -> Json:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=ABOUT, routes=app.routes, openapi_version="3.0.3"
            )
            _add_errors(made)
            app.openapi_schema = _older(made)
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]


def _operations(schema: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            yield path, operation


def _add_errors(schema: Json) -> None:
    """Keys and refusals; FastAPI's own form of 422, which the gateway never sends, goes.

    The docstring of an endpoint is `METHOD path: what it does`; the page shows what it does.
    """
    parts = schema.setdefault("components", {})
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "Your key."}}
    models = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        models.pop(name, None)
    defined = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    models |= defined.pop("$defs") | {"ErrorBody": defined}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    for path, operation in _operations(schema):
        said = operation["responses"]
        operation["tags"] = ["With a key" if path.startswith(KEYED) else "Without a key"]
        operation["summary"] = operation.pop("description").partition(": ")[2]
        said.pop("422", None)
        if not path.startswith(KEYED):
            if operation.get("parameters"):
                said["422"] = {"description": REFUSALS[422], "content": content}
            continue
        operation["security"] = [{"key": []}]
        for status, meaning in REFUSALS.items():
            waits = {"headers": WAITS} if status in (429, 503) else {}
            said[str(status)] = {"description": meaning, "content": content, **waits}


def _older(part: Any) -> Any:
    """JSON schema of OpenAPI 3.1 as 3.0 writes it: `nullable`, no `const`, bounds that are flags."""
    if isinstance(part, list):
        return [_older(one) for one in part]
    if not isinstance(part, dict):
        return part
    made = {key: _older(value) for key, value in part.items() if key not in ("const", "propertyNames")}
    if "const" in part:
        made["enum"] = [part["const"]]
    for edge, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(made.get(edge), int | float) and not isinstance(made[edge], bool):
            made[bound], made[edge] = made[edge], True
    choices = made.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        others = [one for one in choices if one != {"type": "null"}]
        del made["anyOf"]
        kind = others[0] if len(others) == 1 and "$ref" not in others[0] else {"anyOf": others}
        made = {**kind, **made, "nullable": True}
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    return made
