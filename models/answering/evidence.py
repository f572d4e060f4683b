"""Compresses passages to evidence: the sentences and table lines that share the question's rarest words."""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from indexes.types import Chunk
from models.answering.guards.injections import sentences

WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")
STOP = frozenset(
    WORD.findall(
        "the a an of to in for on at is are was were be been do does did what which who whom when where how many much "
        "long often must can may i my me we you your it its this that and or with by from as there has have had will "
        "shall should would could if not no please tell"
    )
)
"""English words that say nothing about what is asked."""


class Piece(NamedTuple):
    """One sentence of one passage with its score; `rank` is the passage's place, `place` the sentence's in it."""

    score: float
    rank: int
    place: int
    text: str


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.snowball import EnglishStemmer

    return EnglishStemmer()


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    """The Snowball stem of an English word."""
    return str(_stemmer().stem(word))


@lru_cache(maxsize=8192)  # the sentences of popular chunks come again and again
def terms(text: str) -> frozenset[str]:
    """The stems that carry meaning in a text."""
    return frozenset(_stem(word) for word in WORD.findall(text.casefold()) if word not in STOP)


def rarity(chunks: Sequence[Chunk]) -> dict[str, float]:
    """Inverse document frequency (as in BM25) of every term over the passages."""
    counts = Counter(term for chunk in chunks for term in terms(f"{chunk.title} {chunk.text}"))
    return {term: math.log1p((len(chunks) - count + 0.5) / (count + 0.5)) for term, count in counts.items()}


def _score(
    wanted: Collection[str], own: frozenset[str], title: frozenset[str], idf: dict[str, float], weight: float
) -> float:
    said = sum(idf.get(term, 0.0) for term in wanted if term in own)
    named = sum(idf.get(term, 0.0) for term in wanted if term in title and term not in own)
    return said + weight * named


def compress(chunks: Sequence[Chunk], question: str, keep: int, title_weight: float) -> list[Chunk]:
    """The `keep` sentences of ranked passages that say most of the question, in passages cut to them, best first.

    A sentence scores the rarity of the question's terms that it holds, and `title_weight` times that of those that
    only its title holds; equal scores keep the order of the ranking. Passages without a kept sentence are left out.
    """
    wanted, idf = terms(question), rarity(chunks)
    pieces = [
        Piece(_score(wanted, terms(part), terms(chunk.title), idf, title_weight), rank, place, part)
        for rank, chunk in enumerate(chunks)
        for place, (start, end) in enumerate(sentences(chunk.text))
        if (part := chunk.text[start:end]).strip()
    ]
    best = sorted(pieces, key=lambda piece: (-piece.score, piece.rank, piece.place))[:keep]
    order = list(dict.fromkeys(piece.rank for piece in best))
    texts = {
        rank: sorted((piece for piece in best if piece.rank == rank), key=lambda piece: piece.place) for rank in order
    }
    return [
        chunks[rank].model_copy(update={"text": "".join(piece.text for piece in texts[rank]).strip()}) for rank in order
    ]
