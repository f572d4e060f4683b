"""What may be kept: answers that would be right for everybody with the same rights, and nothing personal."""

from collections.abc import Callable, Iterator

from models.serving.pools import HOSTED
from models.types import Answer

Redact = Callable[[str], str]


def kept_out(answer: Answer) -> str:
    """Why an answer is not kept, in one word; empty when it may be.

    A sentence that was dropped from a passage has not been seen by the model and is no reason; any other event is.
    """
    if answer.error:
        return "error"
    if answer.cache:
        return "cached"
    if answer.tools or answer.finish_reason == "tool_calls":
        return "tools"
    if answer.finish_reason != "stop":
        return "unfinished"
    if any((event.stage, event.action) != ("passage", "drop") for event in answer.guards):
        return "guarded"
    if answer.engine.startswith(f"{HOSTED}:"):
        return "hosted"
    if not answer.answer:
        return "empty"
    return ""


def is_personal(answer: Answer, redact: Redact) -> bool:
    """Whether anything that would be kept holds personal data: then redaction changes it."""
    return any(redact(text) != text for text in _texts(answer))


def _texts(answer: Answer) -> Iterator[str]:
    yield answer.question
    yield answer.answer
    for passage in answer.passages:
        yield passage.title
        yield passage.text
