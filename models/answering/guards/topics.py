"""Topics that a release does not speak of, by examples: what is nearest to a question decides, an example or a passage.

Nearest neighbour (Cover and Hart 1967) on the release's own vectors, its documents being the examples of what is
spoken of: nothing is trained, and documents about a topic open it.
"""

import asyncio

import numpy as np

from indexes.retriever import Retriever
from indexes.types import Embedder
from infra.errors import SetupError
from models.answering.guards.policy import ACTIONS
from models.answering.guards.topic_policy import TopicPolicy
from models.answering.trail import Trail
from models.types import GuardEvent


class Topics:
    """Says which topic a question is about."""

    def __init__(self, policy: TopicPolicy, embedder: Embedder, retriever: Retriever) -> None:
        """The encoder is that of the retriever's index."""
        self._policy = policy
        self._embedder = embedder
        self._retriever = retriever
        self._names = [name for name, questions in policy.examples.items() for _ in questions]
        self._examples = np.stack([embedder.query(one) for found in policy.examples.values() for one in found])

    async def allow(self, trail: Trail, question: str, access: frozenset[str]) -> bool:
        """Whether a question may be answered: the step of a request, in a thread, as the search is."""
        with trail.step("guard_topic") as note:
            event = await asyncio.to_thread(self.event, question, access)
            note["events"] = int(event is not None)
        if event is None:
            return True
        trail.events.append(event)
        return event.action != "block"

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


def open_topics(policy: TopicPolicy | None, embedder: Embedder | None, retriever: Retriever) -> Topics | None:
    """The topics of a policy that has some. Raises: SetupError without an encoder."""
    if policy is None:
        return None
    if embedder is None:
        raise SetupError("guards.topics: a pipeline without an encoder cannot compare questions with examples")
    return Topics(policy, embedder, retriever)
