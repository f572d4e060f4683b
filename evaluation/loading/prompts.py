"""Prompts of a load: messages with their longest answer, read from what a release asks or made at random lengths."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.errors import InputError
from infra.settings import Spec
from models.types import Message

FILE = "tokenizer.json"
WORDS = (
    *("water", "river", "valve", "meter", "invoice", "reading", "pressure", "street", "garden", "tariff", "permit"),
    *("supply", "engine", "station", "notice", "payment", "filter", "repair", "winter", "contract", "boundary"),
)
"""What text is made of where the model's tokenizer is not here."""
TRIES = 8
"""Corrections of a random text until it has its length: cutting tokens and joining texts changes the tokens."""


class LoadPrompt(BaseModel):
    """One request of a load."""

    model_config = ConfigDict(frozen=True)

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    """Longest answer; None: the load's."""
    tokens: int = 0
    """Tokens of the texts, without the chat template; 0 where they were not counted."""


class Lengths(Spec):
    """Distribution of a length in tokens (words, where no tokenizer is at hand)."""

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    """fixed: always `mean`; uniform: from `low` to `high`; lognormal: around `mean`, cut at `low` and `high`."""
    mean: int = Field(256, ge=1, le=1_000_000)
    """Mean length (fixed, lognormal)."""
    spread: float = Field(0.5, gt=0, le=10)
    """Lognormal: standard deviation by mean."""
    low: int = Field(1, ge=1, le=1_000_000)
    """Shortest length."""
    high: int = Field(1_000_000, ge=1, le=1_000_000)
    """Longest length."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} exceeds high {self.high}")
        return self

    def draw(self, count: int, source: np.random.Generator) -> list[int]:
        """`count` lengths."""
        if self.kind == "uniform":
            return [int(value) for value in source.integers(self.low, self.high + 1, count)]
        if self.kind == "fixed":
            return [min(max(self.mean, self.low), self.high)] * count
        variance = math.log(1 + self.spread**2)  # of the logarithm, so that mean and deviation are those asked for
        values = source.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), count)
        return [int(value) for value in np.clip(np.rint(values), self.low, self.high)]


class RandomSpec(Spec):
    """Random prompts: as many as asked for, each another text, of random lengths."""

    prompts: int = Field(256, ge=1, le=100_000)
    """How many different ones."""
    input: Lengths = Lengths()
    """Length of the prompt."""
    output: Lengths = Lengths(mean=64)
    """Longest answer; with `ignore_eos` every answer has it."""
    seed: int = 0
    """Of lengths and texts."""


def plain(prompts: Iterable[Sequence[Message]]) -> list[LoadPrompt]:
    """Messages as prompts of a load."""
    return [LoadPrompt(messages=tuple(messages)) for messages in prompts]


def random_prompts(spec: RandomSpec, tokenizer: Path | None) -> list[LoadPrompt]:
    """Random prompts of the lengths asked for, in tokens of the model in folder `tokenizer`; in words without one.

    Raises: InputError for a folder without a tokenizer.
    """
    source = np.random.default_rng(spec.seed)
    inputs, outputs = spec.input.draw(spec.prompts, source), spec.output.draw(spec.prompts, source)
    text = _words(source) if tokenizer is None else _token_text(tokenizer, source)
    made = []
    for length, longest in zip(inputs, outputs, strict=True):
        content, tokens = text(length)
        made.append(LoadPrompt(messages=(Message(role="user", content=content),), max_tokens=longest, tokens=tokens))
    return made


Text = Callable[[int], tuple[str, int]]
"""Length wanted → (text, its tokens, 0 where nobody can count them)."""


def _words(source: np.random.Generator) -> Text:
    def text(length: int) -> tuple[str, int]:
        return " ".join(source.choice(WORDS, length)), 0

    return text


def _token_text(folder: Path, source: np.random.Generator) -> Text:
    """Random tokens of the model, decoded; the text is encoded again and mended until it has its length."""
    from tokenizers import Tokenizer

    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: no {FILE}; random prompts are made with the model's own tokenizer")
    tokenizer = Tokenizer.from_file(str(folder / FILE))
    size = tokenizer.get_vocab_size(with_added_tokens=False)

    def encoded(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def text(length: int) -> tuple[str, int]:
        ids = [int(value) for value in source.integers(0, size, length)]
        for _ in range(TRIES):
            made = str(tokenizer.decode(ids))
            ids = encoded(made)
            if len(ids) == length:
                break
            missing = length - len(ids)
            ids = ids[:length] if missing < 0 else [*ids, *map(int, source.integers(0, size, missing))]
        return made, len(encoded(made))

    return text
