"""Asking a teacher: in order, nothing twice, one bad prompt does not cost the others."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from indexes.cache import ContentCache
from infra.errors import InputError, TryAgainError
from models.serving.fake import FakeEngine
from models.training.asking import Client, TeacherSpec, asking
from models.training.teacher import Reply
from models.types import Message

SPEC = TeacherSpec(model="m", max_tokens=3)


def prompts(*texts: str) -> list[list[Message]]:
    return [[Message(role="user", content=text)] for text in texts]


def echo(_model: str, messages: Sequence[Message]) -> str:
    if messages[-1].content == "refused":
        raise InputError("content filter")
    return f"said {messages[-1].content}"


def quiet(_done: int, _total: int) -> None: ...


@pytest.fixture
def kept(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "replies.sqlite")


def test_replies_come_in_order_and_are_asked_for_once(kept: ContentCache) -> None:
    engine = FakeEngine(echo)
    ask = asking(Client(lambda: engine, "m", "v1"), SPEC, kept, quiet)
    texts = [str(number) for number in range(70)]
    assert [reply.text for reply in ask(prompts(*texts, "0"))] == [f"said {text}" for text in (*texts, "0")]
    assert len(engine.asked) == 70
    assert {asked.temperature for asked in engine.asked} == {0.0}
    assert engine.closed
    assert ask(prompts("a b c", "5")) == [Reply("said a b ", cut=True), Reply("said 5")]
    assert ask(prompts("a b c")) == [Reply("said a b ", cut=True)]
    assert len(engine.asked) == 71
    assert asking(Client(lambda: engine, "m", "v2"), SPEC, kept, quiet)(prompts("5")) == [Reply("said 5")]
    assert len(engine.asked) == 72, "another model says something else"
    assert ask([]) == []


def test_a_prompt_that_is_refused_has_an_error_and_is_asked_again(kept: ContentCache) -> None:
    engine = FakeEngine(echo)
    ask = asking(Client(lambda: engine, "m", "v"), SPEC, kept, quiet)
    assert ask(prompts("a", "refused")) == [Reply("said a"), Reply("", error="content filter")]
    with pytest.raises(InputError, match="teacher m refuses every question: content filter"):
        ask(prompts("refused"))
    assert [asked.messages[0].content for asked in engine.asked] == ["a", "refused", "refused"]


def test_what_was_said_before_the_teacher_went_away_is_kept(kept: ContentCache) -> None:
    engine = FakeEngine(echo, [None, TryAgainError("away")])
    ask = asking(Client(lambda: engine, "m", "v"), TeacherSpec(model="m", at_once=1), kept, quiet)
    with pytest.raises(TryAgainError, match="away"):
        ask(prompts("a", "b", "c"))
    assert [reply.text for reply in ask(prompts("a", "b", "c"))] == ["said a", "said b", "said c"]
    assert [asked.messages[0].content for asked in engine.asked] == ["a", "b", "c", "b"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"made_questions": 0}, "own_questions"), ({"endpoint": "localhost:80"}, "endpoint"), ({"model": ""}, "model")],
)
def test_a_teacher_that_cannot_be_asked_is_refused(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        TeacherSpec.model_validate({"model": "m"} | fields)
