"""Which model answers a question: the classifier is asked with what the search found, before anything is written."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from indexes.types import Embedder, Passage, Vectors
from models.types import Engine


class ModelAt(NamedTuple):
    """A model by its engine and its name there."""

    engine: Engine
    name: str


class Foretelling(Protocol):
    """Port: question and ranked passages → P(the small model is good enough). See Difficulty."""

    def probability(self, question: str, vector: Vectors, passages: Sequence[Passage]) -> float: ...


@dataclass(frozen=True, slots=True)
class Router:
    """The small model of a release, and who says which questions it gets."""

    small: ModelAt
    """Its engine asks the large model where the small one fails."""
    difficulty: Foretelling
    embedder: Embedder
    threshold: float
    """Lowest probability that goes to the small model."""

    async def probability(self, question: str, passages: Sequence[Passage]) -> float:
        """What is foretold of a question; in a thread, as the search is."""

        def foretold() -> float:
            return self.difficulty.probability(question, self.embedder.query(question), passages)

        return await asyncio.to_thread(foretold)
