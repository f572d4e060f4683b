"""The retriever: dense and lexical lists over what the caller may see, fused by reciprocal rank and put in order."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from indexes.filters import Filters, mask
from indexes.graph import EntityGraph, GraphSpec
from indexes.lexical import LexicalIndex
from indexes.rerankers import Reranker, RerankSpec
from indexes.retriever import MODES, Mode, Probe
from indexes.types import Chunk, Embedder, Passage, Vectors
from indexes.vectors.port import Mask, Rows, VectorIndex
from infra.errors import InputError
from infra.settings import Spec

PatternName = Literal[
    "naive",
    "sentence-window",
    "parent-child",
    "hyde",
    "self-query",
    "multi-query",
    "corrective",
    "agentic",
    "graph",
]
WITH_PARENTS: tuple[PatternName, ...] = ("parent-child", "sentence-window")
"""Patterns that show more than was matched, by a chunking of the same name."""
Ranked = list[tuple[int, float]]
"""Rows and scores, best first."""


class RetrievalSpec(Spec):
    """How passages are found for a question."""

    pattern: PatternName = "naive"
    """The strategy around the search. naive asks once; sentence-window and parent-child do so in an index that was
    chunked that way. hyde, multi-query, corrective and agentic let the model help. self-query takes filters from the
    question. graph adds passages that name the same things as the best ones."""
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
    filters: Filters = Filters()
    """Conditions that every passage meets."""
    rerank: RerankSpec | None = None
    """How the best candidates are put in order again; null leaves them as fused."""
    graph: GraphSpec = GraphSpec()
    """Pattern graph: what links passages."""
    graph_seeds: int = Field(3, ge=1, le=100)
    """Pattern graph: best passages whose neighbours join the candidates."""
    graph_weight: float = Field(0.1, ge=0)
    """Pattern graph: weight of the list of neighbours: they are for a reranker or the reader, not the first place."""

    @property
    def needs_token_vectors(self) -> bool:
        """Whether the index has to keep a vector of every token."""
        return self.rerank is not None and self.rerank.kind == "late-interaction"

    @property
    def needs_graph(self) -> bool:
        """Whether the index has to keep the graph of its chunks."""
        return self.pattern == "graph"

    @property
    def needs_parents(self) -> bool:
        """Whether the chunking has to be the one of the pattern's name."""
        return self.pattern in WITH_PARENTS

    @model_validator(mode="after")
    def _something_counts(self) -> "RetrievalSpec":
        if self.dense_weight + self.lexical_weight == 0:
            raise ValueError("one of dense_weight and lexical_weight must be above 0")
        return self


def fuse(rankings: Mapping[str, Sequence[int]], weights: Mapping[str, float], rrf_k: int) -> Ranked:
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
        reranker: Reranker | None = None,
        graph: EntityGraph | None = None,
    ) -> None:
        """Row i of every part belongs to chunks[i]; `reranker` is the one that spec.rerank names."""
        self.chunks = list(chunks)
        self.spec = spec
        self._vectors = vectors
        self._lexical = lexical
        self._reranker = reranker
        self._graph = graph
        self.labels = frozenset(label for chunk in self.chunks for label in chunk.access)
        """Every access label of the index."""
        self.has_parents = any(chunk.parent_start is not None for chunk in self.chunks)
        """Whether chunks are shown as their parents or windows."""
        self._query = lru_cache(maxsize=1024)(embedder.query)
        self._allowed = lru_cache(maxsize=256)(partial(mask, self.chunks))

    def search(
        self,
        question: str,
        access: frozenset[str],
        k: int,
        mode: Mode | None = None,
        *,
        filters: Filters | None = None,
        probes: Sequence[Probe] = (),
        neighbours: bool = False,
    ) -> list[Passage]:
        """See Retriever. A chunk with a parent or window comes as that (`Chunk.shown`), once: what a better passage
        shows already is left out."""
        if not question.strip():
            raise InputError("the question is empty")
        if mode is not None and mode not in MODES:
            raise InputError(f"retrieval mode {mode!r} is unknown: one of {', '.join(MODES)}")
        allowed = self._allowed(access & self.labels, self.spec.filters)
        if filters is not None:
            allowed = allowed & self._allowed(access & self.labels, filters)
        if k < 1 or not allowed.any():
            return []
        closing = None if allowed.all() else allowed  # indexes are faster without a mask
        found = self._found([Probe(question, mode or self.spec.mode), *probes], k, closing)
        if neighbours:
            found.add("graph", self._neighbours(found.merged(), allowed), self.spec.graph_weight)
        if mode is None and self._reranker is not None and self.spec.rerank is not None:
            ranked = self._reranked(self._reranker, self.spec.rerank, question, found)
        else:
            ranked = found.merged()
        return [
            Passage(chunk=self.chunks[row].shown(), score=score, ranks=found.ranks(row))
            for row, score in self._once(ranked, k)
        ]

    def _once(self, ranked: Ranked, k: int) -> Ranked:
        """The best `k` rows that no better one shows in its parent or window."""
        if not self.has_parents:
            return ranked[:k]
        kept: Ranked = []
        for row, score in ranked:
            if len(kept) == k:
                break
            if not any(self.chunks[better].shows(self.chunks[row]) for better, _ in kept):
                kept.append((row, score))
        return kept

    def _found(self, probes: Sequence[Probe], k: int, allowed: Mask | None) -> "_Lists":
        """The lists of every probe; those of further ones have a number behind their name."""
        lists, depth = _Lists(self.spec.rrf_k), self._depth(probes, k)
        for number, probe in enumerate(probes, 1):
            behind = f" {number}" if number > 1 else ""
            if probe.mode != "lexical":
                found = self._vectors.search(self._query(probe.text), depth, allowed)
                lists.add(f"dense{behind}", _pairs(*found), probe.weight * self.spec.dense_weight)
            if probe.mode != "dense":
                found = self._lexical.search(probe.text, depth, allowed)
                lists.add(f"lexical{behind}", _pairs(*found), probe.weight * self.spec.lexical_weight)
        return lists

    def _depth(self, probes: Sequence[Probe], k: int) -> int:
        """Length of each list: of one list that is taken as it is, no more than asked for."""
        is_plain = len(probes) == 1 and probes[0].mode != "hybrid" and not self.has_parents
        if is_plain and self.spec.rerank is None and self._graph is None:
            return k
        return max(k, self.spec.candidates)

    def _neighbours(self, ranked: Ranked, allowed: Mask) -> Ranked:
        """Passages linked to the best ones, most strongly linked first."""
        assert self._graph is not None, "asked for neighbours of an index that was loaded without its graph"
        seeds = [row for row, _ in ranked[: self.spec.graph_seeds]]
        return self._graph.neighbours(seeds, allowed, self.spec.candidates)

    def _reranked(self, reranker: Reranker, spec: RerankSpec, question: str, found: "_Lists") -> Ranked:
        """The best candidates in the reranker's order, or in one fused with theirs; the others behind them."""
        ranked = found.merged()
        best, others = ranked[: spec.candidates], ranked[spec.candidates :]
        rows = [row for row, _ in best]
        scores = reranker.scores(question, rows, [self.chunks[row].embedding_text for row in rows])
        order = np.argsort(-scores, kind="stable")
        again = [(rows[place], float(scores[place])) for place in order]
        found.add("rerank", again, spec.weight or 0.0)
        if spec.weight is not None:
            rankings = {"first": rows, "rerank": [row for row, _ in again]}
            again = fuse(rankings, {"first": 1.0, "rerank": spec.weight}, self.spec.rrf_k)
        return [*again, *others]


class _Lists:
    """Ranked lists by name, with their weights in the fusion."""

    def __init__(self, rrf_k: int) -> None:
        self._rrf_k = rrf_k
        self._weights: dict[str, float] = {}
        self._ranked: dict[str, Ranked] = {}
        self._places: dict[str, dict[int, int]] = {}

    def add(self, name: str, ranked: Ranked, weight: float) -> None:
        """One more list, best first."""
        self._ranked[name], self._weights[name] = ranked, weight
        self._places[name] = {row: rank for rank, (row, _) in enumerate(ranked, 1)}

    def merged(self) -> Ranked:
        """One list as it is, several fused."""
        if len(self._ranked) == 1:
            return next(iter(self._ranked.values()))
        return fuse(
            {name: [row for row, _ in found] for name, found in self._ranked.items()}, self._weights, self._rrf_k
        )

    def ranks(self, row: int) -> dict[str, int]:
        """The row's place in each list that has it, from 1."""
        return {name: places[row] for name, places in self._places.items() if row in places}


def _pairs(rows: Rows, scores: Vectors) -> Ranked:
    return list(zip(rows.tolist(), scores.tolist(), strict=True))
