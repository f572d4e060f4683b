"""What a release does not speak of."""

from typing import Annotated, Literal

from pydantic import Field

from infra.settings import Spec

Question = Annotated[str, Field(min_length=1, max_length=1000)]


class TopicPolicy(Spec):
    """What is not spoken of, and how near a question comes to it."""

    does: Literal["flag", "refuse"]
    """A question about a topic: answer and note it, or refuse."""
    examples: dict[str, Annotated[tuple[Question, ...], Field(min_length=1)]] = Field(min_length=1)
    """Topic → questions about it. Few of different kinds find more than many alike."""
    min_similarity: float = Field(0.25, ge=0, le=1)
    """Least cosine between a question and an example. A question that is near nothing is about none of the topics."""
