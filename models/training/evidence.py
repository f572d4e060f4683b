"""Which passage supports an answer, and which would answer a question too."""

import re

from indexes.types import Chunk
from models.training.grammar import sentences
from models.training.tables import cells_of
from models.types import Case

ENOUGH = 0.5
"""Least share of the evidence's words that a chunk must hold to count as the source of an answer."""


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.casefold()))


def contains(text: str, part: str) -> bool:
    """Whether `part` stands in `text` as whole words and numbers: `4 litres` is not in `14 litres` or `2.4 litres`."""
    pattern = rf"(?<![\w])(?<!\d[.,]){re.escape(_fold(part))}(?![\w])(?![.,]\d)"
    return re.search(pattern, _fold(text)) is not None


def support(chunk: Chunk, part: str, case: Case) -> float:
    """How well a chunk supports one part of a case's answer: 0 without the words, else the evidence's share in it.

    Table rows stand in a chunk in another form than in the source, so words are compared, not the text.
    """
    if chunk.document not in case.documents or not contains(chunk.text, part):
        return 0.0
    words = _words(chunk.embedding_text)
    pieces = [_words(piece) for piece in case.evidence if contains(piece, part)]
    share = max((len(piece & words) / len(piece) for piece in pieces if piece), default=1.0)
    asked = _words(case.question)
    return share + 0.1 * len(asked & words) / max(len(asked), 1)


def is_rival(chunk: Chunk, evidence: str) -> bool:
    """Whether the chunk says the same as `evidence`, perhaps with other numbers: it would answer the question too."""
    if cells_of(evidence):
        return evidence in chunk.text
    wanted = {word for word in _words(evidence) if not word.isdigit()}
    for sentence in sentences(chunk.text):
        words = {word for word in _words(sentence) if not word.isdigit()}
        if len(words & wanted) >= 0.75 * len(words | wanted):
            return True
    return False
