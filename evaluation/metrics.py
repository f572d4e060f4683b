"""The metrics of an evaluation: the standard scorers, their common version, and scores summed up with intervals."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from evaluation.correctness import (
    AnswerCorrect,
    AnswerRelevance,
    Bleu,
    ExactMatch,
    RefusalCorrect,
    RougeL,
    StringSimilarity,
    TokenF1,
)
from evaluation.grounding import CitationPresent, CitationValid, ContextPrecision, ContextRecall, Faithfulness
from evaluation.intervals import mean_interval
from evaluation.safety import Cost, Error, ForbiddenShown, Latency, PiiLeak, Tokens
from evaluation.scorer import Scorer, judge_version, score_all
from evaluation.statistics import Floats, cluster_codes
from evaluation.types import Interval, Score
from indexes.types import Embedder
from models.types import Answer

__all__ = ["JUDGE_VERSION", "case_values", "judge_version", "score_all", "standard_scorers", "table", "vector"]

PLAIN: tuple[type[Scorer], ...] = (
    AnswerCorrect,
    ExactMatch,
    TokenF1,
    RefusalCorrect,
    CitationPresent,
    CitationValid,
    Faithfulness,
    ContextPrecision,
    ContextRecall,
    ForbiddenShown,
    Error,
    Latency,
    Tokens,
)
"""Scorers that need nothing but the observation."""

RAGAS: tuple[type[Scorer], ...] = (RougeL, Bleu, StringSimilarity)
"""Ragas' text metrics: importing Ragas takes seconds, so a caller may leave them out."""

STANDARD: tuple[type[Scorer], ...] = (*PLAIN, AnswerRelevance, PiiLeak, Cost, *RAGAS)

JUDGE_VERSION = judge_version(STANDARD)
"""Digest over names and versions of the standard scorers: part of every release."""


def standard_scorers(
    embedder: Embedder | None = None,
    find_pii: Callable[[str], list[str]] | None = None,
    price: Callable[[Answer], float] | None = None,
    ragas: bool = True,
) -> tuple[Scorer, ...]:
    """The standard scorers, without those whose part is not given."""
    scorers: list[Scorer] = [scorer() for scorer in PLAIN]
    if embedder is not None:
        scorers.append(AnswerRelevance(embedder))
    if find_pii is not None:
        scorers.append(PiiLeak(find_pii))
    if price is not None:
        scorers.append(Cost(price))
    return (*scorers, *(scorer() for scorer in (RAGAS if ragas else ())))


def case_values(scores: Iterable[Score], metric: str) -> dict[str, float]:
    """Case id → value of one metric, repeats of a case averaged first, ascending by case id.

    Failed scores and those that do not apply are left out; the gate counts them.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for score in scores:
        if score.metric == metric and score.value is not None:
            found[score.case].append(score.value)
    return {case: sum(values) / len(values) for case, values in sorted(found.items())}


def vector(values: Mapping[str, float]) -> Floats:
    """The values as an array, in the mapping's order."""
    return np.array(list(values.values()), dtype=np.float64)


def table(scores: Iterable[Score], clusters: Mapping[str, str]) -> dict[str, Interval]:
    """Metric → mean over cases with a 95 % interval that respects clusters (`clusters_of`), in first-seen order.

    A metric that applied to no case is left out.
    """
    kept = list(scores)
    names = dict.fromkeys(score.metric for score in kept)
    by_metric = {name: case_values(kept, name) for name in names}
    return {
        name: mean_interval(vector(values), cluster_codes(list(values), clusters))
        for name, values in by_metric.items()
        if values
    }
