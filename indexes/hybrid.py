"""The retriever: dense and lexical lists over what the caller may see, fused by reciprocal rank."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from indexes.lexical import LexicalIndex
from indexes.types import Chunk, Embedder, Passage
from indexes.vectors.port import Mask, VectorIndex
from infra.errors import InputError
from infra.settings import Spec

Mode = Literal["dense", "lexical", "hybrid"]
MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")


class RetrievalSpec(Spec):
    """How passages are found for a question."""

    mode: Mode = "hybrid"
    """Vectors, words, or both."""
    k: int = Field(8, ge=1, le=200)
    """Passages handed on."""
    candidates: int = Field(50, ge=1, le=1000)
    """Length of each list before they are fused."""
    rrf_k: int = Field(60, ge=1)
    """Constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): larger = flatter."""
    dense_weight: float = Field(1.0, ge=0)
    """Weight of the dense list."""
    lexical_weight: float = Field(1.0, ge=0)
    """Weight of the lexical list."""

    @model_validator(mode="after")
    def _something_counts(self) -> "RetrievalSpec":
        if self.dense_weight + self.lexical_weight == 0:
            raise ValueError("one of dense_weight and lexical_weight must be above 0")
        return self


def fuse(rankings: Mapping[str, Sequence[int]], weights: Mapping[str, float], rrf_k: int) -> list[tuple[int, float]]:
    """Rows by their fused score, best first: Σ over lists of weight / (rrf_k + rank), ranks from 1; ties by row."""
    scores: dict[int, float] = {}
    for name, rows in rankings.items():
        for rank, row in enumerate(rows, 1):
            scores[row] = scores.get(row, 0.0) + weights[name] / (rrf_k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


class HybridRetriever:
    """Retriever over one index. A passage that shares no label with the caller never enters a list."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        vectors: VectorIndex,
        lexical: LexicalIndex,
        embedder: Embedder,
        spec: RetrievalSpec,
    ) -> None:
        """Row i of both indexes belongs to chunks[i]."""
        self.chunks = list(chunks)
        self.spec = spec
        self._vectors = vectors
        self._lexical = lexical
        self.labels = frozenset(label for chunk in self.chunks for label in chunk.access)
        """Every access label of the index."""
        self._has_parents = any(chunk.parent_start is not None for chunk in self.chunks)
        self._query = lru_cache(maxsize=1024)(embedder.query)
        self._allowed = lru_cache(maxsize=256)(self._mask)

    def search(self, question: str, access: frozenset[str], k: int, mode: str = "hybrid") -> list[Passage]:
        """The best `k` passages, best first, whose labels and `access` have one in common.

        The score is the inner product (dense), BM25 (lexical) or the fused score (hybrid); `ranks` holds the place in
        each list from 1. A chunk with a parent or window comes as that (`Chunk.shown`), once: what a better passage
        shows already is left out. Raises InputError for an empty question or an unknown mode.
        """
        if not question.strip():
            raise InputError("the question is empty")
        if mode not in MODES:
            raise InputError(f"retrieval mode {mode!r} is unknown: one of {', '.join(MODES)}")
        allowed = self._allowed(access & self.labels)
        if k < 1 or not allowed.any():
            return []
        depth = max(k, self.spec.candidates) if mode == "hybrid" or self._has_parents else k
        lists = self._lists(question, depth, allowed, mode)
        ranks = {name: {row: rank for rank, (row, _) in enumerate(found, 1)} for name, found in lists.items()}
        ranked = self._fused(lists) if mode == "hybrid" else lists[mode]
        return [
            Passage(
                chunk=self.chunks[row].shown(),
                score=score,
                ranks={name: places[row] for name, places in ranks.items() if row in places},
            )
            for row, score in self._once(ranked, k)
        ]

    def _once(self, ranked: Sequence[tuple[int, float]], k: int) -> list[tuple[int, float]]:
        """The best `k` rows that no better one shows in its parent or window."""
        if not self._has_parents:
            return list(ranked[:k])
        kept: list[tuple[int, float]] = []
        for row, score in ranked:
            if len(kept) == k:
                break
            if not any(self.chunks[better].shows(self.chunks[row]) for better, _ in kept):
                kept.append((row, score))
        return kept

    def _lists(self, question: str, depth: int, allowed: Mask, mode: str) -> dict[str, list[tuple[int, float]]]:
        lists: dict[str, list[tuple[int, float]]] = {}
        if mode in ("dense", "hybrid"):
            rows, scores = self._vectors.search(self._query(question), depth, allowed)
            lists["dense"] = list(zip(rows.tolist(), scores.tolist(), strict=True))
        if mode in ("lexical", "hybrid"):
            rows, scores = self._lexical.search(question, depth, allowed)
            lists["lexical"] = list(zip(rows.tolist(), scores.tolist(), strict=True))
        return lists

    def _fused(self, lists: Mapping[str, Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
        weights = {"dense": self.spec.dense_weight, "lexical": self.spec.lexical_weight}
        rankings = {name: [row for row, _ in found] for name, found in lists.items()}
        return fuse(rankings, weights, self.spec.rrf_k)

    def _mask(self, access: frozenset[str]) -> Mask:
        """True for the rows that one of the labels opens."""
        return np.fromiter((not access.isdisjoint(chunk.access) for chunk in self.chunks), np.bool_, len(self.chunks))
