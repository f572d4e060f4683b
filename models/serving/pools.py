"""Engines of one release in pools: prompts that are short apart from long ones, several replicas of each."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from infra.settings import Spec
from models.answering.context import token_counter
from models.types import Message

FRAME_TOKENS = 8
"""What a chat template adds to a message, as an upper guess."""
MAIN = "main"
SMALL = "small"
"""The pool of the small model of a release that routes."""
HOSTED = "hosted"
"""The pool of the model that somebody else serves: another one than the release's."""
TAKEN = {SMALL: "a release's small model", HOSTED: "the model of gateway.hosted"}
"""Names that no pool of the policy may have, and whose they are."""


class PoolSpec(Spec):
    """One pool of engines; what is left out holds as section `engine` says."""

    name: str = Field(pattern="^[a-z][a-z0-9]{0,15}$")
    """Shown in traces and metrics."""
    max_prompt_tokens: int | None = Field(None, ge=1)
    """Longest prompt that is sent here; null: any."""
    replicas: int = Field(1, ge=1, le=64)
    """Engines of the pool, used in turn."""
    max_model_len: int | None = Field(None, ge=128, le=1_048_576)
    """See EngineSpec."""
    kv_cache_gib: float | None = Field(None, gt=0, le=1024)
    """See EngineSpec."""
    max_num_seqs: int | None = Field(None, ge=1, le=1024)
    """See EngineSpec."""


class Place(BaseModel):
    """One engine that answers for a release: pool, server root (without /v1), model name, longest prompt."""

    model_config = ConfigDict(frozen=True)

    pool: str = MAIN
    base_url: str
    model: str
    max_prompt_tokens: int | None = None


def prompt_counter(model: Path) -> Callable[[Sequence[Message]], int]:
    """Counts the tokens of messages with the tokenizer of the model folder; a few for each message's frame too."""
    count = token_counter(model)
    return lambda messages: sum(count(message.content) + FRAME_TOKENS for message in messages)


def own(places: Sequence[Place]) -> list[Place]:
    """Where the model of a release answers, its small model left out."""
    return [place for place in places if place.pool != SMALL]


def in_order(places: Sequence[Place], prompt_tokens: int, turn: int) -> list[Place]:
    """Where a prompt of this length may go, best first: the pool of the shortest prompts that takes it, then others.

    Replicas of a pool take turns. A prompt that no pool takes goes to that of the longest ones, which says so.
    """
    fitting = [place for place in places if place.max_prompt_tokens is None or prompt_tokens <= place.max_prompt_tokens]
    bounds = sorted({bound(place) for place in fitting or places})
    if not fitting:
        bounds, fitting = bounds[-1:], list(places)
    ordered = []
    for longest in bounds:
        pool = [place for place in fitting if bound(place) == longest]
        start = turn % len(pool)
        ordered += pool[start:] + pool[:start]
    return ordered


def bound(place: Place) -> float:
    """Longest prompt that goes there."""
    return float("inf") if place.max_prompt_tokens is None else place.max_prompt_tokens
