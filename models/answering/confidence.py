"""How far an answer stands on its sources, as one number that callers can compare. It is not a probability."""

from indexes.lexical import words
from models.types import Answer


def confidence(answer: Answer) -> float | None:
    """Share of the question's words in the cited passages times that of the answer's (0 to 1).

    None where the text is not from passages: a refusal, a fallback, a tool's result. What it is worth on the sample:
    docs/decisions/confidence.md.
    """
    if answer.refused or answer.error or not answer.citations:
        return None
    seen = {word for passage in answer.citations for word in words(f"{passage.title} {passage.text}")}
    return _share(answer.question, seen) * _share(answer.answer, seen)


def _share(text: str, seen: set[str]) -> float:
    own = set(words(text))
    return len(own & seen) / len(own) if own else 0.0
