"""Whether the passages of a prompt support a reply: what a teacher or a user says is learnt only then."""

from collections.abc import Sequence

from pydantic import Field

from infra.settings import Spec
from models.answering.guards.grounding import grounded_share
from models.prompts import Prompt, Source, answer_parts, is_refusal, unknown_marks
from models.training.evidence import contains


class SupportSpec(Spec):
    """What counts as supported."""

    verbatim: bool = True
    """Each part of an answer has to stand word for word in one of the passages that it cites."""
    grounded: float = Field(1.0, ge=0, le=1)
    """Where answers need not be verbatim: least share of the words of each part that the passages it cites hold."""


def flaw(reply: str, passages: Sequence[Source], prompt: Prompt, spec: SupportSpec) -> str:
    """Why the passages do not support a reply; nothing where they do. A refusal says nothing that needs support."""
    parts = answer_parts(reply)
    if not any(words for words, _ in parts):
        return "says nothing"
    if is_refusal(reply, prompt.refusal):
        return ""
    unknown = unknown_marks(reply, len(passages))
    if unknown:
        return f"cites [{unknown[0]}] of {len(passages)} passages"
    for words, numbers in parts:
        if not words or not numbers:
            return "cites no passage" if words else "cites a passage without saying anything"
        if spec.verbatim and not any(contains(passages[number - 1].text, words) for number in numbers):
            return "says what does not stand in a passage that it cites"
    if not spec.verbatim and (share := grounded_share(reply, passages)) < spec.grounded:
        return f"has {share:.2f} of its words in the passages that it cites"
    return ""
