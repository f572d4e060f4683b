"""Labelled pairs of questions: read from a file, and judged as the semantic cache would."""

from collections.abc import Callable, Sequence
from pathlib import Path

from evaluation.cache_calibration import JudgedPair, QuestionPair
from indexes.types import Embedder, Vectors
from infra.errors import InputError
from infra.store import read_lines
from models.serving.cache.vetoes import VETOES, veto


def load_pairs(path: Path) -> list[QuestionPair]:
    """The pairs of a JSONL file. Raises InputError with the line that is none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the file of question pairs")
    return list(read_lines(path, QuestionPair))


def judge(
    pairs: Sequence[QuestionPair],
    embedder: Embedder,
    progress: Callable[[int, int], None] = lambda done, total: None,
    vetoes: Sequence[str] = tuple(VETOES),
) -> list[JudgedPair]:
    """Similarity and veto of every pair."""
    vectors: dict[str, Vectors] = {}
    judged = []
    for number, pair in enumerate(pairs):
        for text in (pair.a, pair.b):
            if text not in vectors:
                vectors[text] = embedder.query(text)
        similarity = float(vectors[pair.a] @ vectors[pair.b])
        judged.append(JudgedPair(pair=pair, similarity=similarity, veto=veto(pair.a, pair.b, tuple(vetoes))))
        progress(number + 1, len(pairs))
    return judged
