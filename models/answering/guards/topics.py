"""Topics that a release does not speak of, by examples: what is nearest to a question decides, an example or a passage.

Nearest neighbour (Cover and Hart 1967) on the release's own vectors, its documents being the examples of what is
spoken of: nothing is trained, and documents about a topic open it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from indexes.retriever import Retriever
from indexes.types import Embedder
from infra.settings import Spec
from models.types import GuardEvent

Question = Annotated[str, Field(min_length=1, max_length=1000)]
ACTIONS: Mapping[str, Literal["flag", "block"]] = {"flag": "flag", "refuse": "block"}


class TopicPolicy(Spec):
    """What is not spoken of, and how near a question comes to it."""

    does: Literal["flag", "refuse"]
    """A question about a topic: answer and note it, or refuse."""
    examples: dict[str, Annotated[tuple[Question, ...], Field(min_length=1)]] = Field(min_length=1)
    """Topic → questions about it. Few of different kinds find more than many alike."""
    min_similarity: float = Field(0.25, ge=0, le=1)
    """Least cosine between a question and an example. A question that is near nothing is about none of the topics."""


class Topics:
    """Says which topic a question is about."""

    def __init__(self, policy: TopicPolicy, embedder: Embedder, retriever: Retriever) -> None:
        """The encoder is that of the retriever's index."""
        self._policy = policy
        self._embedder = embedder
        self._retriever = retriever
        self._names = [name for name, questions in policy.examples.items() for _ in questions]
        self._examples = np.stack([embedder.query(one) for found in policy.examples.values() for one in found])

    def event(self, question: str, access: frozenset[str]) -> GuardEvent | None:
        """The topic of a question where it is nearer to an example than to all passages that its caller may see.

        Raises what the encoder and the retriever raise.
        """
        near = self._examples @ self._embedder.query(question)
        best = int(np.argmax(near))
        if near[best] < self._policy.min_similarity:
            return None
        passages = self._retriever.search(question, access, 1, "dense")
        if passages and passages[0].score >= near[best]:
            return None
        detail = f"{self._names[best]}, {near[best]:.2f}"
        return GuardEvent(stage="input", guard="topic", action=ACTIONS[self._policy.does], detail=detail)
