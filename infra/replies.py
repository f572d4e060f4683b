"""What an HTTP reply says went wrong, in terms of the error tree."""

import json

from infra.errors import InputError, TryAgainError

RETRYABLE = frozenset({408, 409, 425, 429})
"""Client errors that say "later", not "wrong"."""


def error_message(body: bytes) -> str:
    """The human part of an OpenAI-style error body; the first 200 characters of any other body."""
    text = body.decode("utf-8", "replace")
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError:
        return text[:200]
    error = loaded.get("error", loaded) if isinstance(loaded, dict) else loaded
    if isinstance(error, dict):
        return str(error.get("message") or error.get("detail") or error)[:200]
    return str(error)[:200]


def raise_for_status(status: int, body: bytes, where: str) -> None:
    """Translate an HTTP status: TryAgainError for 5xx and "later", InputError for other 4xx, nothing below 400."""
    if status < 400:
        return
    detail = f"{where}: {status} {error_message(body)}"
    if status >= 500 or status in RETRYABLE:
        raise TryAgainError(detail)
    raise InputError(detail)
