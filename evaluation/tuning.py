"""Search for a better retrieval setting: a grid of candidates, halved round by round on more and more questions."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from evaluation.comparison import Paired, compare_slices
from evaluation.retrieval import context_precision, context_recall, retrieval_scores, within_budget
from indexes.build import IndexSpec
from indexes.chunkers.spec import ChunkSpec
from indexes.embedder import EmbedSpec
from indexes.hybrid import WITH_PARENTS, RetrievalSpec
from indexes.rerankers import RerankSpec
from indexes.retriever import Mode
from indexes.types import Passage
from infra.errors import InputError, PolicyError
from infra.settings import Spec
from infra.store import canonical_json
from models.types import Case

CURRENT = "as now"
"""Name of the candidate that changes nothing: always the first."""

"""Patterns that are ways of chunking."""
MEASURED = ("naive", "graph", *WITH_PARENTS)
"""Patterns that find passages without a model's help, so that retrieval alone can be measured."""

Measure = Callable[["Candidate", Sequence[str]], Sequence[float]]
"""(candidate, case ids) → a score a case, higher is better."""


class ListWeights(Spec):
    """Weights of the two lists of a hybrid search."""

    dense: float = Field(ge=0)
    """Weight of the dense list."""
    lexical: float = Field(ge=0)
    """Weight of the lexical list."""


class TuneSpec(Spec):
    """What is searched, and how far. An empty list leaves its part as it is now."""

    chunkings: tuple[dict[str, Any], ...] = ()
    """Ways of chunking: each the fields of section `chunking` that it changes. Every one is indexed anew."""
    embeddings: tuple[dict[str, Any], ...] = ()
    """Encoders: each the fields of section `embedding` that it changes. Each is indexed anew, in every chunking."""
    patterns: tuple[Literal["naive", "graph"], ...] = ()
    """Retrieval patterns. Windows and parents are ways of chunking; patterns that ask the model cannot be measured by
    retrieval alone."""
    modes: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
    """Vectors, words, or both."""
    weights: tuple[ListWeights, ...] = (
        ListWeights(dense=1, lexical=1),
        ListWeights(dense=1, lexical=2),
        ListWeights(dense=2, lexical=1),
    )
    """Weights of the lists of a hybrid search."""
    rerankers: tuple[RerankSpec | None, ...] = ()
    """Ways of reranking; null for none."""
    k: tuple[int, ...] = ()
    """Numbers of passages handed on."""
    metric: str = "context_recall_in_budget"
    """What is maximised: a metric of evaluation/retrieval.py, context_recall_in_budget or context_precision_in_budget.
    Those look at the passages that fit the budget, so that chunks of other sizes can be compared."""
    budget_tokens: int = Field(800, ge=1)
    """Tokens of passages that the model reads."""
    eta: int = Field(3, ge=2, le=10)
    """A round keeps the best 1/eta of the candidates, and the next asks eta times as many questions."""
    least_questions: int = Field(20, ge=1)
    """Fewest questions of a round."""
    most_candidates: int = Field(64, ge=1, le=1000)
    """A larger grid is refused."""
    seed: int = Field(20261120, ge=0)
    """Decides in which order the questions are asked."""


class Indexing(Spec):
    """What an index is made by. Candidates with the same one share it."""

    chunking: ChunkSpec
    embedding: EmbedSpec

    @property
    def name(self) -> str:
        """Tells it from the others of a search."""
        return canonical_json(self.model_dump(mode="json"))


class Candidate(Spec):
    """One setting."""

    name: str
    """What it changes."""
    indexing: Indexing
    search: dict[str, Any]
    """All fields of a RetrievalSpec, as plain data."""

    @model_validator(mode="after")
    def _search_is_valid(self) -> Self:
        RetrievalSpec.model_validate(self.search)
        return self

    @property
    def retrieval(self) -> RetrievalSpec:
        """The search as its spec."""
        return RetrievalSpec.model_validate(self.search)

    def kept_for(self, index: IndexSpec) -> IndexSpec:
        """`index` with all that this search asks of it."""
        search = self.retrieval
        needed = {"token_vectors": search.needs_token_vectors, "graph": search.needs_graph}
        return index.model_copy(update={name: True for name, is_needed in needed.items() if is_needed})

    def proposed(self, index: IndexSpec) -> dict[str, Any]:
        """The sections of a policy file that make this setting; fields that are as usual are left out."""
        sections = {
            "chunking": self.indexing.chunking,
            "embedding": self.indexing.embedding,
            "index": self.kept_for(index),
        }
        plain = {name: spec.model_dump(mode="json", exclude_defaults=True) for name, spec in sections.items()}
        search = self.retrieval.model_dump(mode="json", exclude_defaults=True)
        return {name: fields for name, fields in {**plain, "answering": {"search": search}}.items() if fields}


class RoundRow(Spec):
    """A candidate in a round."""

    candidate: str
    mean: float
    """Mean score over the questions asked so far."""
    kept: bool


class Round(Spec):
    """A round: candidates best first."""

    questions: int
    """Questions that each of them has been asked by its end, those of earlier rounds among them."""
    rows: tuple[RoundRow, ...]


class TuneResult(Spec):
    """The winner and every round's table."""

    winner: Candidate
    rounds: tuple[Round, ...]
    asked: int
    """Questions asked in all (`questions_taken`)."""

    def table(self) -> list[dict[str, Any]]:
        """A row a candidate and round."""
        return [
            {"round": number, "questions": part.questions, **row.model_dump()}
            for number, part in enumerate(self.rounds, 1)
            for row in part.rows
        ]


def candidates(spec: TuneSpec, indexing: Indexing, search: RetrievalSpec) -> list[Candidate]:
    """The grid around the setting of now, which comes first; no setting twice, those with one index in a row.

    Raises: PolicyError naming the candidate whose values do not fit, when the grid is larger than allowed, or when the
    pattern of now is none that can be measured here.
    """
    if search.pattern not in MEASURED:
        raise PolicyError(
            f"tuning: retrieval alone cannot be measured with answering.search.pattern {search.pattern}; "
            f"tune with one of {', '.join(MEASURED)}"
        )
    found: dict[str, Candidate] = {}
    searches = ({}, *_searches(spec, search.mode))
    for parts in itertools.product(({}, *spec.chunkings), ({}, *spec.embeddings), searches):
        candidate = _candidate(indexing, search, *parts)
        found.setdefault(canonical_json([candidate.indexing.name, candidate.search]), candidate)
    if len(found) > spec.most_candidates:
        raise PolicyError(
            f"tuning: {len(found)} candidates, but most_candidates is {spec.most_candidates}; search fewer values"
        )
    return list(found.values())


def _searches(spec: TuneSpec, mode: str) -> Iterator[dict[str, Any]]:
    """What each search of the grid changes. Weights count where two lists are fused."""
    weights = [{"dense_weight": pair.dense, "lexical_weight": pair.lexical} for pair in spec.weights]
    axes: list[list[dict[str, Any]]] = [
        [{"pattern": name} for name in spec.patterns],
        [{"mode": name} for name in spec.modes],
        [{"rerank": kind and kind.model_dump(mode="json")} for kind in spec.rerankers],
        [{"k": number} for number in spec.k],
    ]
    for parts in itertools.product(*(axis or [{}] for axis in axes)):
        changes = {name: value for part in parts for name, value in part.items()}
        is_fused = changes.get("mode", mode) == "hybrid"
        for pair in weights if is_fused and weights else [{}]:
            yield {**changes, **pair}


Changes = Mapping[str, Any]


def _candidate(
    indexing: Indexing, search: RetrievalSpec, chunking: Changes, embedding: Changes, searching: Changes
) -> Candidate:
    """The setting of now with some fields of its three parts changed."""
    parts = [(indexing.chunking, chunking), (indexing.embedding, embedding), (search, searching)]
    old = [part.model_dump(mode="json") for part, _ in parts]
    told = [
        f"{name}={_shown(value)}"
        for before, (_, changes) in zip(old, parts, strict=True)
        for name, value in changes.items()
        if before.get(name) != value
    ]
    name = ", ".join(told) or CURRENT
    try:
        new = [{**before, **changes} for before, (_, changes) in zip(old, parts, strict=True)]
        made_by = Indexing.model_validate({"chunking": new[0], "embedding": new[1]})
        if new[2]["pattern"] in WITH_PARENTS:  # says how chunks were made, so it follows them
            strategy = made_by.chunking.strategy
            new[2]["pattern"] = strategy if strategy in WITH_PARENTS else "naive"
        return Candidate(
            name=name, indexing=made_by, search=RetrievalSpec.model_validate(new[2]).model_dump(mode="json")
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PolicyError(f"tuning: candidate {name!r}: {place}: {first['msg']}") from error


def _shown(value: object) -> str:
    if isinstance(value, Mapping):  # a reranker: its kind, and what is not as usual
        changed = RerankSpec.model_validate(value).model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
        return " ".join([value["kind"], *(f"{name} {item}" for name, item in changed.items())])
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def indexings(found: Sequence[Candidate]) -> list[Indexing]:
    """What the indexes of the candidates are made by, each once, in their order."""
    return list(dict.fromkeys(candidate.indexing for candidate in found))


def sample_sizes(number: int, questions: int, spec: TuneSpec) -> list[int]:
    """Questions by the end of each round: the last asks them all, each one before it 1/eta of the next."""
    rounds = 1
    while (number := math.ceil(number / spec.eta)) > 1:
        rounds += 1
    wanted = (math.ceil(questions / spec.eta ** (rounds - 1 - done)) for done in range(rounds))
    return [min(questions, max(spec.least_questions, size)) for size in wanted]


def questions_taken(number: int, questions: int, spec: TuneSpec) -> int:
    """Questions that halving asks in all; the whole grid takes candidates × questions."""
    taken = before = 0
    for size in sample_sizes(number, questions, spec):
        taken += number * (size - before)
        number, before = math.ceil(number / spec.eta), size
    return taken


def halving(found: Sequence[Candidate], questions: Sequence[str], measure: Measure, spec: TuneSpec) -> TuneResult:
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016): weak candidates are dropped after few questions.

    Every round asks the candidates that are left the same questions, those of the rounds before among them, and keeps
    the best 1/eta by the mean; equal means keep the candidates' order, so that the setting of now loses only to a
    better one. No question is put to a candidate twice. Raises InputError without a question.
    """
    if not found or not questions:
        raise InputError("tuning needs candidates and answerable validation cases; check `cases` in the policy")
    order = [questions[place] for place in np.random.default_rng(spec.seed).permutation(len(questions))]
    scores: list[list[float]] = [[] for _ in found]
    left, rounds, before = list(range(len(found))), [], 0
    sizes = sample_sizes(len(found), len(order), spec)
    for size in sizes:
        for number in left:
            scores[number] += measure(found[number], order[before:size])
        means = {number: math.fsum(scores[number]) / size for number in left}
        ranked = sorted(left, key=lambda number: (-means[number], number))
        left = sorted(ranked[: math.ceil(len(ranked) / spec.eta)])
        rows = [RoundRow(candidate=found[one].name, mean=means[one], kept=one in left) for one in ranked]
        rounds.append(Round(questions=size, rows=tuple(rows)))
        before = size
    assert len(left) == 1, "as many rounds as the candidates take to become one"
    return TuneResult(winner=found[left[0]], rounds=tuple(rounds), asked=sum(len(one) for one in scores))


def tuning_scores(passages: Sequence[Passage], case: Case, budget_tokens: int) -> dict[str, float]:
    """`retrieval_scores`, and precision and recall of the context that a model would read within its budget."""
    read = within_budget(passages, budget_tokens)
    return {
        **retrieval_scores(passages, case),
        "context_precision_in_budget": context_precision(read, case),
        "context_recall_in_budget": context_recall(read, case),
    }


def proof(
    current: Mapping[str, Mapping[str, float]],
    winner: Mapping[str, Mapping[str, float]],
    cases: Sequence[Case],
    metric: str,
    formats: Mapping[str, str],
) -> list[Paired]:
    """The winner against the setting of now on the gate cases: overall first (its verdict counts), then in slices.

    The winner was chosen on validation cases, where it looks better than it is: it was the best of many there. The
    gate cases have seen no candidate, and only the winner is put to them, once; so their interval needs no correction.
    Whoever changes the search because of this result and runs it again has used them up: tune on new cases then.
    Raises InputError as `compare_slices` does.
    """
    return compare_slices(current, winner, cases, metric, formats)
