"""What the guard of topics finds of questions that are not spoken of, what it stops wrongly, and what it costs."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.benches import BenchRow
from evaluation.guard_report import share_row, spent_ms, tail_rows
from infra.errors import InputError
from infra.settings import Spec
from infra.store import read_lines
from models.answering.guards.topics import Topics
from models.types import Case

EXPECTED = {"answer": "answered", "refusal": "refused"}
"""What a case expects → in words."""
TIMES = ("topic of a question", "topic of a question, encoded already")
"""The first time a question is asked, and the second: the encoder keeps what it was asked for."""


class TopicQuestion(Spec):
    """A question that has to be found, and its topic."""

    topic: str
    question: str


def load_topic_questions(path: Path) -> list[TopicQuestion]:
    """The questions of a JSONL file. Raises InputError for one that is not there, and for a line that is none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the file of questions by topic")
    return list(read_lines(path, TopicQuestion))


def topic_rows(
    topics: Topics, asked: Sequence[TopicQuestion], cases: Sequence[Case], access: frozenset[str]
) -> list[BenchRow]:
    """Share of each topic's questions that are found, of the cases that are stopped wrongly, and milliseconds a
    question beside those of its encoder, which the search needs anyway.
    """
    questions = [one.question for one in asked]
    times = {name: spent_ms(questions, lambda text: topics.event(text, access)) for name in TIMES}
    rows = []
    for name in dict.fromkeys(one.topic for one in asked):
        found = [topics.event(one.question, access) is not None for one in asked if one.topic == name]
        rows.append(share_row(f"topic {name}: found", found))
    for kind, words in EXPECTED.items():
        stopped = [topics.event(case.question, access) is not None for case in cases if case.expected == kind]
        rows.append(share_row(f"cases to be {words}: taken for one of the topics", stopped))
    return rows + [row for name, spent in times.items() for row in tail_rows(name, spent, "ms")]
