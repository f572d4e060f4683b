"""Retrieval metrics of one question: recall, reciprocal rank and nDCG over document ids, evidence in passages."""

import itertools
import math
import re
from collections.abc import Sequence
from functools import lru_cache

from pydantic import BaseModel, ConfigDict

from evaluation import normalization
from evaluation.normalization import contains_run
from indexes.hybrid import HybridRetriever
from indexes.retriever import MODES
from indexes.types import Passage
from infra.errors import InputError
from models.types import Case

_CSV_ROW = re.compile(r"[^\W\d],\S")
"""A comma that no space follows: fields of a CSV row, not a sentence."""

SUPPORT = 0.5
"""Share of an evidence's word trigrams that a passage must hold to count as that evidence (Ragas' threshold)."""

CUTS = (1, 5, 10)
"""Depths at which recall is reported."""

DEPTH = 50
"""Passages that are ranked for a measure over documents: several of them may belong to one document."""


@lru_cache(maxsize=4096)  # the passages of popular chunks come again and again
def _tokens(text: str) -> list[str]:
    return normalization.tokens(text)


def unique(ranked: Sequence[str]) -> list[str]:
    """The list without repeats, each at its first place: passages of one document count once."""
    return list(dict.fromkeys(ranked))


def recall_at_k(ranked: Sequence[str], relevant: Sequence[str], k: int) -> float:
    """|first k of ranked ∩ relevant| / |relevant|. Raises ValueError without a relevant id."""
    wanted = _wanted(relevant)
    return len(wanted & set(unique(ranked)[:k])) / len(wanted)


def reciprocal_rank(ranked: Sequence[str], relevant: Sequence[str], k: int = 10) -> float:
    """1 / rank of the first relevant id among the first k, 0 if none is there (its mean is MRR@k)."""
    wanted = _wanted(relevant)
    return next((1 / rank for rank, item in enumerate(unique(ranked)[:k], 1) if item in wanted), 0.0)


def ndcg_at_k(ranked: Sequence[str], relevant: Sequence[str], k: int = 10) -> float:
    """DCG / ideal DCG for 0/1 relevance, DCG = Σ over relevant ranks r ≤ k of 1 / log2(r + 1) (Järvelin 2002)."""
    wanted = _wanted(relevant)
    gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(unique(ranked)[:k], 1) if item in wanted)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))


def states(passage: str, evidence: str) -> bool:
    """Whether a passage states an evidence: as one run of words, or all its words in order within one line.

    The second reading finds a table row whose columns the loader has named (`zone: Tarnholt; price: 1.97`) by the row
    as it stands in the file (`Tarnholt,1.97`).
    """
    cells = evidence.split(",") if _CSV_ROW.search(evidence) else [evidence]
    wanted = [token for cell in cells for token in _tokens(cell)]
    if not wanted:
        return False
    return contains_run(_tokens(passage), wanted) or any(
        _in_order(_tokens(line), wanted) for line in passage.split("\n")
    )


def is_table_row(evidence: str) -> bool:
    """Whether an evidence is a row of a table as it stands in a file of Markdown or CSV."""
    return evidence.count("|") > 1 or bool(_CSV_ROW.search(evidence))


def holds_evidence(passage: str, evidence: str) -> bool:
    """Whether a passage states an evidence, or at least half of its word trigrams (a chunk border may cut it)."""
    if states(passage, evidence):
        return True
    inside, wanted = _tokens(passage), _tokens(evidence)
    width = min(3, len(wanted))
    grams = {tuple(wanted[i : i + width]) for i in range(len(wanted) - width + 1)} if width else set()
    present = {tuple(inside[i : i + width]) for i in range(len(inside) - width + 1)}
    return bool(grams) and len(grams & present) / len(grams) >= SUPPORT


def average_precision(relevant: list[bool]) -> float:
    """Mean of precision@i over the ranks i that are relevant; 0 where none is (Ragas context precision)."""
    hits = [rank for rank, hit in enumerate(relevant, 1) if hit]
    return sum(count / rank for count, rank in enumerate(hits, 1)) / len(hits) if hits else 0.0


def context_precision(passages: Sequence[Passage], case: Case) -> float:
    """Ragas' context precision without a model: average precision of the ranked passages, best first.

    A passage is relevant when it holds an evidence of the case (`holds_evidence`, as in the scorer of that name in
    evaluation/grounding.py) or, where the case names none, when its document is one of the case's.
    """
    return average_precision([_is_relevant(passage, case) for passage in passages])


def context_recall(passages: Sequence[Passage], case: Case) -> float:
    """Ragas' context recall without a model: share of the case's evidences that one of the passages holds.

    Where the case names no evidence, the share of its documents that the passages are from. Raises ValueError for a
    case without either.
    """
    if not case.evidence:
        ranked = [passage.chunk.document for passage in passages]
        return recall_at_k(ranked, case.documents, len(ranked))
    texts = [_text(passage) for passage in passages]
    return sum(any(holds_evidence(text, wanted) for text in texts) for wanted in case.evidence) / len(case.evidence)


def within_budget(passages: Sequence[Passage], tokens: int) -> list[Passage]:
    """The first passages that have no more tokens together: what a prompt has room for, whatever the chunks' size."""
    sums = itertools.accumulate(passage.chunk.tokens for passage in passages)
    return [passage for passage, total in zip(passages, sums, strict=True) if total <= tokens]


def evidence_recall_at_k(passages: Sequence[tuple[str, str]], case: Case, k: int) -> float:
    """Share of the case's evidences that one of the first k (document id, passage text) states.

    A passage counts only if its document is one of the case's. Raises ValueError for a case without evidence.
    """
    if not case.evidence:
        raise ValueError(f"case {case.id} names no evidence")
    own = [text for document, text in passages[:k] if document in case.documents]
    return sum(any(states(text, evidence) for text in own) for evidence in case.evidence) / len(case.evidence)


class RetrievalReport(BaseModel):
    """Means over the answerable cases of one retrieval mode."""

    model_config = ConfigDict(frozen=True)

    mode: str
    cases: int
    means: dict[str, float]
    """recall_at_k, mrr_at_10, ndcg_at_10 over documents; context_precision_at_10 and context_recall_at_10 over
    passages; evidence_recall_at_k over the cases that name evidence."""

    def metrics(self) -> dict[str, float]:
        """The means with the number of cases."""
        return {"cases": float(self.cases), **self.means}


def retrieval_scores(passages: Sequence[Passage], case: Case) -> dict[str, float]:
    """All metrics of one answerable case, named as in RetrievalReport; no evidence recall where it names none.

    Raises: ValueError for a case without relevant documents.
    """
    ranked = [passage.chunk.document for passage in passages]
    scores = {f"recall_at_{k}": recall_at_k(ranked, case.documents, k) for k in CUTS}
    scores["mrr_at_10"] = reciprocal_rank(ranked, case.documents)
    scores["ndcg_at_10"] = ndcg_at_k(ranked, case.documents)
    scores["context_precision_at_10"] = context_precision(passages[:10], case)
    scores["context_recall_at_10"] = context_recall(passages[:10], case)
    if case.evidence:
        texts = [(passage.chunk.document, _text(passage)) for passage in passages]
        scores |= {f"evidence_recall_at_{k}": evidence_recall_at_k(texts, case, k) for k in CUTS}
    return scores


def measurable(cases: Sequence[Case]) -> list[Case]:
    """The cases that retrieval is measured with: answerable ones that name relevant documents."""
    return [case for case in cases if case.documents and case.expected == "answer"]


def measure_retrieval(
    retriever: HybridRetriever, cases: Sequence[Case], access: frozenset[str] | None = None
) -> dict[str, RetrievalReport]:
    """Mode → report over the cases that have relevant documents; `access` None = every label of the index.

    Raises: InputError when no case has a relevant document.
    """
    asked = measurable(cases)
    if not asked:
        raise InputError("no case names a relevant document: retrieval cannot be measured")
    labels = retriever.labels if access is None else access
    scores: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for case in asked:
        for mode in MODES:
            scores[mode].append(retrieval_scores(retriever.search(case.question, labels, DEPTH, mode), case))
    return {mode: RetrievalReport(mode=mode, cases=len(asked), means=_means(rows)) for mode, rows in scores.items()}


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _text(passage: Passage) -> str:
    """What of a passage is read: its title and its text."""
    return f"{passage.chunk.title}\n{passage.chunk.text}"


def _is_relevant(passage: Passage, case: Case) -> bool:
    if not case.evidence:
        return passage.chunk.document in case.documents
    return any(holds_evidence(_text(passage), wanted) for wanted in case.evidence)


def _wanted(relevant: Sequence[str]) -> set[str]:
    if not relevant:
        raise ValueError("a question without relevant documents has no retrieval score")
    return set(relevant)


def _in_order(words: Sequence[str], wanted: Sequence[str]) -> bool:
    remaining = iter(words)
    return all(word in remaining for word in wanted)
