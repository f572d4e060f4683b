"""Rows that give away a case by which releases are judged: its question word for word, nearly, or with its answer.

Nearly is told by containment (Broder 1997): how many of the case question's runs of five signs stand in one sentence of
the row. Questions with other numbers in them are other questions.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from indexes.chunkers.sentences import sentence_spans
from indexes.sketches import normalized
from infra.settings import Spec
from models.training.evidence import contains
from models.types import Case

RUN = 5
"""Signs of a run."""
_WORD = re.compile(r"[^\W_]+")
_FEWEST_WORDS = 3
"""A question of fewer words has to be the whole of what is asked: `Why?` stands in many texts."""
_KEPT = 8192


class OverlapSpec(Spec):
    """How much of a held-back case a row may hold."""

    question: float = Field(0.8, gt=0, le=1)
    """Share of a case's question from which a sentence of a row asks the same."""
    answered: float = Field(0.5, gt=0, le=1)
    """The same where the row's replies hold the case's answer as well."""

    @model_validator(mode="after")
    def _answered_is_stricter(self) -> "OverlapSpec":
        if self.answered > self.question:
            raise ValueError("answered: must not be above question, since a row with the answer gives away more")
        return self


class Overlap(NamedTuple):
    """The case that a row gives away, and how."""

    case: str
    how: str


class HeldBack:
    """The cases that nothing may be learnt from."""

    def __init__(self, cases: Sequence[Case], spec: OverlapSpec) -> None:
        self.cases = cases
        self.spec = spec
        self._questions = [plain(case.question) for case in cases]
        self._runs = [_runs(question) for question in self._questions]
        self._sizes = np.array([len(runs) for runs in self._runs], np.float64)
        postings: dict[str, list[int]] = {}
        for number, runs in enumerate(self._runs):
            for run in runs:
                postings.setdefault(run, []).append(number)
        self._postings = {run: np.array(numbers) for run, numbers in postings.items()}
        self._shares = lru_cache(_KEPT)(self._counted)

    def overlap(self, asked: Sequence[str], said: Sequence[str]) -> Overlap | None:
        """The case that a row with these questions and replies gives away most plainly, or None."""
        if not self.cases:
            return None
        return self._word_for_word(asked, said) or self._nearly(asked, said)

    def _word_for_word(self, asked: Sequence[str], said: Sequence[str]) -> Overlap | None:
        for text in dict.fromkeys((*asked, *said)):
            whole = plain(text)
            for number in np.flatnonzero(self._shares(whole) >= 1).tolist():
                question, case = self._questions[number], self.cases[number].id
                if whole == question:
                    return Overlap(case, f"asks what case {case} asks")
                if len(question.split()) >= _FEWEST_WORDS and f" {question} " in f" {whole} ":
                    return Overlap(case, f"holds the question of case {case}")
        return None

    def _nearly(self, asked: Sequence[str], said: Sequence[str]) -> Overlap | None:
        best: tuple[float, Overlap] | None = None
        for piece in dict.fromkeys(piece for text in asked for piece in _pieces(text)):
            shares = self._shares(piece)
            for number in np.flatnonzero(shares >= self.spec.answered).tolist():
                share = float(shares[number])
                found = self._same(number, piece, share, said)
                if found and (best is None or share > best[0]):
                    best = share, found
        return best[1] if best else None

    def _same(self, number: int, piece: str, share: float, said: Sequence[str]) -> Overlap | None:
        """Whether a sentence that holds `share` of a case's question asks the same as the case."""
        case = self.cases[number]
        if not _numbers(self._questions[number]) <= _numbers(piece):
            return None
        if share >= self.spec.question:
            return Overlap(case.id, f"asks nearly ({share:.2f}) what case {case.id} asks")
        if case.answer and any(contains(text, case.answer) for text in said):
            return Overlap(case.id, f"asks much ({share:.2f}) of what case {case.id} asks, and holds its answer")
        return None

    def _counted(self, text: str) -> NDArray[np.float64]:
        """Share of each case question's runs that stand in a plain text, shape (cases,)."""
        found = [self._postings[run] for run in _runs(text) if run in self._postings]
        if not found:
            return np.zeros(len(self.cases))
        counts = np.bincount(np.concatenate(found), minlength=len(self.cases))
        shares: NDArray[np.float64] = counts / self._sizes
        return shares


def plain(text: str) -> str:
    """A text without what makes no difference: case, punctuation, white space."""
    return " ".join(_WORD.findall(normalized(text)))


def _runs(text: str) -> frozenset[str]:
    """Runs of RUN signs of a plain text; a shorter text is one run."""
    return frozenset(text[place : place + RUN] for place in range(max(1, len(text) - RUN + 1)))


def _numbers(text: str) -> set[str]:
    return {word for word in text.split() if word.isdigit()}


def _pieces(text: str) -> Iterator[str]:
    """The sentences and lines of a text, plain."""
    for line in text.splitlines():
        for start, end in sentence_spans(line, 0, len(line)):
            if piece := plain(line[start:end]):
                yield piece
