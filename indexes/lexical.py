"""BM25 through bm25s: words of title and text, the access mask applied before ranking."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from indexes.types import Vectors
from indexes.vectors.port import Mask, Rows
from infra.errors import InputError, IntegrityError
from infra.settings import Spec

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+|\w+")
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for from has have how i if in into is it its no not of on or s such t that the "
        "their then there these they this to was were what when where which who why will with do does did can you your",
    )
)


class LexicalSpec(Spec):
    """Parameters of BM25 (Robertson and Zaragoza 2009)."""

    k1: float = Field(1.5, ge=0, le=10)
    """How soon repeated words stop counting."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long passages are held back."""


def words(text: str) -> list[str]:
    """Lower-case words and numbers without stop words; a plural s is cut off (the S stemmer of Harman 1991)."""
    return [_singular(word) for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word


class LexicalIndex:
    """BM25 over passages in a fixed order."""

    def __init__(self, spec: LexicalSpec | None = None) -> None:
        self.spec = spec or LexicalSpec()
        self._bm25: Any = None

    def build(self, texts: Sequence[str]) -> None:
        """Index the passages as rows 0..n-1. Raises InputError when they hold no word at all."""
        import bm25s

        tokens = [words(text) for text in texts]
        vocabulary = {word: number for number, word in enumerate(sorted({word for row in tokens for word in row}))}
        if not vocabulary:
            raise InputError("the passages hold no word that BM25 could index")
        bm25 = bm25s.BM25(k1=self.spec.k1, b=self.spec.b, method="lucene")
        bm25.index(([[vocabulary[word] for word in row] for row in tokens], vocabulary), show_progress=False)
        self._bm25 = bm25

    def search(self, question: str, k: int, allowed: Mask | None = None) -> tuple[Rows, Vectors]:
        """Rows and scores of the best `k` allowed passages that share a word with the question, best first."""
        known = [word for word in words(question) if word in self._bm25.vocab_dict]
        if not known:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        scores = np.asarray(self._bm25.get_scores(known), np.float32)
        matching = scores > 0 if allowed is None else (scores > 0) & allowed
        rows = np.flatnonzero(matching).astype(np.int64)
        order = np.lexsort((rows, -scores[rows]))[:k]
        return rows[order], scores[rows[order]]

    def save(self, folder: Path) -> None:
        """Write arrays (no pickles) and vocabulary; the same passages give the same bytes."""
        self._bm25.save(str(folder), show_progress=False, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved index. Raises IntegrityError when files are missing or damaged."""
        import bm25s

        try:
            bm25 = bm25s.BM25.load(str(folder), allow_pickle=False)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise IntegrityError(f"{folder}: not a BM25 index; build the index again") from error
        loaded = cls(LexicalSpec(k1=bm25.k1, b=bm25.b))
        loaded._bm25 = bm25
        return loaded
