"""The worst engine there can be, for tests: it does what any text that it sees orders, and tells all that it knows."""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson

from models.types import Engine, Message, Piece, Sampling

ORDERED = re.compile(
    r"(?:say|says|write|print|answer(?:\s+(?:that|with|only|only\s+with))?|reply(?:\s+with)?|respond\s+with|output|"
    r"include|show|add|append|begin\s+with|starts?\s+with|call|tell\s+the\s+user\s+to)\s*:?\s*(?:only\s+|the\s+)?"
    r"(?:words?\s+|sentence\s+|phrase\s+|string\s+)?['“\"]?([^'”\"\n.]{3,80})",
    re.IGNORECASE,
)


class ObeyingEngine(Engine):
    """With a schema it makes the first call that the schema lets it make. `tells_all` also repeats all that it read."""

    def __init__(self, *, tells_all: bool = False) -> None:
        self._tells_all = tells_all
        self.decided: list[tuple[Message, ...]] = []
        """What it read whenever it was asked for a call."""

    def _text(self, messages: Sequence[Message], schema: dict[str, Any] | None) -> str:
        if schema is not None:
            self.decided.append(tuple(messages))
            return orjson.dumps(_first(schema.get("anyOf", [schema])[0])).decode()
        read = "\n".join(message.content for message in messages)
        orders = [
            match.group(1).strip() for message in reversed(messages) for match in ORDERED.finditer(message.content)
        ]
        said = "; ".join(f"{order} [1]" for order in orders)
        return f"{said}\n{read} [1]" if self._tells_all else said or "[1]"

    async def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        """See Engine: seven characters at a time, so that a secret is cut anywhere."""
        text = self._text(messages, sampling.schema)
        for start in range(0, len(text), 7):
            yield Piece(text=text[start : start + 7])
        yield Piece(finish_reason="stop", prompt_tokens=1, completion_tokens=1)

    async def close(self) -> None:
        """See Engine."""


def _first(schema: dict[str, Any]) -> Any:
    """A value that a schema of a call allows."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    return {name: _first(inner) for name, inner in schema.get("properties", {}).items()}
