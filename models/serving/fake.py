"""An engine for unit tests: answers from a function, fails by script, remembers what it was asked."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.errors import SluiceError
from models.types import Engine, Message, Piece, Sampling

Answering = Callable[[str, Sequence[Message]], str]
"""(model, messages) → answer text."""


class Asked(BaseModel):
    """One request that the fake engine got."""

    model_config = ConfigDict(frozen=True)

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    json_schema: dict[str, Any] | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class FakeEngine(Engine):
    """Scripted engine. `failures` is consumed one entry a call, None meaning success; tokens are words."""

    def __init__(self, answer: Answering | str, failures: Sequence[SluiceError | None] = ()) -> None:
        self._answer = answer
        self._failures = list(failures)
        self.asked: list[Asked] = []
        self.closed = False

    def _reply(self, asked: Asked) -> tuple[list[str], bool]:
        """The words of the answer with their trailing spaces, and whether `max_tokens` cut it."""
        self.asked.append(asked)
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        text = self._answer if isinstance(self._answer, str) else self._answer(asked.model, asked.messages)
        words = text.split(" ")
        pieces = [word + " " for word in words[:-1]] + words[-1:]
        return pieces[: asked.max_tokens], len(pieces) > asked.max_tokens

    async def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        """See Engine: word by word."""
        asked = Asked(
            model=model, messages=tuple(messages), max_tokens=sampling.max_tokens, temperature=sampling.temperature,
            json_schema=sampling.schema, options=dict(sampling.options),
        )  # fmt: skip
        words, cut = self._reply(asked)
        for word in words:
            yield Piece(text=word, engine=f"fake:{model}")
        yield Piece(
            finish_reason="length" if cut else "stop",
            prompt_tokens=sum(len(message.content.split()) for message in messages),
            completion_tokens=len(words),
            engine=f"fake:{model}",
        )

    async def close(self) -> None:
        """See Engine."""
        self.closed = True
