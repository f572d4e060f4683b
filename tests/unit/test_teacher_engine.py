"""A teacher asked through the engine port."""

import pytest

from infra.errors import InputError, TryAgainError
from models.serving.fake import FakeEngine
from models.training.teacher import Reply
from models.training.teacher_engine import ask_engine
from models.types import Message

PROMPTS = [[Message(role="user", content=f"Question {number}")] for number in range(5)]


def test_replies_come_in_the_order_of_the_prompts() -> None:
    engine = FakeEngine(lambda _, messages: messages[-1].content.replace("Question", "Answer"))
    told: list[tuple[int, int]] = []
    replies = ask_engine(engine, "large", 8, 2, lambda done, total: told.append((done, total)))(PROMPTS)
    assert replies == [Reply(f"Answer {number}") for number in range(5)]
    assert told[-1] == (5, 5)
    assert engine.closed
    assert {(asked.model, asked.temperature) for asked in engine.asked} == {("large", 0.0)}


def test_an_answer_that_breaks_off_and_a_prompt_that_is_refused_are_told() -> None:
    engine = FakeEngine("one two three", [None, InputError("prompt too long")])
    cut, refused = ask_engine(engine, "large", 2, 1, lambda *_: None)(PROMPTS[:2])
    assert cut == Reply("one two ", cut=True)
    assert refused == Reply("", error="prompt too long")


def test_a_server_that_fails_ends_the_asking() -> None:
    engine = FakeEngine("x", [TryAgainError("http://127.0.0.1:9: refused")])
    with pytest.raises(TryAgainError, match="refused"):
        ask_engine(engine, "large", 2, 1, lambda *_: None)(PROMPTS)
    assert engine.closed
