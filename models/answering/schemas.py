"""JSON schemas that a client sends: what of them is taken, and whether a value meets one."""

from collections.abc import Callable
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from infra.errors import InputError

MOST_LEVELS = 24


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
