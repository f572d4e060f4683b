"""The confidence of an answer: what it counts, and where there is none."""

from typing import Any

import pytest

from models.answering.confidence import confidence
from models.types import Answer, Citation


def answer(text: str, *passages: str, question: str = "What is the appeal period?", **more: object) -> Answer:
    cited = tuple(
        Citation(number=number, document="d", chunk="c", title="", text=passage)
        for number, passage in enumerate(passages, 1)
    )
    fields = {"refused": False, "release": "r", "trace_id": "t", "latency_ms": 0.0} | more
    return Answer.model_validate({"question": question, "answer": text, "citations": cited, **fields})


def test_the_better_the_sources_speak_of_question_and_answer_the_higher() -> None:
    both = confidence(answer("14 days", "The appeal period is 14 days."))
    half = confidence(answer("14 days", "The notice period is 14 days."))
    other = confidence(answer("14 days", "Herons nest below the bridge."))
    assert (both, half, other) == (1.0, 0.5, 0.0)


def test_words_of_several_sources_count_together() -> None:
    assert confidence(answer("14 days", "The appeal period.", "14 days.")) == 1.0


@pytest.mark.parametrize("more", [{"refused": True}, {"error": "generate: down"}])
def test_what_is_not_from_passages_has_none(more: dict[str, Any]) -> None:
    assert confidence(answer("14 days", "The appeal period is 14 days.", **more)) is None
    assert confidence(answer("Your balance is 3 euros.")) is None
