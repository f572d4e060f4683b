"""What the guard of topics finds of questions that are not spoken of, what it stops wrongly, and what it costs."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.benches import BenchRow
from evaluation.guard_report import share_row, tail_rows
from infra.errors import InputError
from infra.settings import Spec
from infra.store import read_lines
from models.answering.guards.topics import Topics
from models.types import Case


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
    rows, spent = [], []
    for name in dict.fromkeys(one.topic for one in asked):
        found = []
        for one in (one for one in asked if one.topic == name):
            begin = time.perf_counter()
            found.append(topics.event(one.question, access) is not None)
            spent.append((time.perf_counter() - begin) * 1000)
        rows.append(share_row(f"topic {name}: found", found))
    for kind in ("answer", "refusal"):
        stopped = [topics.event(case.question, access) is not None for case in cases if case.expected == kind]
        rows.append(share_row(f"cases to be {EXPECTED[kind]}: taken for one of the topics", stopped))
    again = []
    for one in asked:  # the encoder keeps what it was asked for
        begin = time.perf_counter()
        topics.event(one.question, access)
        again.append((time.perf_counter() - begin) * 1000)
    rows += tail_rows("topic of a question", np.array(spent), "ms")
    return [*rows, *tail_rows("topic of a question, encoded already", np.array(again), "ms")]


EXPECTED = {"answer": "answered", "refusal": "refused"}
"""What a case expects → in words."""
