"""Candidates from a spec, halving on nested samples, and a budget that makes chunks of other sizes comparable."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.tuning import (
    CURRENT,
    Candidate,
    Indexing,
    ListWeights,
    TuneSpec,
    candidates,
    halving,
    indexings,
    questions_taken,
    sample_sizes,
    tuning_scores,
)
from indexes.build import IndexSpec
from indexes.chunkers.spec import ChunkSpec
from indexes.embedder import EmbedSpec
from indexes.hybrid import RetrievalSpec
from indexes.rerankers import RerankSpec
from indexes.types import Chunk, Passage
from infra.errors import InputError, PolicyError
from models.types import Case

NOW = Indexing(chunking=ChunkSpec(), embedding=EmbedSpec())
NOTHING = TuneSpec(modes=(), weights=())
CASES = [f"c{number}" for number in range(90)]


def grid(number: int) -> list[Candidate]:
    return candidates(NOTHING.model_copy(update={"k": tuple(range(1, number))}), NOW, RetrievalSpec(k=200))


def test_the_grid_is_named_by_what_changes_and_holds_nothing_twice() -> None:
    spec = TuneSpec(
        chunkings=({"max_tokens": 100}, {"max_tokens": 500}), k=(8, 20),
        weights=(ListWeights(dense=1, lexical=1), ListWeights(dense=1, lexical=2.5)),
    )  # fmt: skip
    found = candidates(spec, NOW, RetrievalSpec())
    assert [one.name for one in found[:8]] == [
        CURRENT, "mode=dense", "mode=dense, k=20", "mode=lexical", "mode=lexical, k=20", "lexical_weight=2.5", "k=20",
        "k=20, lexical_weight=2.5",
    ]  # fmt: skip
    assert [one.name for one in found[8:]] == [
        f"max_tokens=100, {one.name}".removesuffix(f", {CURRENT}") for one in found[:8]
    ]
    assert [one.chunking.max_tokens for one in indexings(found)] == [500, 100]
    assert found[0].retrieval == RetrievalSpec()
    assert found[5].retrieval.lexical_weight == 2.5
    assert candidates(NOTHING, NOW, RetrievalSpec()) == found[:1]


def test_a_proposal_has_all_that_the_setting_asks_for() -> None:
    rerankers = (RerankSpec(kind="late-interaction", weight=2.0), RerankSpec(kind="cross-encoder", model="reader"))
    spec = NOTHING.model_copy(update={"rerankers": rerankers, "patterns": ("graph",)})
    _, late, crossed = candidates(spec, NOW, RetrievalSpec(k=20))
    assert late.name == "pattern=graph, rerank=late-interaction weight 2.0"
    assert crossed.name == "pattern=graph, rerank=cross-encoder model reader"
    assert late.proposed(IndexSpec(m=16)) == {
        "index": {"m": 16, "token_vectors": True, "graph": True},
        "answering": {"search": {"pattern": "graph", "k": 20, "rerank": {"kind": "late-interaction", "weight": 2.0}}},
    }
    assert crossed.kept_for(IndexSpec()) == IndexSpec(graph=True)


def test_every_encoder_meets_every_chunking() -> None:
    spec = NOTHING.model_copy(
        update={"chunkings": ({"max_tokens": 100},), "embeddings": ({"query_prompt": "query: "},)}
    )
    found = candidates(spec, NOW, RetrievalSpec())
    assert [one.name for one in found] == [
        CURRENT, "query_prompt=query: ", "max_tokens=100", "max_tokens=100, query_prompt=query: ",
    ]  # fmt: skip
    assert [one.indexing for one in found] == indexings(found)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"chunkings": ({"max_tokens": 1},)}, "candidate 'max_tokens=1': chunking.max_tokens: "),
        ({"chunkings": ({"strateggy": "fixed"},)}, "candidate 'strateggy=fixed': chunking.strateggy: Extra inputs"),
        ({"k": (8, 900)}, "candidate 'k=900': k: Input should be less than"),
        ({"k": (1, 2, 3), "most_candidates": 3}, "4 candidates, but most_candidates is 3; search fewer values"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, object], says: str) -> None:
    spec = TuneSpec.model_validate({"modes": (), "weights": (), **values})
    with pytest.raises(PolicyError, match=r"^tuning: ") as raised:
        candidates(spec, NOW, RetrievalSpec())
    assert says in str(raised.value)


def test_a_pattern_that_is_a_way_of_chunking_follows_it() -> None:
    spec = NOTHING.model_copy(update={"chunkings": ({"strategy": "sentence-window"}, {"strategy": "fixed"})})
    parents = Indexing(chunking=ChunkSpec(strategy="parent-child"), embedding=EmbedSpec())
    found = candidates(spec, parents, RetrievalSpec(pattern="parent-child"))
    assert [one.retrieval.pattern for one in found] == ["parent-child", "sentence-window", "naive"]


@pytest.mark.parametrize("pattern", ["hyde", "self-query", "multi-query", "corrective", "agentic"])
def test_a_pattern_that_retrieval_alone_does_not_show(pattern: str) -> None:
    with pytest.raises(PolicyError, match=f"{pattern}; tune with one of naive, graph"):
        candidates(NOTHING, NOW, RetrievalSpec.model_validate({"pattern": pattern}))


def test_rounds_keep_a_third_on_three_times_the_questions() -> None:
    found, asked = grid(9), []

    def measure(candidate: Candidate, cases: Sequence[str]) -> list[float]:
        asked.append((candidate.name, list(cases)))
        return [candidate.retrieval.k % 7 / 10 for _ in cases]

    result = halving(found, CASES, measure, TuneSpec(least_questions=1))
    assert [(one.questions, len(one.rows)) for one in result.rounds] == [(30, 9), (90, 3)]
    assert result.winner.name == "k=6"
    assert [row.candidate for row in result.rounds[0].rows if row.kept] == ["k=6", "k=5", CURRENT]
    assert [row.candidate for row in result.rounds[1].rows if row.kept] == ["k=6"]
    assert [row.mean for row in result.rounds[1].rows] == pytest.approx([0.6, 0.5, 0.4])
    assert result.asked == questions_taken(9, 90, TuneSpec(least_questions=1)) == 9 * 30 + 3 * 60
    assert result.table()[9] == {
        "round": 2, "questions": 90, "candidate": "k=6", "mean": pytest.approx(0.6), "kept": True,
    }  # fmt: skip
    of_winner = [cases for name, cases in asked if name == "k=6"]
    assert sorted(case for cases in of_winner for case in cases) == sorted(CASES), "each question once"
    assert {tuple(cases) for _, cases in asked} == {tuple(cases) for cases in of_winner}, "all the same questions"


def test_equal_scores_leave_what_is_there() -> None:
    result = halving(grid(9), CASES, lambda _, cases: [0.5] * len(cases), TuneSpec())
    assert result.winner.name == CURRENT


def test_one_candidate_is_measured_and_wins() -> None:
    result = halving(grid(1), CASES[:5], lambda _, cases: [1.0] * len(cases), TuneSpec())
    assert (result.winner.name, [one.questions for one in result.rounds]) == (CURRENT, [5])


def test_without_questions() -> None:
    with pytest.raises(InputError, match="answerable validation cases"):
        halving(grid(2), [], lambda _, cases: [], TuneSpec())


@given(
    number=st.integers(1, 200), questions=st.integers(1, 500), eta=st.integers(2, 10), least=st.integers(1, 60)
)  # fmt: skip
def test_samples_grow_to_all_questions(number: int, questions: int, eta: int, least: int) -> None:
    sizes = sample_sizes(number, questions, TuneSpec(eta=eta, least_questions=least))
    assert sizes == sorted(sizes)
    assert sizes[-1] == questions
    assert min(sizes) >= min(least, questions)
    for _ in sizes:
        number = math.ceil(number / eta)
    assert number == 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 5))
def test_the_best_wins_where_scores_do_not_vary(quality: list[float], seed: int) -> None:
    found = grid(len(quality))
    by_name = {one.name: value for one, value in zip(found, quality, strict=True)}
    result = halving(found, CASES, lambda one, cases: [by_name[one.name]] * len(cases), TuneSpec(seed=seed))
    assert by_name[result.winner.name] == pytest.approx(max(quality), abs=1e-12)


def test_scores_within_a_budget() -> None:
    case = Case(id="1", question="q", answer="x", documents=("b",), evidence=("the fee is one euro",))
    found = [
        Passage(chunk=Chunk(id=id, document=id, title="", text=text, start=0, end=1, tokens=60), score=1.0)
        for id, text in (("a", "no"), ("b", "the fee is one euro"))
    ]
    wide, narrow = tuning_scores(found, case, 120), tuning_scores(found, case, 119)
    assert (wide["context_recall_in_budget"], wide["context_precision_in_budget"]) == (1, 0.5)
    assert (narrow["context_recall_in_budget"], narrow["context_precision_in_budget"]) == (0, 0)
    assert wide["recall_at_5"] == narrow["recall_at_5"] == 1
