"""What the guards of a release do, as its policy says it, and what they let through."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infra.settings import Spec
from models.answering.guards.output_policy import OutputPolicy
from models.answering.guards.topic_policy import TopicPolicy
from models.types import GuardEvent


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


Regex = Annotated[str, AfterValidator(_pattern)]
ACTIONS: dict[str, Literal["flag", "redact", "block"]] = {"flag": "flag", "redact": "redact", "refuse": "block"}
"""What a policy says of a question → what its event says."""


class GuardPolicy(Spec):
    """What the guards do. Part of a release: another policy is another release."""

    max_question_chars: int = Field(ge=1, le=100_000)
    """Longest question that is answered."""
    max_answer_chars: int = Field(ge=1, le=100_000)
    """Longest answer that goes out; a longer one is refused."""
    max_question_tokens: int | None = Field(None, ge=1)
    """Most tokens of the model's own tokenizer that a question may have; null: only its characters count."""
    question_injection: Literal["off", "flag", "refuse"]
    """A question that gives the model orders, in plain or encoded, by rule: answer and note it, or refuse."""
    passage_injection: Literal["off", "flag", "drop"]
    """A sentence of a passage that gives the model orders, by rule: note it, or hide it from the model."""
    question_classifier: Literal["off", "flag", "refuse"] = "off"
    """The same of a question by the classifier."""
    passage_classifier: Literal["off", "flag", "drop"] = "off"
    """The same of a passage's sentences by the classifier."""
    classifier: str = "shipped"
    """`shipped`, or the folder or Hugging Face id of a text-classification model (safetensors only)."""
    classifier_threshold: float | None = Field(None, gt=0, lt=1)
    """Least probability that counts; null: the one that the weights come with, one half for a model by name."""
    denied_topics: dict[str, Regex] = Field(default_factory=dict)
    """Topics that are not spoken of: name → regular expression; a question that has it is refused."""
    topics: TopicPolicy | None = None
    """The same by examples, for the last question of a conversation too."""
    question_personal: Literal["flag", "redact", "refuse"] = "flag"
    """Personal data in a question: note it, put its kind in its place, or refuse."""
    personal_data: Literal["flag", "refuse"]
    """Personal data in an answer: note it, or refuse."""
    personal_min_score: float = Field(ge=0, le=1)
    """Least confidence of a Presidio recognizer that counts."""
    phone_regions: tuple[str, ...] = ("US", "GB")
    """Countries whose phone numbers are looked for when written without a country code."""
    personal_patterns: dict[str, Regex] = Field(default_factory=dict)
    """Further kinds of personal data by name: regular expressions."""
    allowed: tuple[Regex, ...] = ()
    """Regular expressions of whole strings that are the organisation's own contacts, not personal data."""
    uncited: Literal["allow", "refuse"]
    """An answer that cites no passage, or one that does not exist: let it through, or refuse."""
    grounding_min_share: float = Field(ge=0, le=1)
    """Least share of a sentence's words that must occur in the passages it cites; 0 switches the check off."""
    leak_tokens: tuple[str, ...] = ()
    """Canary tokens planted in texts that must never leave."""
    output: OutputPolicy = OutputPolicy()
    """What else is looked for in an answer."""
    fallback: str = Field(min_length=1)
    """What the user reads when a part of the pipeline fails."""


class Verdict(Spec):
    """What the output guards let through."""

    answer: str
    cited: tuple[int, ...]
    refused: bool
    events: tuple[GuardEvent, ...] = ()
    blocked: bool = False
    """A guard stopped the answer: before any of it was sent, or behind what `answer` says."""
    cut: bool = False
    """`answer` is what had been sent when a guard stopped it."""
