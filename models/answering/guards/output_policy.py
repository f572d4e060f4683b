"""What the output guards of a release do beyond citations, grounding and personal data."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.settings import Spec

Action = Literal["off", "flag", "refuse"]


class OutputPolicy(Spec):
    """Each guard is off, notes what it finds (flag), or stops the answer (refuse). Planted tokens always stop it."""

    toxicity: Action = "off"
    """Insults, slurs and threats."""
    system_prompt: Action = "off"
    """An answer that repeats the system prompt."""
    system_prompt_words: int | None = Field(None, ge=3, le=200)
    """Fewest words of the system prompt in one run that count as repeating it."""
    relevance: Action = "off"
    """An answer that has little to do with the question."""
    relevance_min_share: float = Field(0.0, ge=0, le=1)
    """Least share of the question's words that occur in the answer or in the passages it cites."""
    length: Literal["flag", "refuse"] = "refuse"
    """An answer longer than `max_answer_chars`."""
    blocked_text: str = ""
    """What the user reads when a guard stopped an answer before any of it was sent; empty = the prompt's refusal."""
    schema_retries: int = Field(0, ge=0, le=5)
    """How often a model is asked again, told what was wrong, when its JSON does not meet the schema of the request."""

    @model_validator(mode="after")
    def _bound_is_there(self) -> Self:
        if self.system_prompt != "off" and self.system_prompt_words is None:
            raise ValueError("system_prompt_words: needed where system_prompt is not off")
        return self
