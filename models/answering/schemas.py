"""JSON schemas: what is taken of a client's, whether a value meets one, and those that a call of a tool is held to."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from infra.errors import InputError, TryAgainError

MOST_LEVELS = 24
NO_CALL = "none"
"""What a model names when no tool fits."""


def _anything(*_: Any) -> None:
    """Regular expressions of a client are not run here: one can be made to run for hours."""


_Validator: Callable[..., Any] = extend(Draft202012Validator, {"pattern": _anything, "patternProperties": _anything})


def _levels(value: Any, left: int = MOST_LEVELS) -> bool:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return left > 0 and all(_levels(one, left - 1) for one in inner)
    return True


def check_schema(schema: dict[str, Any], field: str) -> None:
    """Raise InputError, which names the field, unless this is a JSON schema of a reasonable depth."""
    if not _levels(schema):
        raise InputError(f"{field}: nested deeper than {MOST_LEVELS} levels")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InputError(f"{field}: no JSON schema: {error.message[:200]}") from error


def violation(value: Any, schema: dict[str, Any]) -> str:
    """What a value has against a schema, or an empty text. References lead nowhere outside the schema."""
    try:
        _Validator(schema, registry=Registry()).validate(value)
    except ValidationError as error:
        return f"{error.json_path}: {error.message}"[:300]
    except (Unresolvable, RecursionError) as error:
        return f"the schema cannot be used: {type(error).__name__}"
    return ""


def calls_schema(calls: Sequence[tuple[str, dict[str, Any]]], may_decline: bool) -> dict[str, Any]:
    """What a model may write that decides about a call: one of (name, schema of its arguments), or that none fits."""
    choices = [
        _object({"name": {"const": name}, "arguments": arguments}, ["name", "arguments"]) for name, arguments in calls
    ]
    if may_decline:
        choices.append(_object({"name": {"const": NO_CALL}}, ["name"]))
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def how_to_decline() -> str:
    """Tells a model what to write when no tool fits."""
    return f' If none fits, write {{"name":"{NO_CALL}"}}.'


def written_call(text: str) -> tuple[Any, dict[str, Any]]:
    """(name, the whole object) of a call that a model wrote. Raises TryAgainError where the text is none."""
    try:
        written = orjson.loads(text)
        return written["name"], written
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise TryAgainError(f"tool call: the model wrote none: {type(error).__name__}") from error
