"""What is learnt from a teacher: answers that their passages support, and nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest

from indexes.types import Chunk
from models.prompts import DEFAULT, numbered, passages_in, render
from models.training.rows import TrainingRow
from models.training.support import SupportSpec, flaw
from models.training.teacher import Question, Reply, TeachSpec, counted, instructed, prompts_of, teach
from models.types import Message

TEXTS = ("A hidden leak must be reported within 14 days.", "The leak desk\nopens at 8:00 on weekdays.")
CHUNKS = [
    Chunk(id=f"c{n}", document=f"d{n}", title=f"Guide {n}", text=text, start=0, end=1, tokens=1)
    for n, text in enumerate(TEXTS, 1)
]


def question(**known: Any) -> Question:
    asked = Question("teacher:c1", tuple(render(DEFAULT, CHUNKS, "Within what time?", "key")), CHUNKS)
    return asked._replace(**known)


def said(*replies: str | Reply, **known: Any) -> tuple[list[str], list[str]]:
    """(replies that are learnt, reasons of the others) for one question asked again and again."""

    def ask(prompts: Sequence[Sequence[Message]]) -> list[Reply]:
        assert len(prompts) == len(replies)
        return [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]

    taught = teach([question(**known)] * len(replies), ask, DEFAULT, TeachSpec())
    return [row.messages[-1].content for row in taught.rows], [item.reason for item in taught.refused]


def test_supported_answers_are_kept_and_others_named() -> None:
    kept, refused = said("14 days [1]", "14 days [2]", "4 days [1]", "14 days", "14 days [3]", "", "14 days [1]; 8:00")
    assert kept == ["14 days [1]"]
    assert refused == [
        "the teacher's reply says what does not stand in a passage that it cites",
        "the teacher's reply says what does not stand in a passage that it cites",
        "the teacher's reply cites no passage",
        "the teacher's reply cites [3] of 2 passages",
        "the teacher's reply says nothing",
        "the teacher's reply cites no passage",
    ]


def test_what_is_known_about_a_question_is_held_against_the_reply() -> None:
    assert said("The passages do not say.", expected="answer")[1] == [
        "the teacher's reply refuses although a passage answers"
    ]
    assert said("The passages do not say.", expected="refusal")[0] == ["The passages do not say."]
    assert said("14 days [1]", expected="refusal")[1] == ["the teacher's reply answers although no passage does"]
    assert said("8:00 [2]", answer="14 days")[1] == ["the teacher's reply lacks the known answer: 14 days"]
    assert "not passage 1" in said("8:00 [2]", home=1)[1][0]
    assert said("14 days [1]; 8:00 [2]", home=1, answer="14 DAYS")[0] == ["14 days [1]; 8:00 [2]"]


def test_cut_and_missing_replies_are_unusable() -> None:
    kept, refused = said(Reply("14 days [1]", cut=True), Reply("", error="content filter"))
    assert kept == []
    assert [reason.rpartition("reply ")[2] for reason in refused] == [
        "breaks off at the most tokens",
        "is missing: content filter",
    ]


def test_rows_hold_the_prompt_of_production_not_the_instructions() -> None:
    asked: list[Sequence[Message]] = []

    def ask(prompts: Sequence[Sequence[Message]]) -> list[Reply]:
        asked.extend(prompts)
        return [Reply(" The passages do not say. ")]

    taught = teach([question()], ask, DEFAULT, TeachSpec())
    assert "The passages do not say." in asked[0][0].content
    assert asked[0][0].content != DEFAULT.system
    (row,) = taught.rows
    assert row.messages[:2] == tuple(render(DEFAULT, CHUNKS, "Within what time?", "key"))
    assert (row.refusal, row.source, taught.kept) == (True, "teacher:c1", [True])
    assert instructed(row.messages, DEFAULT, TeachSpec(instructions="")) == list(row.messages)
    assert instructed(row.messages[1:], DEFAULT, TeachSpec())[1:] == list(row.messages[1:])


@pytest.mark.parametrize(
    ("reply", "verbatim", "grounded", "expected"),
    [
        ("Report it within 14 days [1]", True, 1.0, "says what does not stand"),
        ("Report it within 14 days [1]", False, 1.0, "has 0.60 of its words"),
        ("Report it within 14 days [1]", False, 0.6, ""),
        ("opens at 8:00 [2]", True, 1.0, ""),
        ("[2]", True, 1.0, "says nothing"),
        ("14 days [1]; [2]", True, 1.0, "cites a passage without saying anything"),
    ],
)
def test_what_counts_as_supported(reply: str, verbatim: bool, grounded: float, expected: str) -> None:
    found = flaw(reply, CHUNKS, DEFAULT, SupportSpec(verbatim=verbatim, grounded=grounded))
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_passages_are_read_back_from_a_prompt() -> None:
    content = render(DEFAULT, CHUNKS, "[3] is what?", "key")[-1].content
    assert [shown.text for shown in passages_in(content)] == [
        line.partition("] ")[2] for line in numbered(CHUNKS).splitlines()
    ]
    assert passages_in("no passage") == []


def test_prompts_of_rows_are_their_first_questions() -> None:
    first = render(DEFAULT, CHUNKS, "Within what time?", "key")
    more = [Message(role="assistant", content="14 days [1]"), Message(role="user", content="Question: When?")]
    end = Message(role="assistant", content="8:00 [2]")
    refusal = Message(role="assistant", content=DEFAULT.refusal)
    text = TrainingRow(messages=(end,), source="file:x:1")
    rows = [
        TrainingRow(messages=(*first, *more, end), source="a"),
        text,
        TrainingRow(messages=(*first, refusal), source="b"),
    ]
    one, other = prompts_of(rows, DEFAULT)
    assert (one.source, one.messages, one.expected, len(one.passages)) == ("a", tuple(first), "answer", 2)
    assert (other.source, other.expected) == ("b", "refusal")


def ask_first(prompts: Sequence[Sequence[Message]]) -> list[Reply]:
    return [Reply("14 days [1]")] * len(prompts)


def test_reasons_are_counted_without_what_varies() -> None:
    def ask(prompts: Sequence[Sequence[Message]]) -> list[Reply]:
        return [Reply(f"14 days [{number}]") for number in range(3, 3 + len(prompts))]

    taught = teach([question()] * 3, ask, DEFAULT, TeachSpec())
    assert counted(taught.refused) == {"the teacher's reply cites … of … passages": 3}
    known = teach([question(answer=text) for text in ("8:00", "30 days")], ask_first, DEFAULT, TeachSpec())
    assert counted(known.refused) == {"the teacher's reply lacks the known answer": 2}
