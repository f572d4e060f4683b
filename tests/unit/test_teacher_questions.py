"""Questions for a teacher: over the passages of production, and only those that find the passage they are about."""

from collections.abc import Sequence

from models.prompts import DEFAULT
from models.training.asking import TeacherSpec
from models.training.gathered import Gathered
from models.training.rows import TrainingRow
from models.training.teacher import Reply
from models.training.teacher_questions import ASK_FOR_QUESTION, taught_rows
from models.types import Message
from tests.unit.test_training_rows import CHUNKS, maker

OWN = {
    "rules.md": "Within how many days is a hidden leak reported?",
    "fees.md": "Which zone is the cheapest one? And why?",
    "new.md": "The meter exchange takes 35 minutes.",
}
"""What the teacher asks about each document."""


def taught(answers: dict[str, str], personal: str = "none", **spec: object) -> Gathered:
    """The rows of a teacher that says `answers` to questions that hold their key, else the refusal."""

    def reply(messages: Sequence[Message]) -> Reply:
        asked = messages[-1].content
        if messages[0].content == ASK_FOR_QUESTION:
            return Reply(next(text for name, text in OWN.items() if f"] {name}: " in asked))
        question = asked.rpartition("Question: ")[2]
        return Reply(next((said for key, said in answers.items() if key in question), DEFAULT.refusal))

    wanted = TeacherSpec.model_validate({"model": "m", "made_questions": 0} | spec)
    rows = maker()
    return taught_rows(
        rows,
        lambda document: document != "gate.md",
        lambda prompts: [reply(one) for one in prompts],
        lambda text: personal in text,
        wanted,
    )


def test_right_answers_to_questions_made_by_rule_are_kept() -> None:
    found = taught({"a meter exchange take": "35 minutes [4]", "leak desk": "17:00 [1]"}, made_questions=100)
    rows = [one.row for one in found.rows]
    assert [one.documents for one in found.rows] == [("new.md",)]
    assert all(isinstance(row, TrainingRow) and row.messages[-1].content == "35 minutes [4]" for row in rows)
    assert "gate.md" not in {CHUNKS[int(item.source[-1])].document for item in found.refused}
    reasons = [item.reason for item in found.refused]
    assert "the teacher's reply refuses although a passage answers" in reasons


def test_an_answer_with_personal_data_is_refused() -> None:
    found = taught({"a meter exchange take": "35 minutes [4]"}, personal="35 minutes", made_questions=100)
    assert found.rows == []
    assert [(item.source, item.kind) for item in found.refused if "personal" in item.reason] == [
        ("teacher:c3", "personal data")
    ]


def test_the_number_of_questions_is_kept() -> None:
    found = taught({}, made_questions=2)
    assert len(found.rows) + len(found.refused) == 2


def test_its_own_questions_must_be_one_question_that_its_passage_answers() -> None:
    found = taught({"hidden leak": "14 days [1]"}, own_questions=10)
    assert [(one.row.source, one.documents) for one in found.rows] == [("teacher:c0", ("rules.md",))]
    assert {item.source: item.reason for item in found.refused} == {
        "teacher:c1": "the teacher's question is not one question",
        "teacher:c3": "the teacher's question is not one question",
    }
    wrong = taught({"hidden leak": "35 minutes [4]"}, own_questions=10)
    assert wrong.rows == []
    assert any("not passage 1 from which its question was made" in item.reason for item in wrong.refused)
