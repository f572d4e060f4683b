"""What is learnt from production: corrections that the passages support, better answers over worse ones."""

from pathlib import Path
from typing import Any

import pytest

from infra.records import Records, Trace
from models.answering.fake import POLICY
from models.answering.guards.guardrails import find_pii
from models.prompts import DEFAULT, render
from models.training.feedback import FeedbackSpec, RatedAnswer, marked, rated_answers, rows_of_feedback, spoken
from models.training.gathered import Gathered
from models.training.rows import PreferenceRow, TrainingRow
from models.training.support import SupportSpec
from models.types import Citation

PASSAGES = tuple(
    Citation(number=number, document=f"d{number}.md", chunk=f"c{number}", title="Guide", text=text)
    for number, text in enumerate(
        ("A hidden leak must be reported within 14 days.", "The desk opens at 8:00. A visible leak has 30 days."), 1
    )
)


def answer(trace: str = "t1", **changes: Any) -> RatedAnswer:
    fields = {
        "trace": trace,
        "question": "Within what time must a hidden leak be reported?",
        "answer": "30 days",
        "refused": False,
        "cited": (2,),
        "passages": PASSAGES,
        "rating": -1,
    }
    return RatedAnswer.model_validate(fields | changes)


def made(*answers: RatedAnswer, **spec: Any) -> Gathered:
    return rows_of_feedback(answers, DEFAULT, lambda text: bool(find_pii(text, POLICY)), FeedbackSpec(**spec))


def learnt(gathered: Gathered) -> list[str]:
    return [one.row.messages[-1].content for one in gathered.rows if isinstance(one.row, TrainingRow)]


def pairs(gathered: Gathered) -> list[tuple[str, str]]:
    return [(one.row.chosen, one.row.rejected) for one in gathered.rows if isinstance(one.row, PreferenceRow)]


def test_a_correction_becomes_a_row_and_a_pair_with_the_prompt_of_production() -> None:
    found = made(answer(correction="14 days."))
    assert learnt(found) == ["14 days [1]"]
    assert pairs(found) == [("14 days [1]", "30 days [2]")]
    first = found.rows[0]
    assert isinstance(first.row, TrainingRow)
    assert list(first.row.messages[:-1]) == render(DEFAULT, PASSAGES, answer().question, answer().trace)
    assert (first.row.source, first.documents) == ("feedback:t1", ("d1.md",))
    assert pairs(made(answer(correction="14 days"), pairs=False)) == []


@pytest.mark.parametrize(
    ("correction", "kind", "reason"),
    [
        ("7 days", "unsupported", "cites no passage"),
        ("14 days [2]", "unsupported", "says what does not stand in a passage"),
        ("14 days [9]", "unsupported", "cites [9] of 2 passages"),
        ("[1]", "unsupported", "says nothing"),
        ("ask anna@example.org", "personal data", "holds personal data"),
        ("ask <EMAIL_ADDRESS>", "personal data", "holds personal data"),
    ],
)
def test_a_correction_that_cannot_be_trusted_is_named(correction: str, kind: str, reason: str) -> None:
    found = made(answer(correction=correction))
    assert found.rows == []
    (refused,) = found.refused
    assert (refused.source, refused.kind) == ("feedback:t1", kind)
    assert reason in refused.reason


def test_a_correction_in_own_words_needs_the_spec_to_allow_it() -> None:
    own = "It must be reported within 14 days"
    assert learnt(made(answer(correction=own))) == []
    free = {"support": SupportSpec(verbatim=False, grounded=0.8)}
    assert learnt(made(answer(correction=own), **free)) == [f"{own} [1]"]


def test_users_may_say_that_nothing_answers() -> None:
    found = made(answer(correction="The passages do not say"))
    assert learnt(found) == [DEFAULT.refusal]
    assert found.rows[0].row.refusal is True if isinstance(found.rows[0].row, TrainingRow) else False
    assert pairs(found) == [(DEFAULT.refusal, "30 days [2]")]


def test_the_newest_correction_of_a_prompt_holds() -> None:
    found = made(answer("t1", correction="30 days"), answer("t2", correction="14 days"))
    assert learnt(found) == ["14 days [1]"]
    assert [(item.source, item.kind) for item in found.refused] == [("feedback:t1", "repeats")]


def test_a_liked_answer_is_preferred_to_a_disliked_one_over_the_same_passages() -> None:
    liked = answer("t2", answer="14 days", cited=(1,), rating=1)
    elsewhere = answer("t3", refused=True, answer=DEFAULT.refusal, cited=(), passages=PASSAGES[:1])
    found = made(answer("t1"), liked, elsewhere)
    assert learnt(found) == []
    assert pairs(found) == [("14 days [1]", "30 days [2]")]
    assert (found.rows[0].row.source, found.rows[0].documents) == ("feedback:t2", ("d1.md",))
    assert made(answer("t1"), answer("t2", rating=1)).rows == [], "the same answer, liked and disliked"
    unsupported = made(answer("t1"), answer("t2", answer="7 days", cited=(1,), rating=1))
    assert [(item.source, item.kind) for item in unsupported.refused] == [("feedback:t2", "unsupported")]


def test_numbers_of_passages_are_put_where_their_words_stand() -> None:
    assert marked("14 days; 8:00", (2,), PASSAGES) == "14 days [1]; 8:00 [2]"
    assert marked("30 days [1]", (2,), PASSAGES) == "30 days [1]"
    assert marked("The desk", (), PASSAGES) == "The desk [2]"
    assert spoken(answer(answer="14 days; 8:00", cited=(1, 2)), DEFAULT) == "14 days [1]; 8:00 [2]"
    assert spoken(answer(answer="in own words", cited=(1, 2)), DEFAULT) == "in own words [1][2]"
    assert spoken(answer(refused=True), DEFAULT) == DEFAULT.refusal


def test_ratings_are_read_with_the_last_word_of_each_user(tmp_path: Path) -> None:
    records = Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    shown = [passage.model_dump() for passage in PASSAGES]
    fields: dict[str, Any] = {
        "created": 1.0,
        "release": "a" * 64,
        "arm": "production",
        "question": "When?",
        "passages": shown,
    }
    records.add_traces(
        [
            Trace(trace_id="1" * 32, answer="30 days", citations=[2], **fields),
            Trace(trace_id="2" * 32, answer="fallback", error="engine", **fields),
            Trace(trace_id="3" * 32, answer="14 days", citations=[1], **fields),
        ]
    )
    records.add_feedback("1" * 32, -1, correction=" 14 days ")
    records.add_feedback("2" * 32, -1, correction="14 days")
    records.add_feedback("3" * 32, 1, simulated=True)
    records.add_feedback("1" * 32, 1)
    (one,) = rated_answers(records, simulated=False)
    assert (one.trace, one.rating, one.correction, one.cited, one.passages) == (
        "1" * 32, 1, "14 days", (2,), PASSAGES,
    )  # fmt: skip
    assert [item.trace[0] for item in rated_answers(records, simulated=True)] == ["3", "1"]
